"""`grpc-timeout`: what is read, what is refused, and that what is written is never longer than meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.grpc.timeout import seconds_of, timeout_of
from gateway.errors import CallerError, Reason


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("1H", 3600), ("2M", 120), ("99999999S", 99999999), ("5m", 0.005), ("7u", 7e-6), ("9n", 9e-9), ("0S", 0)],
)
def test_a_timeout_is_digits_and_a_unit(text, seconds):
    assert seconds == (None if text is None else pytest.approx(seconds_of(text)))


@pytest.mark.parametrize("text", ["", "S", "1", "1s", "1 S", " 1S", "-1S", "+1S", "1.5S", "123456789S", "1S\n", "\u0661S", "1SS"])
def test_anything_else_is_refused(text):
    with pytest.raises(CallerError) as caught:
        seconds_of(text)
    assert Reason.PROTOCOL == caught.value.reason


@given(st.floats(-1, 1e9))
def test_what_is_written_is_read_and_never_longer(seconds):
    read = seconds_of(timeout_of(seconds))
    assert read <= max(seconds, 0) * (1 + 1e-12)
    assert read >= min(seconds, 1e8 - 1) * (1 - 1e-4) - 1e-9
