"""What is said with a commit comes back as it was, in the room that there is, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.backend.kafka.mark import PREFIX, SPAN, mark, marked


@given(st.integers(0, 2**62), st.sets(st.integers(1, 5000)))
def test_what_is_done_with_beyond_an_offset_comes_back(at, beyond):
    offsets = frozenset(at + number for number in beyond)
    assert offsets == marked(at, mark(at, offsets))


def test_nothing_beyond_is_nothing_to_say():
    assert "" == mark(7, ())
    assert frozenset() == marked(7, "")


def test_it_fits_what_a_broker_takes_and_leaves_out_what_is_too_far():
    text = mark(100, range(101, 100 + 10 * SPAN))
    assert len(text) <= 4096
    assert frozenset(range(101, 100 + SPAN)) == marked(100, text)


@pytest.mark.parametrize("text", ["by hand", PREFIX, f"{PREFIX}!", f"{PREFIX}AAA", "polygate/2:AQ=="])
def test_what_somebody_else_has_said_is_nothing(text):
    assert frozenset() == marked(7, text)
