"""Strict JSON in the core: what is refused, and what survives to the digit (tests/adapters/codec/test_json.py has more)."""

from __future__ import annotations

import pytest

from gateway.errors import CallerError, Reason
from gateway.jsontext import Digits, dumps, loads


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a":1,"a":2}', b"NaN", b"1e999", b"18446744073709551616", b'"\\ud800"', b"\xff", b"[" * 101 + b"]" * 101],
)
def test_what_may_be_read_in_two_ways_is_malformed(text):
    with pytest.raises(CallerError) as caught:
        loads(text)
    assert Reason.MALFORMED is caught.value.reason


@pytest.mark.parametrize("text", ["9007199254740993.0", "1e18", "-9.007199254740993e15"])
def test_a_float_that_may_stand_for_several_whole_numbers_keeps_its_digits(text):
    value = loads(text.encode())
    assert isinstance(value, Digits)
    assert text == value.text
    assert float(text) == value == loads(dumps(value))


@pytest.mark.parametrize("text", ["1.5", "1e2", "-0.0", "9007199254740991.0", "1e300"])
def test_any_other_float_is_just_a_float(text):
    assert float is type(loads(text.encode()))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"k"', "expecting ':' delimiter at byte 4"),
        (b"[1 2]", "expecting ',' delimiter at byte 3"),
        (b'["\xc3\xa9"', "expecting ',' delimiter at byte 5"),
        (b'"a', "unterminated string starting at byte 0"),
        (b'"\x01"', "invalid control character at byte 1"),
        (b'"\\u12"', r"invalid \uXXXX escape at byte 2"),
    ],
)
def test_what_is_no_json_says_why_and_where(body, why):
    with pytest.raises(CallerError) as caught:
        loads(body)
    assert f"the body is not acceptable JSON: {why}" == caught.value.message


def test_what_is_written_is_compact_and_in_utf_8():
    assert '{"é":[1,null,true]}'.encode() == dumps({"é": [1, None, True]})
