"""A record as the spool has it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.embedded.topic import is_name
from gateway.message import Headers, Message
from gateway.port import Record
from gateway.spool.record import ASIDE, WAITING, Stored, kept_for, kept_in, opened, wrapped

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
HEADERS = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(Headers)


@given(
    st.builds(
        Stored,
        id=TEXT,
        topic=TEXT,
        partition=st.none() | st.integers(0, 9),
        message=st.builds(Message, body=st.binary(max_size=20), key=st.none() | st.binary(max_size=5), headers=HEADERS),
        offset=st.integers(0, 9),
        timestamp=st.integers(0, 9),
        why=TEXT,
    )
)
def test_what_was_wrapped_is_opened_as_it_was(stored):
    message = wrapped(stored)
    record = Record("waiting.b", 0, stored.offset, stored.timestamp, message.key, message.body, message.headers)
    assert stored == opened(record)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), st.sampled_from([WAITING, ASIDE]))
def test_every_backend_has_topics_of_its_own_that_name_it(backend, state):
    topic = kept_in(state, backend)
    assert is_name(topic)
    assert (state, backend) == kept_for(topic)


def lane(topic="t", key=None, partition=None, offset=7):
    return Stored("1", topic, partition, Message(b"", key=key), offset).lane


def test_records_of_one_key_of_a_topic_keep_their_order():
    assert lane(key=b"k") == lane(key=b"k", offset=8)
    assert lane(key=b"k") != lane(key=b"j")
    assert lane(key=b"k") != lane(key=b"k", topic="u")


def test_records_for_one_partition_keep_their_order_whatever_their_keys():
    assert lane(key=b"k", partition=0) == lane(partition=0, offset=8)
    assert lane(partition=0) != lane(partition=1)


def test_records_without_either_wait_for_no_other():
    assert lane() != lane(offset=8)
