"""What the records of the state say, whoever reads them."""

from __future__ import annotations

import pytest

from gateway.errors import BackendError
from gateway.message import Headers
from gateway.port import Record
from gateway.topic.entry import BY, CLAIM, DROP, GRACE_MS, KIND, OVER, PUT, SECONDS, SLACK, Entries

MINUTE_MS = 60_000


class Topic:
    """Writes records, a second after one another."""

    def __init__(self):
        self.offset = 0
        self.now = 1_000_000_000

    def __call__(self, kind, value=b"", key=b"a", seconds=60, **more):
        told = ((f"polygate-{name}", str(one)) for name, one in more.items())
        headers = Headers(((KIND, kind), (SECONDS, str(seconds)), *told))
        record = Record("state", 0, self.offset, self.now, key, value, headers)
        self.offset += 1
        self.now += 1000
        return record


@pytest.fixture
def topic():
    return Topic()


@pytest.fixture
def entries(topic):
    return Entries(1 << 20, lambda: topic.now / 1000)


def test_the_first_claim_has_the_key_and_the_second_is_told_what_it_has(topic, entries):
    first, second = entries.apply(topic(CLAIM, b"1", by="x")), entries.apply(topic(CLAIM, b"2", by="y"))
    assert (True, None, "x") == (first.taken, first.there, first.by)
    assert (False, b"1", "y") == (second.taken, second.there, second.by)
    assert b"1" == entries.live("a").value
    assert [1] == entries.dead


def test_a_claim_counts_by_the_time_of_its_record_and_not_by_when_it_is_read(topic, entries):
    entries.apply(topic(CLAIM, b"1", seconds=1))
    late = topic(CLAIM, b"2")
    topic.now += 100 * MINUTE_MS
    assert entries.apply(late).taken
    assert entries.live("a") is None
    soon = Record(late.topic, 0, 2, late.timestamp + 1, b"a", b"3", late.headers)
    assert not entries.apply(soon).taken


def test_a_claim_over_another_record_of_the_same_value_comes_too_late(topic, entries):
    entries.apply(topic(PUT, b"1"))
    entries.apply(topic(PUT, b"1"))
    assert not entries.apply(topic(CLAIM, b"2", over=0)).taken
    assert entries.apply(topic(CLAIM, b"2", over=1)).taken


def test_what_is_dropped_is_gone_with_the_record_that_says_so(topic, entries):
    entries.apply(topic(PUT, b"1"))
    assert not entries.apply(topic(DROP, over=7)).taken
    assert entries.apply(topic(DROP, over=0)).taken
    assert entries.live("a") is None
    assert [1, 0, 2] == entries.dead
    assert 0 == entries.size == len(entries)


def test_what_is_over_is_held_for_a_while_for_the_clocks_of_others(topic, entries):
    entries.apply(topic(PUT, b"1"))
    topic.now += MINUTE_MS + 1
    entries.sweep()
    assert (None, 1) == (entries.live("a"), len(entries))
    topic.now += GRACE_MS
    entries.sweep()
    assert (0, [0]) == (len(entries), entries.dead)


def test_a_record_of_something_else_says_nothing(topic, entries):
    assert entries.apply(topic("other", b"1")) is None
    assert entries.apply(topic(PUT, b"1", key=None)) is None
    assert 0 == len(entries)


def test_what_is_set_again_and_again_takes_no_more_room(topic, entries):
    for number in range(5 * SLACK):
        entries.apply(topic(PUT, b"%d" % number, seconds=1e9))
    assert (1, 1024) == (len(entries), entries.size)
    assert 2 * SLACK > len(entries._due)


def test_room_is_kept_while_a_record_is_on_its_way(topic):
    entries = Entries(3000, lambda: topic.now / 1000)
    with entries.room("a", b""), entries.room("b", b""), pytest.raises(BackendError), entries.room("c", b""):
        raise AssertionError("there is no room")
    with entries.room("c", b""):
        pass


def test_some_room_is_left_by_what_is_new_to_what_is_there_and_grows(topic):
    entries = Entries(8 * 1024, lambda: topic.now / 1000)
    for number in range(7):
        with entries.room(f"{number}", b""):
            entries.apply(topic(PUT, key=b"%d" % number))
    with pytest.raises(BackendError), entries.room("7", b""):
        raise AssertionError("there is no room")
    with entries.room("0", b"x" * 1500):
        pass
    with pytest.raises(BackendError), entries.room("0", b"x" * 2500):
        raise AssertionError("there is no room")


def test_all_is_forgotten_at_once(topic, entries):
    entries.apply(topic(PUT, b"1", by="x"))
    entries.clear()
    assert (0, 0, []) == (len(entries), entries.size, entries.dead)
    assert BY != OVER
