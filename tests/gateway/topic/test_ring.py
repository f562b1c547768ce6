"""The latest records of a topic in memory."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import NO_HEADERS
from gateway.port import Record
from gateway.topic import ring as module
from gateway.topic.ring import Lag, Ring

ANY = 1 << 60


def record(offset, key=None, body=b"xx", partition=0):
    return Record("t", partition, offset, 0, key, body, NO_HEADERS)


@pytest.fixture
def ring():
    ring = Ring()
    for offset in range(10):
        ring.add([record(offset)], float(offset))
    return ring


def test_records_are_numbered_on_and_the_oldest_are_let_go_of(monkeypatch):
    monkeypatch.setattr(module, "RING_RECORDS", 4)
    ring = Ring()
    gone = [one.offset for offset in range(9) for one in ring.add([record(offset)], 0.0)]
    assert (list(range(ring.first)), 9) == (gone, ring.end)
    assert [one.offset for one in ring.after(ring.first)] == list(range(ring.first, 9))


def test_a_lag_is_told_in_records_bytes_and_seconds(ring):
    assert Lag(3, 6, 5.0) == ring.lag(7, 12.0)
    assert Lag(0, 0, 0.0) == ring.lag(10, 12.0)


@pytest.mark.parametrize(
    ("bound", "sequence"),
    [(Lag(3, ANY, inf), 7), (Lag(ANY, 5, inf), 8), (Lag(ANY, ANY, 3.5), 9), (Lag(ANY, ANY, inf), 0), (Lag(0, 0, 0), 10)],
)
def test_the_first_record_within_a_bound_is_found(ring, bound, sequence):
    assert sequence == ring.within(bound, 12.0)


def test_a_record_is_superseded_by_a_newer_one_of_its_key_in_its_partition():
    ring = Ring()
    old, other, new = record(0, b"k"), record(0, b"k", partition=1), record(1, b"k")
    ring.add([old], 0.0)
    assert not ring.superseded(old)
    ring.add([new], 0.0)
    assert ring.superseded(old)
    assert not ring.superseded(new)
    assert not ring.superseded(other)
    assert not ring.superseded(record(0))


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(2, 9))
def test_whatever_comes_a_record_is_superseded_where_a_newer_one_is_held(keys, size):
    before = module.RING_RECORDS
    module.RING_RECORDS = size
    try:
        ring = Ring()
        records = [record(offset, b"%d" % key) for offset, key in enumerate(keys)]
        for one in records:
            ring.superseded(one)
            ring.add([one], 0.0)
            held = ring.span(ring.first, ring.end)
            for past in records[: one.offset + 1]:
                assert ring.superseded(past) == any(later.key == past.key and later.offset > past.offset for later in held)
    finally:
        module.RING_RECORDS = before


def test_what_is_cleared_is_passed_by_one_more_so_that_whoever_has_read_it_all_looks_again(ring):
    ring.clear()
    assert (11, 11, 0) == (ring.first, ring.end, len(ring))
    assert () == ring.after(11)
