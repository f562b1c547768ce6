"""What is written, in as few statements as can be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.embedded.statement import chunks, runs


@given(st.integers(0, 600))
def test_every_row_is_inserted_once_in_order(count):
    rows = [(number, 0, 0, None, b"", None) for number in range(count)]
    given_ = [value for _, values in chunks(rows) for value in values[::6]]
    assert list(range(count)) == given_
    assert all(statement.count("(?, ?, ?, ?, ?, ?)") * 6 == len(values) for statement, values in chunks(rows))


@given(st.sets(st.integers(0, 50)))
def test_numbers_that_stand_side_by_side_are_one_range(numbers):
    found = list(runs(list(numbers)))
    assert sorted(numbers) == [number for first, last in found for number in range(first, last + 1)]
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))
