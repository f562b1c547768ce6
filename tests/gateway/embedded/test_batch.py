"""What goes into one transaction. What its callers are told is proved in test_commits."""

from __future__ import annotations

import asyncio

import pytest

from gateway.embedded.append import Append
from gateway.embedded.batch import Batch, Round
from gateway.embedded.row import record_id
from gateway.embedded.topic import Partition, Topic
from gateway.message import Headers, Message


@pytest.fixture
def partition():
    topic = Topic("t", [])
    topic.partitions.append(Partition(1, topic, 0, start=2, next=5, upto=50))
    return topic.partitions[0]


def appended(partition, *messages):
    done = asyncio.get_running_loop().create_future()
    return Append([(partition, message, 10) for message in messages], 10 * len(messages), done, several=True)


async def test_records_get_the_next_offsets_and_a_topic_is_told_once(partition):
    work = Round()
    for body in (b"a", b"b"):
        work.take(appended(partition, Message(body, key=b"k", headers=Headers((("h", "1"),)))), 7)
    assert [(1, "t", 0)] == work.batch.partitions
    assert [(record_id(1, 5), 7, 60, b"k", b"a", '[["h","1"]]'), (record_id(1, 6), 7, 70, b"k", b"b", '[["h","1"]]')] == (
        work.batch.rows
    )
    assert 20 == work.size


async def test_nothing_counts_before_it_is_on_the_disk(partition):
    work, waiting = Round(), appended(partition, Message(b"a"), Message(b"b"))
    work.take(waiting, 7)
    work.note({}, {partition: [2, 3]})
    assert (2, 5, 50, False) == (partition.start, partition.next, partition.upto, partition.topic.stored)
    assert not waiting.done.done()
    work.succeed({1: 4})
    assert (4, 7, 70, True) == (partition.start, partition.next, partition.upto, partition.topic.stored)
    assert [5, 6] == [place.offset for place in waiting.done.result()]


async def test_a_partition_that_records_go_from_ends_where_its_next_one_will_be(partition):
    work = Round()
    work.take(appended(partition, Message(b"a")), 7)
    work.note({("c", partition): 4}, {partition: [2, 5]})
    assert ([("c", 1, 4)], [record_id(1, 2), record_id(1, 5)], {1: 6}) == (
        work.batch.progress,
        work.batch.forgotten,
        work.batch.ends,
    )


def test_of_what_holds_nothing_there_is_nothing_to_write():
    assert not Batch(partitions=[(1, "t", 0)])
    assert Batch(progress=[("c", 1, 4)])
