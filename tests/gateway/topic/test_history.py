"""What is kept of a log's past, and how much."""

from __future__ import annotations

from gateway.message import NO_HEADERS
from gateway.port import Record
from gateway.topic.history import SLICE_BYTES, Batch, Kept


def record(offset: int, size: int = 10) -> Record:
    return Record("t", 0, offset, 0, None, b"x" * size, NO_HEADERS)


def test_a_small_batch_is_one_slice():
    batch = Batch([record(0), record(1)], {0: 2})
    assert (batch.records, None) == batch.cut()


def test_a_large_batch_is_cut_and_its_rest_ends_where_it_ended():
    half = SLICE_BYTES // 2 + 1
    first, rest = Batch([record(0, half), record(1, half), record(2, half)], {0: 3}).cut()
    assert [0] == [one.offset for one in first]
    assert rest is not None
    assert ([1, 2], {0: 3}) == ([one.offset for one in rest.records], rest.end)


def test_a_record_larger_than_a_slice_is_a_slice():
    first, rest = Batch([record(0, SLICE_BYTES * 2), record(1)], {0: 2}).cut()
    assert [0] == [one.offset for one in first]
    assert rest is not None


def test_what_is_kept_is_found_once_by_its_place():
    kept = Kept()
    batch = Batch([record(5)], {0: 6})
    kept.put("t", {0: 5}, batch)
    assert kept.take("t", {0: 4}) is None
    assert kept.take("other", {0: 5}) is None
    assert batch == kept.take("t", {0: 5})
    assert 0 == kept.size


def test_the_oldest_goes_when_there_is_too_much():
    kept = Kept(limit=25)
    for offset in range(3):
        kept.put("t", {0: offset}, Batch([record(offset)], {0: offset + 1}))
    assert kept.take("t", {0: 0}) is None
    assert kept.take("t", {0: 2}) is not None
    assert 10 == kept.size
