"""What JSON may say for a scalar, exactly, and what it may not."""

from __future__ import annotations

import pytest

from adapters.codec.protobuf import scalar
from adapters.codec.protobuf.wrong import InexactError, WrongError
from gateway.jsontext import Digits


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        ("7", 7),
        ("-7", -7),
        ("007", 7),
        (1.0, 1),
        (1e2, 100),
        ("1.0", 1),
        ("1e2", 100),
        ("0e999999999", 0),
        ("9007199254740993", 9007199254740993),
        ("9007199254740993.0", 9007199254740993),
        ("0.9223372036854775807e19", 2**63 - 1),
        (Digits("9007199254740993.0"), 9007199254740993),
        (-(2**63), -(2**63)),
    ],
)
def test_a_whole_number_is_taken_exactly(value, number):
    assert number == scalar.int64(value)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, [], {}, (), 1.5, "1.5", "1e-1", "", " 1", "1 ", "1\n", "+1", "1_0", "0x1", "\uff12", "²"),
        *("NaN", "1e400", "1e999999999", "9" * 10_000, 2**63, -(2**63) - 1, "9223372036854775808", Digits("1e19")),
        *("1e99999999999999999999", ".", "e1", "-"),
    ],
)
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(WrongError):
        scalar.int64(value)


def test_a_float_that_may_be_two_whole_numbers_is_not_guessed():
    assert 2**53 - 1 == scalar.int64(float(2**53 - 1))
    with pytest.raises(InexactError):
        scalar.int64(float(2**53))


@pytest.mark.parametrize(
    ("convert", "low", "high"),
    [
        (scalar.int32, -(2**31), 2**31 - 1),
        (scalar.uint32, 0, 2**32 - 1),
        (scalar.int64, -(2**63), 2**63 - 1),
        (scalar.uint64, 0, 2**64 - 1),
    ],
)
def test_each_integer_has_its_range(convert, low, high):
    assert (low, high) == (convert(low), convert(str(high)))
    for beyond in (low - 1, high + 1, str(low - 1), str(high + 1)):
        with pytest.raises(WrongError):
            convert(beyond)


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), (2**64 - 1, 2.0**64)])
def test_a_number_is_taken_for_a_double(value, number):
    assert number == scalar.double(value)


def test_the_three_names_are_numbers_too():
    assert [float("inf"), float("-inf")] == [scalar.double("Infinity"), scalar.double("-Infinity")]
    assert str(scalar.double("NaN")) == "nan"


@pytest.mark.parametrize(
    "value",
    [True, None, "", "inf", "nan", "infinity", "1_0", " 1", "1e999", float("inf"), float("nan"), 2**64, -(2**63) - 1, [], {}],
)
def test_what_is_no_double_is_refused(value):
    with pytest.raises(WrongError):
        scalar.double(value)


@pytest.mark.parametrize("value", [3.5e38, "3.5e38", -3.5e38])
def test_what_a_float_of_32_bits_cannot_hold_is_refused(value):
    assert 3.4e38 == scalar.float32(3.4e38)
    with pytest.raises(WrongError):
        scalar.float32(value)


@pytest.mark.parametrize(
    ("text", "data"), [("YQ==", b"a"), ("YQ", b"a"), ("YQ=", b"a"), ("-_8=", b"\xfb\xff"), ("+/8", b"\xfb\xff"), ("", b"")]
)
def test_base64_is_taken_in_both_alphabets_with_padding_or_without(text, data):
    assert data == scalar.base64(text)


@pytest.mark.parametrize("text", ["?", "YQ==YQ", "Y", "YQ===", "Y Q=", "YQ==\n", "\u00e9\u00e9\u00e9\u00e9", 1, None, b"YQ=="])
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(WrongError):
        scalar.base64(text)


NAMES = {"NONE": 0, "RED": 1, "ROUGE": 1}


def test_an_enum_is_a_name_or_a_number_and_an_open_one_any_number():
    convert = scalar.enum(NAMES, closed=False, lenient=False)
    assert [0, 1, 1, 1, 1, 7, -1] == [convert(value) for value in ("NONE", "RED", "ROUGE", 1, "1", 7, -1.0)]


@pytest.mark.parametrize("value", ["PINK", "red", "", "1.0", True, None, 1.5, 2**31, [], {}])
def test_what_is_no_value_of_an_enum_is_refused(value):
    with pytest.raises(WrongError):
        scalar.enum(NAMES, closed=False, lenient=False)(value)


def test_a_closed_enum_has_its_own_numbers_alone():
    with pytest.raises(WrongError):
        scalar.enum(NAMES, closed=True, lenient=False)(7)


def test_an_unknown_name_is_left_out_where_unknown_fields_are():
    convert = scalar.enum(NAMES, closed=True, lenient=True)
    assert convert("PINK") is None
    with pytest.raises(WrongError):
        convert(7)
