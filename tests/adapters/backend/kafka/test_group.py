"""Members of consumer groups against a real broker: who has what, and what is committed of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import RequestTimedOutError

from adapters.backend.kafka import Config, group
from gateway.delivery import DROPPED
from gateway.message import Message
from gateway.port import Record, Subscription
from tests.contract.log import PATIENCE_S, Seen, fill, soon, trying


def config(bootstrap: str, **fields) -> Config:
    return Config(kind="kafka", bootstrap=bootstrap, **fields)


@pytest.fixture
async def log(kafka):
    async with config(kafka).build() as backend:
        yield backend


async def until(true: Callable[[], bool]) -> None:
    """Look again and again, for what sends no event."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_group_waits_for_a_topic_that_is_not_there_and_names_it(log, new_topic, caplog):
    topic = await new_topic()
    subscription = Subscription((topic, f"{topic}-none"), f"{topic}-g")
    async with log.consuming(subscription, Seen()):
        await until(lambda: f"BackendError('{topic}-none: there is no such topic')" in caplog.text)


async def test_members_of_a_group_share_the_partitions_and_lose_nothing(log, kafka, new_topic):
    topic = await new_topic(partitions=4)
    subscription = Subscription((topic,), f"{topic}-g")
    await asyncio.gather(*(log.append(topic, Message(b"%d" % number, key=b"%d" % number), soon()) for number in range(200)))
    seen = [Seen(), Seen()]

    async def slowly(record: Record) -> None:
        await asyncio.sleep(0.05)
        seen[0].add(record)

    async with log.consuming(subscription, trying(slowly)):
        await seen[0].reach(10)
        async with config(kafka).build() as other, other.consuming(subscription, seen[1]):
            await seen[1].reach(1)
            await until(lambda: len(seen[0].records) + len(seen[1].records) >= 200)
    everyone = [record.body for one in seen for record in one.records]
    assert sorted(b"%d" % number for number in range(200)) == sorted(everyone)


async def test_a_member_that_dies_leaves_what_it_did_not_finish_to_the_next(kafka, log, new_topic):
    topic = await new_topic()
    await fill(log, topic, 3)
    subscription = Subscription((topic,), f"{topic}-g")
    reached = asyncio.Event()
    first = []

    async def stuck(record: Record) -> None:
        first.append(record.offset)
        if record.offset == 1:
            reached.set()
            await asyncio.Event().wait()

    async with config(kafka, stop_timeout=0.1).build() as dying, dying.consuming(subscription, trying(stuck)):
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
    assert [0, 1] == first
    seen = Seen()
    async with log.consuming(subscription, seen):
        await seen.reach(2)
    assert [1, 2] == [record.offset for record in seen.records]


def parts(member) -> set[int]:
    """The partitions that a member has now."""
    consumer = member._consumer
    return set() if consumer is None else {one.partition for one in consumer.assignment()}


async def until_shared(members, counts) -> None:
    """Wait until the members have so many partitions each, in any order, and none has been told otherwise for a moment."""
    for _ in range(3):
        await until(lambda: sorted(len(parts(member)) for member in members) == sorted(counts))
        await asyncio.sleep(0.2)


async def test_a_member_that_comes_or_goes_moves_as_few_partitions_as_can_be(kafka, new_topic):
    topic = await new_topic(partitions=6)
    subscription = Subscription((topic,), f"{topic}-g")
    seen = Seen()
    async with (
        config(kafka).build() as one,
        config(kafka).build() as other,
        config(kafka).build() as third,
        one.consuming(subscription, seen) as first,
        other.consuming(subscription, seen) as second,
    ):
        await until_shared([first, second], [3, 3])
        before = parts(first), parts(second)
        async with third.consuming(subscription, seen) as late:
            await until_shared([first, second, late], [2, 2, 2])
            assert parts(first) < before[0]
            assert parts(second) < before[1]
        await until_shared([first, second], [3, 3])
        assert len(parts(first) & before[0]) >= 2
        assert len(parts(second) & before[1]) >= 2


