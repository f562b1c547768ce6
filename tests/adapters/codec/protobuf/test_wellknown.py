"""The JSON of google.protobuf's own types, case by case."""

from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf import wellknown
from adapters.codec.protobuf.wrong import WrongError

TIMES = {
    "1970-01-01T00:00:00Z": (0, 0),
    "2026-11-21T10:51:26Z": (1795258286, 0),
    "2026-11-21T10:51:26.5Z": (1795258286, 500_000_000),
    "2026-11-21T10:51:26.000000001Z": (1795258286, 1),
    "2026-11-21T12:51:26+02:00": (1795258286, 0),
    "2026-11-21T05:21:26.25-05:30": (1795258286, 250_000_000),
    "0001-01-01T00:00:00Z": (-62135596800, 0),
    "9999-12-31T23:59:59.999999999Z": (253402300799, 999_999_999),
    "1969-12-31T23:59:59.9Z": (-1, 900_000_000),
    "2024-02-29T00:00:00Z": (1709164800, 0),
}


@pytest.mark.parametrize("text", TIMES)
def test_a_timestamp_is_read(text):
    seconds, nanos = TIMES[text]
    expected = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
    assert expected == wellknown.read_timestamp(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-11-21", "2026-11-21T10:51:26", "2026-11-21 10:51:26Z", "2026-11-21t10:51:26Z", "2026-11-21T10:51:26z"),
        *("2026-13-21T10:51:26Z", "2026-02-29T10:51:26Z", "2026-11-21T24:00:00Z", "2026-11-21T10:60:26Z", "2026-11-21T10:51:60Z"),
        *("2026-11-21T10:51:26.Z", "2026-11-21T10:51:26.1234567890Z", "2026-11-21T10:51:26+2:00", "2026-11-21T10:51:26+24:00"),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-11-21T10:51:26Z "),
        *("\uff12026-11-21T10:51:26Z", "2026-11-21T10:51:26+02:60", 0, None, {}, []),
    ],
)
def test_what_is_no_timestamp_is_refused(text):
    with pytest.raises(WrongError):
        wellknown.read_timestamp(text)


@given(st.integers(-62135596800, 253402300799), st.integers(0, 10**9 - 1))
def test_a_timestamp_is_written_as_the_runtime_writes_it_and_comes_back(seconds, nanos):
    message = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    text = wellknown.write_timestamp(message)
    assert message.ToJsonString() == json.loads(text)
    assert message.SerializeToString() == wellknown.read_timestamp(json.loads(text))


@pytest.mark.parametrize(("seconds", "nanos"), [(-62135596801, 0), (253402300800, 0), (0, -1), (0, 10**9)])
def test_a_timestamp_beyond_its_range_has_no_json(seconds, nanos):
    with pytest.raises(WrongError):
        wellknown.write_timestamp(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))


@given(st.integers(-315576000000, 315576000000), st.integers(0, 10**9 - 1))
def test_a_duration_is_written_as_the_runtime_writes_it_and_comes_back(seconds, nanos):
    message = duration_pb2.Duration(seconds=seconds, nanos=-nanos if seconds < 0 else nanos)
    text = wellknown.write_duration(message)
    assert message.ToJsonString() == json.loads(text)
    assert message.SerializeToString() == wellknown.read_duration(json.loads(text))


def test_a_duration_of_less_than_a_second_has_its_sign():
    assert duration_pb2.Duration(nanos=-500_000_000).SerializeToString() == wellknown.read_duration("-0.5s")
    assert '"-0.500s"' == wellknown.write_duration(duration_pb2.Duration(nanos=-500_000_000))


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "+1s", ".5s", "1.s", "1.1234567890s", "315576000001s", "1e3s", "1_0s", 1, None]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(WrongError):
        wellknown.read_duration(text)


@pytest.mark.parametrize(("seconds", "nanos"), [(1, -1), (-1, 1), (0, 10**9), (315576000001, 0)])
def test_a_duration_beyond_its_range_has_no_json(seconds, nanos):
    with pytest.raises(WrongError):
        wellknown.write_duration(duration_pb2.Duration(seconds=seconds, nanos=nanos))


@pytest.mark.parametrize(("text", "paths"), [("", []), ("a", ["a"]), ("aB.cD,e1", ["a_b.c_d", "e1"])])
def test_a_field_mask_is_its_paths_in_lower_camel_case(text, paths):
    message = field_mask_pb2.FieldMask(paths=paths)
    assert message.SerializeToString() == wellknown.read_mask(text)
    assert text == json.loads(wellknown.write_mask(message))


@pytest.mark.parametrize("path", ["aB", "a__b", "a_1", "a_", "a_B"])
def test_a_path_that_would_not_come_back_has_no_json(path):
    with pytest.raises(WrongError):
        wellknown.write_mask(field_mask_pb2.FieldMask(paths=[path]))


@pytest.mark.parametrize("value", ["a_b", 1, None, ["a"]])
def test_what_is_no_field_mask_is_refused(value):
    with pytest.raises(WrongError):
        wellknown.read_mask(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_any_json_is_a_value_and_comes_back(value):
    message = struct_pb2.Value.FromString(wellknown.read_value(value))
    assert value == json.loads(wellknown.write_value(message))


def test_a_value_of_no_kind_is_null_and_a_number_that_json_lacks_has_none():
    assert "null" == wellknown.write_value(struct_pb2.Value())
    for number in ("nan", "inf", "-inf"):
        with pytest.raises(WrongError):
            wellknown.write_value(struct_pb2.Value(number_value=float(number)))


def test_the_place_in_a_struct_is_told():
    with pytest.raises(WrongError) as caught:
        wellknown.read_struct({"a": [1, {"b": float("inf")}]})
    assert ["b", 1, "a"] == caught.value.steps


def test_each_special_type_has_a_reader_and_a_writer():
    for name in wellknown.SPECIAL:
        assert callable(wellknown.special_reader(name, lambda _name: (descriptor_pb2.DESCRIPTOR, bytes)))
        assert callable(wellknown.special_writer(name, lambda _name: (object, str)))
