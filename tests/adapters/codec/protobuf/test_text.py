"""Scalars become the shortest JSON that is the same value."""

from __future__ import annotations

import json
import struct

import pytest
from google.protobuf.internal.type_checkers import ToShortestFloat
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf.text import base64, checked, double, float32, quote
from adapters.codec.protobuf.wrong import WrongError


@given(st.text(st.characters(codec="utf-8")))
def test_a_string_comes_back_the_same(text):
    assert text == json.loads(quote(text))


def test_what_is_not_ascii_is_written_as_it_is():
    assert '"é\\u0001\\"\\\\"' == quote('é\x01"\\')


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_of_32_bits_has_as_few_digits_as_tell_it(number):
    assert repr(ToShortestFloat(number)) == float32(number)
    assert number == struct.unpack("<f", struct.pack("<f", float(float32(number))))[0]


@pytest.mark.parametrize("number", [3.4028234663852886e38, -3.4028234663852886e38, 1e-45, 16777216.0, 0.1])
def test_the_edges_of_32_bits_come_back_the_same(number):
    (single,) = struct.unpack("<f", struct.pack("<f", number))
    assert single == struct.unpack("<f", struct.pack("<f", float(float32(single))))[0]


def test_what_json_has_no_number_for_is_named():
    nan, infinity = float("nan"), float("inf")
    assert ['"NaN"', '"Infinity"', '"-Infinity"'] == [double(nan), double(infinity), double(-infinity)]
    assert ['"NaN"', '"Infinity"', '"-Infinity"'] == [float32(nan), float32(infinity), float32(-infinity)]


def test_bytes_are_in_the_standard_alphabet_with_padding():
    assert '"+/8="' == base64(b"\xfb\xff")


def test_a_string_that_is_not_utf_8_is_refused():
    assert '"a"' == checked("a")
    with pytest.raises(WrongError):
        checked(b"\xff")