async def test_members_of_one_process_do_not_take_what_another_has_had_for_theirs(log, new_topic):
    """The library keeps what a member had by class, for all members of the process."""
    topics = [await new_topic(partitions=4), await new_topic(partitions=4)]
    seen = Seen()
    async with (
        log.consuming(Subscription((topics[0],), f"{topics[0]}-g"), seen) as one,
        log.consuming(Subscription((topics[1],), f"{topics[1]}-g"), seen) as other,
    ):
        await until_shared([one, other], [4, 4])
        assert {topics[0]} == {part.topic for part in one._sticky.member_assignment}
        assert {topics[1]} == {part.topic for part in other._sticky.member_assignment}


async def test_a_member_with_a_name_that_is_back_in_time_keeps_its_partitions_and_disturbs_nobody(kafka, log, new_topic):
    topic = await new_topic(partitions=4)
    subscription = Subscription((topic,), f"{topic}-g", instance="one", session=30)
    named = replace(subscription, instance="two")
    seen, again = Seen(), Seen()
    async with log.consuming(subscription, seen) as staying:
        async with config(kafka).build() as other, other.consuming(named, seen) as leaving:
            await until_shared([staying, leaving], [2, 2])
            had, term = parts(leaving), staying._term
        for number in range(40):
            await log.append(topic, Message(b"%d" % number, key=b"%d" % number), soon())
        async with config(kafka).build() as other, other.consuming(named, again) as back:
            await until_shared([back], [2])
            await until(lambda: len(seen.records) + len(again.records) >= 40)
            assert had == parts(back)
        assert term is staying._term
    assert had == {record.partition for record in again.records}
    assert 40 == len(seen.records) + len(again.records)


async def test_what_is_in_flight_of_a_partition_that_is_taken_away_is_not_committed(kafka, log, new_topic, monkeypatch):
    monkeypatch.setattr(group, "GRACE_S", 0.2)
    topic = await new_topic(partitions=2)
    subscription = Subscription((topic,), f"{topic}-g", order="none", parallel=10)
    for number in range(20):
        await log.append(topic, Message(b"%d" % number), soon(), partition=number % 2)
    stuck, seen, other = Seen(), Seen(), Seen()
    freed = asyncio.Event()

    async def deliver(record: Record) -> None:
        if int(record.body) < 4 and not freed.is_set():
            stuck.add(record)
            await asyncio.Event().wait()
        seen.add(record)

    async with log.consuming(subscription, trying(deliver)):
        await stuck.reach(4)
        await seen.reach(16)
        freed.set()
        async with config(kafka).build() as joining, joining.consuming(subscription, other):
            # What is done with behind them is not committed by its offset, but said with it, and does not come again.
            await until(lambda: len(seen.records) + len(other.records) >= 16 + 4)
            await log.append(topic, Message(b"20"), soon(), partition=0)
            await log.append(topic, Message(b"21"), soon(), partition=1)
            await until(lambda: len(seen.records) + len(other.records) >= 16 + 4 + 2)
    again = sorted(int(record.body) for record in (*seen.records[16:], *other.records))
    assert [0, 1, 2, 3, 20, 21] == again


async def test_a_record_that_waits_to_be_tried_again_does_not_hold_up_a_rebalance(kafka, log, new_topic, monkeypatch):
    monkeypatch.setattr(group, "GRACE_S", 3600)
    topic = await new_topic(partitions=2)
    subscription = Subscription((topic,), f"{topic}-g")
    for partition in range(2):
        await log.append(topic, Message(b"x"), soon(), partition=partition)
    waiting = Seen()

    async def deliver(record: Record, turn) -> None:
        await waiting(record, turn)
        await asyncio.Event().wait()

    seen = Seen()
    async with log.consuming(subscription, deliver):
        await waiting.reach(2)
        async with config(kafka).build() as joining, joining.consuming(subscription, seen):
            assert [b"x"] == await seen.reach(1)


