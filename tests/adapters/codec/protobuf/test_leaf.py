"""The spec's line on types in path and query: strict, with the field's path told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf import FORMAT
from gateway.codec import ABSENT, Given, Rule
from gateway.errors import CallerError, FieldError, Reason
from tests.spec.contract import descriptor_set

LEAVES = FORMAT.contracts([descriptor_set()]).methods["library.v1.Library/Echo"].request
BIND = LEAVES.bind(Rule(body=""))
NUMBERS = {"an_int32", "an_sint32", "an_sfixed32", "an_int64", "an_sint64", "an_sfixed64"}
COUNTS = {"a_uint32", "a_fixed32", "a_uint64", "a_fixed64"}


def said(name: str, *texts: str) -> object:
    """The message that a query makes, as JSON in its canonical form."""
    return LEAVES.check(BIND(ABSENT, Given({}, tuple((name, text) for text in texts))))


def refused(name: str, *texts: str) -> str:
    """The pointer that a refusal tells."""
    with pytest.raises(CallerError) as told:
        said(name, *texts)
    assert Reason.MALFORMED is told.value.reason
    (detail,) = told.value.details
    assert isinstance(detail, FieldError)
    return detail.pointer


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("a_string", "x", "x"),
        ("a_string", "true", "true"),
        ("a_bool", "true", True),
        *(
            (name, text, number)
            for name in ("an_int32", "an_sint32", "an_sfixed32")
            for text, number in (("010", 10), ("-7", -7))
        ),
        *((name, "010", 10) for name in ("a_uint32", "a_fixed32")),
        *((name, "9223372036854775807", "9223372036854775807") for name in ("an_int64", "an_sint64", "an_sfixed64")),
        *((name, "18446744073709551615", "18446744073709551615") for name in ("a_uint64", "a_fixed64")),
        ("an_int32", "-2147483648", -2147483648),
        ("an_int32", "0" * 5000 + "1", 1),
        ("an_int64", "-" + "0" * 5000 + "1", "-1"),
        ("a_float", "1.5", 1.5),
        ("a_float", "NaN", "NaN"),
        ("a_double", "1", 1.0),
        ("a_double", "-1e-3", -0.001),
        ("a_double", "1E+2", 100.0),
        ("a_double", "NaN", "NaN"),
        ("a_double", "Infinity", "Infinity"),
        ("a_double", "-Infinity", "-Infinity"),
        ("some_bytes", "+/+/", "+/+/"),
        ("some_bytes", "-_-_", "+/+/"),
        ("some_bytes", "YQ", "YQ=="),
        ("some_bytes", "YQ==", "YQ=="),
        ("colour", "RED", "RED"),
        ("colour", "2", "GREEN"),
        ("colour", "7", 7),
        ("time", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("time", "2026-01-02T03:04:05.5+01:00", "2026-01-02T02:04:05.500Z"),
        ("span", "1.5s", "1.500s"),
        ("mask", "a,b.c", "a,b.c"),
        ("mask", "givenName", "givenName"),
        ("mask", "given_name", "givenName"),
        ("bool_value", "false", False),
        ("int32_value", "0", 0),
        ("uint32_value", "1", 1),
        ("int64_value", "7", "7"),
        ("uint64_value", "7", "7"),
        ("float_value", "1.5", 1.5),
        ("double_value", "1.5", 1.5),
        ("string_value", "", ""),
        ("bytes_value", "YQ", "YQ=="),
        ("maybe", "", ""),
    ],
)
def test_a_text_is_read_by_the_type_of_its_field(name, text, value):
    assert [value] == list(said(name, text).values())


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("a_bool", ["1", "0", "True", "TRUE", "t", "yes", "on", "", " true"]),
        *((name, ["", " 1", "1 ", "+1", "1.0", "1e2", "0x1", "1_0", "\u0661", "--1", "-", "1-"]) for name in NUMBERS | COUNTS),
        *((name, ["-1", "-0"]) for name in COUNTS),
        ("an_int32", ["2147483648", "-2147483649", "9" * 30, "9" * 5000]),
        ("an_sint32", ["2147483648"]),
        ("an_sfixed32", ["2147483648"]),
        ("a_uint32", ["4294967296"]),
        ("an_int64", ["9223372036854775808", "-9223372036854775809", "9" * 30]),
        ("a_uint64", ["18446744073709551616"]),
        ("int64_value", ["1.0", "x", "9223372036854775808"]),
        ("bool_value", ["1"]),
        ("a_float", ["", "x", "1_0", "nan", "inf", "infinity", "+1", "1e39", "0x1p3", "-NaN", "1.", ".5"]),
        ("a_double", ["", "x", "1e999", " 1", "1e", "INFINITY"]),
        ("some_bytes", ["a", "a b", "*", "\u00e9"]),
        ("colour", ["BLUE", "red", "1.0", "", "2147483648", "+1"]),
        ("time", ["", "now", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-01-02t03:04:05z", "1"]),
        ("span", ["", "1", "1.5", "1m", "s", "1.0000000001s", "999999999999s"]),
        ("mask", ["a,,b", ",", "a b", "a;b"]),
    ],
)
def test_what_is_not_strictly_of_the_type_is_refused_with_the_path_of_the_field(name, texts):
    pointers = {refused(name, text) for text in texts}
    assert pointers == {f"/{LEAVES.descriptor.fields_by_name[name].json_name}"}


@pytest.mark.parametrize(
    ("name", "texts", "value"),
    [
        ("strings", ["b", "a", "b", ""], ["b", "a", "b", ""]),
        ("ints", ["3", "-1"], [3, -1]),
        ("colours", ["RED", "2"], ["RED", "GREEN"]),
        ("times", ["2026-01-02T03:04:05Z"], ["2026-01-02T03:04:05Z"]),
    ],
)
def test_a_repeated_field_is_its_key_given_again_in_order(name, texts, value):
    assert {name: value} == said(name, *texts)


@pytest.mark.parametrize(
    "name",
    [
        "many",
        "many.a_string",
        "labels",
        "labels.k",
        "struct",
        "struct.k",
        "value",
        "list",
        "any",
        "any.type_url",
        "inner",
        "raw",
        "empty",
    ],
)
def test_what_is_no_scalar_is_refused(name):
    assert f"/{name.partition('.')[0]}" == refused(name, "1")


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
def test_every_integer_comes_through_with_zeros_before_it(number, zeros):
    text = f"{'-' if number < 0 else ''}{'0' * zeros}{abs(number)}"
    assert ({"anInt64": str(number)} if number else {}) == said("an_int64", text)


@given(st.floats())
def test_every_double_comes_through(number):
    text = "NaN" if number != number else repr(number).replace("inf", "Infinity")  # noqa: PLR0124  so a NaN is known
    value = said("a_double", text).get("aDouble", 0.0)
    assert repr(number) == repr(float(value))


@given(st.sampled_from(sorted(LEAVES.fields)), st.text(max_size=12))
def test_any_text_is_a_value_of_a_field_or_malformed(name, text):
    try:
        LEAVES.pack(BIND(ABSENT, Given({}, ((name, text),))))
    except CallerError as error:
        assert Reason.MALFORMED is error.reason  # noqa: PT017  both are answers
