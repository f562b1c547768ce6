"""What was read of the past: cut into slices, and kept within one bound for all."""

from __future__ import annotations

from gateway.message import NO_HEADERS
from gateway.port import Record
from gateway.topic.history import SLICE_BYTES, Batch, Kept


def record(offset: int, size: int) -> Record:
    return Record("t", 0, offset, 0, None, b"x" * size, NO_HEADERS)


def batch(*sizes: int) -> Batch:
    return Batch([record(offset, size) for offset, size in enumerate(sizes)], {0: len(sizes)})


def test_a_slice_has_as_many_records_as_fit_and_the_rest_keeps_the_end():
    records, rest = batch(SLICE_BYTES - 1, 1, 1).cut()
    assert [0, 1] == [one.offset for one in records]
    assert rest is not None
    assert ([2], {0: 3}) == ([one.offset for one in rest.records], rest.end)


def test_a_record_over_the_slice_is_a_slice_of_its_own():
    records, rest = batch(SLICE_BYTES * 3, 1).cut()
    assert ([0], [1]) == ([one.offset for one in records], [one.offset for one in rest.records])


def test_a_batch_that_fits_has_no_rest():
    assert None is batch(1, 1).cut()[1]
    assert ([], None) == batch().cut()


def test_a_rest_is_found_by_its_topic_and_place_once():
    kept = Kept()
    rest = batch(10)
    kept.put("t", {1: 2, 0: 1}, rest)
    assert kept.take("u", {0: 1, 1: 2}) is None
    assert kept.take("t", {0: 1}) is None
    assert rest is kept.take("t", {0: 1, 1: 2})
    assert kept.take("t", {0: 1, 1: 2}) is None
    assert 0 == kept.size


def test_what_nobody_asked_for_longest_goes_first_when_there_is_too_much():
    kept = Kept(limit=25)
    for place in range(4):
        kept.put("t", {0: place}, batch(10))
    assert 20 == kept.size
    assert [False, False, True, True] == [kept.take("t", {0: place}) is not None for place in range(4)]
    kept.put("t", {0: 9}, batch(26))
    assert 0 == kept.size


def test_a_place_is_kept_once():
    kept = Kept()
    for _ in range(2):
        kept.put("t", {0: 1}, batch(10))
    assert 10 == kept.size


def test_nothing_is_kept_of_a_topic_that_was_made_anew():
    kept = Kept()
    kept.put("t", {0: 1}, batch(10))
    kept.put("u", {0: 1}, batch(10))
    kept.forget("t")
    assert 10 == kept.size
    assert kept.take("t", {0: 1}) is None
    assert kept.take("u", {0: 1}) is not None
