"""The short way and json_format say the same, of every flat message and of every value that is none."""

from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf import MessageType
from adapters.codec.protobuf.flat import flat
from gateway.errors import CallerError

TYPES = ["STRING", "BOOL", "INT32", "SINT32", "SFIXED32", "UINT32", "FIXED32", "INT64", "UINT64", "DOUBLE"]


def _descriptor():
    file = descriptor_pb2.FileDescriptorProto(name="flat.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="Flat")
    for number, kind in enumerate(TYPES, 1):
        proto = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind}")
        message.field.add(name=f"a_{kind.lower()}", number=number, type=proto, label=1, json_name=f"a{kind.capitalize()}")
    nested = file.message_type.add(name="Holder")
    nested.field.add(name="flat", number=1, type=11, label=1, type_name=".t.Flat")
    pool = DescriptorPool()
    pool.Add(file)
    return pool


POOL = _descriptor()
FLAT = POOL.FindMessageTypeByName("t.Flat")
CLASS = message_factory.GetMessageClass(FLAT)
TYPE = MessageType(FLAT, POOL)
NAMES = [name for field in FLAT.fields for name in (field.name, field.json_name)]

numbers = st.one_of(
    st.integers(-(2**65), 2**65),
    st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1]),
    st.floats(),
    st.sampled_from(["1", "-1", "1.0", "1e2", " 1", "", "NaN", "Infinity", "x"]),
)
values = st.dictionaries(
    st.sampled_from([*NAMES, "unknown"]), st.one_of(numbers, st.text(max_size=8), st.booleans(), st.none(), st.lists(st.none()))
)


def by_json_format(value):
    if any(field.name in value and field.json_name in value for field in FLAT.fields):
        return None  # it takes the last one in silence; we do not (see strict.py)
    try:
        return json_format.ParseDict(value, CLASS())
    except (json_format.ParseError, ValueError, TypeError):
        return None


@given(values)
def test_a_value_is_packed_or_refused_as_json_format_would(value):
    wanted = by_json_format(value)
    if wanted is None:
        with pytest.raises(CallerError):
            TYPE.pack(value)
        with pytest.raises(CallerError):
            TYPE.check(value)
    else:
        assert wanted == CLASS.FromString(TYPE.pack(value))
        shown = json.dumps(json_format.MessageToDict(wanted), sort_keys=True)
        assert shown == json.dumps(_as_doubles(TYPE.check(value)), sort_keys=True)


def _as_doubles(value):
    """JSON has one kind of number: 1 and 1.0 are the same double."""
    return {name: float(part) if name == "aDouble" and not isinstance(part, str) else part for name, part in value.items()}


@given(
    st.builds(
        CLASS,
        a_string=st.text(),
        a_bool=st.booleans(),
        a_int32=st.integers(-(2**31), 2**31 - 1),
        a_uint64=st.integers(0, 2**64 - 1),
        a_int64=st.integers(-(2**63), 2**63 - 1),
        a_double=st.floats(),
    )
)
def test_a_message_is_read_as_json_format_would(message):
    assert repr(json_format.MessageToDict(message)) == repr(TYPE.unpack(message.SerializeToString()))


def test_a_message_that_holds_another_has_no_short_way():
    assert flat(POOL.FindMessageTypeByName("t.Holder")) is None
    assert flat(FLAT) is not None