async def test_order_per_key_is_kept_while_members_come_and_go(kafka, log, new_topic):
    topic = await new_topic(partitions=4)
    subscription = Subscription((topic,), f"{topic}-g", order="key", parallel=8)
    keys, each = 20, 60
    first: dict[bytes, list[int]] = {b"%d" % key: [] for key in range(keys)}
    delivered = 0

    async def deliver(record: Record) -> None:
        nonlocal delivered
        await asyncio.sleep(0.002)
        delivered += 1
        seen = first[record.key]
        if int(record.body) not in seen:
            seen.append(int(record.body))

    async def produce() -> None:
        for number in range(each):
            await asyncio.gather(*(log.append(topic, Message(b"%d" % number, key=key), soon()) for key in first))
            await asyncio.sleep(0.02)

    async with log.consuming(subscription, trying(deliver)), asyncio.TaskGroup() as tasks:
        producing = tasks.create_task(produce())
        for _ in range(3):
            async with config(kafka).build() as other, other.consuming(subscription, trying(deliver)) as member:
                await until(lambda member=member: bool(parts(member)))
        await producing
        await until(lambda: sum(map(len, first.values())) == keys * each)
    assert {key: list(range(each)) for key in first} == first
    # Each that left finished what it had begun, and said so before another had the partition.
    assert keys * each == delivered


async def test_a_group_whose_member_is_named_twice_loses_nothing(kafka, log, new_topic):
    topic = await new_topic(partitions=2)
    subscription = Subscription((topic,), f"{topic}-g", instance="same", session=30)
    seen = Seen()
    async with log.consuming(subscription, seen), config(kafka).build() as twin, twin.consuming(subscription, seen):
        for number in range(20):
            await log.append(topic, Message(b"%d" % number), soon(), partition=number % 2)
        await until(lambda: len({record.body for record in seen.records}) == 20)


@pytest.mark.parametrize("start", ["earliest", "latest"])
async def test_a_group_that_retention_has_overtaken_goes_on_with_what_is_left_and_counts_the_rest(kafka, log, new_topic, start):
    topic = await new_topic()
    subscription = Subscription((topic,), f"{topic}-g", start, listener="late")
    seen = Seen()
    async with log.consuming(subscription, seen) as member:
        await until(lambda: bool(parts(member)) and member._term is not None)
        await fill(log, topic, 3)
        await seen.reach(3)
    await fill(log, topic, 7)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=8)})
    await admin.close()
    async with log.consuming(subscription, seen):
        await seen.reach(5)
    assert [0, 1, 2, 8, 9] == [record.offset for record in seen.records]
    assert 5 == DROPPED.values()["late", topic]


async def test_no_record_is_passed_over_while_a_member_finds_out_what_is_done_with(log, new_topic, monkeypatch):
    topic = await new_topic(partitions=2)
    await asyncio.gather(*(log.append(topic, Message(b"%d" % number), soon(), partition=number % 2) for number in range(100)))
    known = group.Member._known

    async def slowly(*given):
        await asyncio.sleep(1)
        return await known(*given)

    monkeypatch.setattr(group.Member, "_known", slowly)
    seen = Seen()
    async with log.consuming(Subscription((topic,), f"{topic}-g"), seen):
        await seen.reach(100)
    assert list(range(100)) == sorted(int(record.body) for record in seen.records)


async def test_a_member_that_cannot_find_out_what_is_done_with_tries_again(log, new_topic, monkeypatch):
    topic = await new_topic()
    await fill(log, topic, 3)
    known = group.Member._known
    failures = iter(range(2))

    async def failing(*given):
        if next(failures, None) is not None:
            raise RequestTimedOutError
        return await known(*given)

    monkeypatch.setattr(group.Member, "_known", failing)
    seen = Seen()
    async with log.consuming(Subscription((topic,), f"{topic}-g"), seen):
        assert [b"0", b"1", b"2"] == await seen.reach(3)
