"""Strict JSON: every row of the spec's bad payloads that is about JSON, and what must not be refused with them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.json import FORMAT
from gateway.errors import CallerError, Reason
from gateway.jsontext import MAX_DEPTH, dumps, loads
from tests.contract.codec import SECRET, FormatContract

CHARACTERS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | CHARACTERS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(CHARACTERS, inner, max_size=5),
    max_leaves=20,
)


def quoted(text: str) -> bytes:
    return f'{{"{SECRET}": {text}}}'.encode()


DEEP = 100_000
BAD = {
    "nothing": b"",
    "a space": b" ",
    "half a value": quoted('"tea'),
    "two values": b"{} {}",
    "a comma too many": b"[1,]",
    "a comment": b"{} // tea",
    "single quotes": b"{'a': 1}",
    "no quotes": b"{a: 1}",
    "depth 100,000, arrays": b"[" * DEEP + b"]" * DEEP,
    "depth 100,000, objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "depth 100,000, never closed": b"[" * DEEP,
    "depth 100,000, in turns": b'[{"a":' * DEEP,
    "one level too many": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "NaN": quoted("NaN"),
    "Infinity": quoted("Infinity"),
    "-Infinity": quoted("-Infinity"),
    "1e999": quoted("1e999"),
    "-1e999": quoted("-1e999"),
    "a 10,000-digit integer": quoted("9" * 10_000),
    "a 10,000-digit fraction": quoted("0." + "9" * 10_000 + "e999"),
    "2^64": quoted("18446744073709551616"),
    "-2^63 - 1": quoted("-9223372036854775809"),
    "invalid UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a lone high surrogate": quoted('"\\ud800"'),
    "a lone low surrogate": quoted('"\\udc00"'),
    "surrogates the wrong way round": quoted('"\\udc00\\ud800"'),
    "a lone surrogate in a key": b'{"\\ud800": 1}',
    "a BOM": b"\xef\xbb\xbf{}",
    "a duplicate key": b'{"a": 1, "a": 1}',
    "a duplicate key, deep": b'[{"b": {"a": 1, "c": 2, "a": 3}}]',
    "a duplicate key, once escaped": b'{"a": 1, "\\u0061": 2}',
    "a raw line break in a string": b'"a\nb"',
    "a raw NUL in a string": b'"a\0b"',
    "a NUL after the value": b"{}\0",
    "a plus": b"+1",
    "a leading zero": b"01",
    "hexadecimal": b"0x10",
    "no fraction after the point": b"1.",
    "no integer before the point": b".5",
    "a bad escape": b'"\\x41"',
    "digits that are not ASCII": '"\\u\u0660\u0660\u0664\u0661"'.encode(),
}


class TestContract(FormatContract):
    form = FORMAT
    values = VALUES
    refused = tuple(BAD.values())


@pytest.mark.parametrize("name", BAD)
def test_it_refuses(name):
    with pytest.raises(CallerError) as caught:
        loads(BAD[name])
    assert Reason.MALFORMED is caught.value.reason


GOOD = {
    "the deepest": (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
    "more brackets than depth": (b"[" + b"[]," * 500 + b"[]]", None),
    "brackets in strings": (json.dumps({"a": "[{" * 500, "b": '"[{\\' * 90}).encode(), None),
    "2^64 - 1": (b"18446744073709551615", 2**64 - 1),
    "-2^63": (b"-9223372036854775808", -(2**63)),
    "the largest double": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "too small for a double": (b"1e-999", 0.0),
    "white space": (b" \t\r\n1 \t\r\n", 1),
    "an escaped pair of surrogates": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "an escaped NUL": (b'"\\u0000"', "\0"),
    "a scalar": (b"null", None),
    "the same key in two objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "an empty key": (b'{"":1}', {"": 1}),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_takes(name):
    body, value = GOOD[name]
    read = loads(body)
    if value is not None:
        assert value == read
        assert type(value) is type(read)


@given(VALUES)
def test_it_reads_what_another_writer_writes(value):
    assert value == loads(json.dumps(value).encode())
    assert value == loads(json.dumps(value, indent=2, ensure_ascii=False).encode())


@given(VALUES)
def test_another_reader_reads_what_it_writes(value):
    assert value == json.loads(dumps(value))


@given(st.integers())
def test_an_integer_is_never_a_silent_float(number):
    body = str(number).encode()
    if -(2**63) <= number < 2**64:
        assert number == loads(body)
    else:
        with pytest.raises(CallerError):
            loads(body)


def test_it_says_where_the_first_mistake_is_in_bytes():
    with pytest.raises(CallerError, match="at byte 8"):
        loads('{"é": 1'.encode()[:-1] + b" ?}")
