"""Which partition a record goes to."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as theirs
from hypothesis import given
from hypothesis import strategies as st

from gateway.embedded.topic import Partition, Topic, is_name, murmur2


# From Kafka's own UtilsTest.testMurmur2, as unsigned.
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_has_the_hash_that_kafka_gives_it(key, value):
    assert value & 0xFFFFFFFF == murmur2(key)


@given(st.binary(max_size=64))
def test_any_key_has_the_hash_that_a_kafka_client_gives_it(key):
    assert theirs(key) & 0xFFFFFFFF == murmur2(key)


def test_the_only_partition_takes_every_key():
    topic = Topic("t", [])
    topic.partitions.append(Partition(1, topic, 0))
    assert topic.partitions[0] is topic.choose(b"any") is topic.choose(None)


@pytest.mark.parametrize("name", ["a", "orders.placed", "A-b_c.9", "x" * 249, "...", "_"])
def test_what_kafka_takes_as_a_name_is_one(name):
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 250, "a\n"])
def test_what_kafka_refuses_as_a_name_is_none(name):
    assert not is_name(name)
