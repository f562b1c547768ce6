"""The scanner takes what the strict parser takes, and refuses what it refuses, but for what readers look at themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf.scan import scan
from gateway.errors import CallerError
from gateway.jsontext import Digits, loads


def told(read, text):
    try:
        read(text)
    except CallerError as error:
        return error.message
    return None


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab"\\é'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
)


def plain(value):
    if isinstance(value, tuple):
        return {name: plain(part) for name, part in value}
    return [plain(part) for part in value] if isinstance(value, list) else value


@given(ANY, st.sampled_from(["", " ", "\n\t\r "]), st.sampled_from(["", " ", "\n\t\r "]))
def test_a_text_has_the_value_that_the_strict_parser_gives(value, before, after):
    text = (before + json.dumps(value) + after).encode()
    assert loads(text) == plain(scan(text)) == plain(scan(text, digits=True))


@given(st.binary(max_size=30) | st.text('{}[]":,0123456789.eE+-truefalsn \\u', max_size=20).map(str.encode))
def test_what_is_no_json_is_refused_as_the_strict_parser_refuses_it(text):
    refused = told(scan, text)
    assert refused in (told(loads, text), None)  # equal names, numbers and surrogates are for the reader to refuse


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "{}{}", "{} x", "NaN", '{"a":Infinity}', "\ufeff{}", "[1,]", "01", "[" * 100_000, "9" * 10_000, '"\t"'],
)
def test_no_json_is_malformed(text):
    with pytest.raises(CallerError):
        scan(text.encode())


def test_an_object_is_its_pairs_in_order_so_that_a_name_may_stand_twice():
    assert (("a", 1), ("b", ()), ("a", [()])) == scan(b'{"a":1,"b":{},"a":[{}]}')


def test_a_float_keeps_its_digits_where_they_are_asked_for():
    value = scan(b"9007199254740993.0", digits=True)
    assert isinstance(value, Digits)
    assert "9007199254740993.0" == value.text
    assert 9007199254740992.0 == value
