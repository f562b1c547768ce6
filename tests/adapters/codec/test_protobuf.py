"""Protobuf by its contracts: a message with a field of every kind, one of plain scalars, and what is none of either."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.json import FORMAT as JSON
from adapters.codec.protobuf import FORMAT
from gateway.codec import NOTHING_GIVEN
from gateway.errors import CallerError, Reason
from gateway.message import Many
from gateway.transcode import transcode
from tests.contract.codec import SECRET, FormatContract
from tests.contract.schema import descriptor_set

CONTRACTS = FORMAT.contracts([descriptor_set()])
BAG = CONTRACTS.methods["test.v1.Bags/Take"].request
PLAIN = CONTRACTS.methods["test.v1.Bags/Plain"].request

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False).filter(bool)


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high).filter(bool)


def message(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Canonical JSON: a field that has its default is left out."""
    return st.fixed_dictionaries({}, optional=fields)


INT32, UINT32 = whole(-(2**31), 2**31 - 1), whole(0, 2**32 - 1)
PLAINS = message(
    aString=WORDS,
    aBool=st.just(True),
    anInt32=INT32,
    aUint32=UINT32,
    anSint32=INT32,
    aFixed32=UINT32,
    anInt64=whole(-(2**63), 2**63 - 1).map(str),
    aUint64=whole(0, 2**64 - 1).map(str),
    aDouble=DOUBLES,
)
FREE = st.recursive(
    st.none() | st.booleans() | WORDS | st.integers(-(2**50), 2**50).map(float),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
BAGS = st.recursive(
    message(text=WORDS),
    lambda inner: message(
        text=WORDS,
        data=st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode()),
        aFloat=st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool).map(lambda number: float(f"{number:.6g}")),
        colour=st.sampled_from(["RED", "GREEN"]),
        inner=inner,
        many=st.lists(PLAINS, min_size=1, max_size=3),
        words=st.lists(WORDS, min_size=1, max_size=3),
        counts=st.dictionaries(WORDS, st.integers(-(2**63), 2**63 - 1).map(str), min_size=1, max_size=3),
        struct=st.dictionaries(WORDS, FREE, max_size=3),
        any=st.fixed_dictionaries({"@type": st.just("type.googleapis.com/google.protobuf.Duration"), "value": st.just("3s")}),
        time=st.just("2026-01-02T03:04:05.006Z"),
        span=st.just("1.500s"),
        wrapped=st.integers(-(2**63), 2**63 - 1).map(str),
    ),
    max_leaves=4,
)


def nested(depth: int) -> bytes:
    """A Bag inside a Bag, so deep."""
    body = b""
    for _ in range(depth):
        body = b"\x2a" + varint(len(body)) + body
    return body


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def nested_struct(depth: int) -> bytes:
    """Bag.struct = {"a": {"a": ...}}, so deep, on the wire."""
    struct = b""
    for _ in range(depth):
        value = b"\x2a" + varint(len(struct)) + struct  # Value.struct_value
        entry = b"\x0a\x01a\x12" + varint(len(value)) + value
        struct = b"\x0a" + varint(len(entry)) + entry
    return b"\x4a" + varint(len(struct)) + struct


def nested_any(depth: int) -> bytes:
    """Bag.any = an Any in an Any, so deep, on the wire."""
    url = b"type.googleapis.com/google.protobuf.Any"
    body = b""
    for _ in range(depth):
        body = b"\x0a" + varint(len(url)) + url + b"\x12" + varint(len(body)) + body
    return b"\x52" + varint(len(body)) + body


def struct_json(depth: int) -> object:
    value: object = {}
    for _ in range(depth):
        value = {"a": value}
    return {"struct": value}


def any_json(depth: int) -> object:
    value: object = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    for _ in range(depth):
        value = {"@type": "type.googleapis.com/google.protobuf.Any", "value": value}
    return {"any": value}


BROKEN = {
    "truncated in a tag": b"\x80",
    "truncated in a length": b"\x0a",
    "truncated in a string": b"\x0a\x10" + SECRET[:8].encode(),
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
    "field number 0": b"\x02\x00",
    "wire type 7": b"\x0f",
    "an end of no group": b"\x0c",
    "a varint of 11 bytes": b"\x18" + b"\xff" * 11,
    "bad UTF-8 in a string": b"\x0a\x01\xff",
}
DEEP = {
    "nesting over 100": nested(101),
    "nesting of 10,000": nested(10_000),
    "a Struct 400 deep": nested_struct(400),
    "an Any of a type that nobody knows": b"\x52\x07\x0a\x05x.y/z",
    "an Any 400 deep": nested_any(400),
}


class TestContractOfAPlainMessage(FormatContract):
    form = FORMAT
    kinds = (PLAIN,)
    values = PLAINS
    refused = tuple(BROKEN.values())


class TestContractOfAnyMessage(FormatContract):
    form = FORMAT
    kinds = (BAG,)
    values = BAGS
    refused = (*BROKEN.values(), *DEEP.values())


def test_a_wrong_wire_type_is_an_unknown_field_as_protobuf_has_it():
    """The spec wants 400 for it; every protobuf runtime keeps such a field as unknown, and a record has none of it."""
    assert {} == FORMAT.codec(PLAIN).decode(b"\x08\x01")


@given(PLAINS)
def test_json_to_protobuf_and_back_is_the_same(value):
    there, back = transcode(JSON, FORMAT, PLAIN), transcode(FORMAT, JSON, PLAIN)
    assert value == json.loads(back(there(json.dumps(value).encode(), NOTHING_GIVEN), NOTHING_GIVEN))


@given(BAGS)
def test_json_to_protobuf_and_back_is_the_same_for_any_message(value):
    there, back = transcode(JSON, FORMAT, BAG), transcode(FORMAT, JSON, BAG)
    assert value == json.loads(back(there(json.dumps(value).encode(), NOTHING_GIVEN), NOTHING_GIVEN))


@given(PLAINS)
def test_proto_names_are_taken_too_and_made_canonical(value):
    snake = {
        "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name): part for name, part in value.items()
    }
    assert value == PLAIN.check(snake)


@given(st.dictionaries(st.sampled_from([*PLAIN.fields, "nonsense"]), FREE | DOUBLES | st.integers(), max_size=4))
def test_check_and_pack_refuse_and_mean_the_same(value):
    try:
        checked = PLAIN.check(value)
    except CallerError:
        with pytest.raises(CallerError):
            PLAIN.pack(value)
    else:
        assert checked == PLAIN.unpack(PLAIN.pack(value))


WRONG = {
    "an array": [],
    "null": None,
    "a string": "tea",
    "an unknown field": {"nonsense": 1},
    "a number for a string": {"aString": 1},
    "a string for a bool": {"aBool": "true"},
    "a fraction": {"anInt32": 1.5},
    "an int32 beyond its range": {"anInt32": 2**31},
    "a negative uint32": {"aUint32": -1},
    "an int64 beyond its range": {"anInt64": "9223372036854775808"},
    "a list for one": {"anInt32": [1]},
    "the same field by two names": {"anInt32": 1, "an_int32": 1},
    "a number that is text": {"aDouble": "two"},
}
WRONG_BAGS = {
    "a field by two names, inside": ({"inner": {"a_float": 1, "aFloat": 1}}, "/inner/aFloat"),
    "a field by two names, in a list": ({"many": [{}, {"an_int32": 1, "anInt32": 1}]}, "/many/1/anInt32"),
    "no base64": ({"data": "?"}, "/data"),
    "no base64, inside": ({"inner": {"data": "YQ==YQ"}}, "/inner/data"),
    "an unknown field": ({"nonsense": 1}, "/nonsense"),
    "an unknown field, inside": ({"inner": {"nonsense": 1}}, "/inner/nonsense"),
    "an unknown field, in a list": ({"many": [{}, {"nonsense": 1}]}, "/many/1/nonsense"),
    "no bool, in a list": ({"many": [{}, {"aBool": 1}]}, "/many/1/aBool"),
    "no colour": ({"colour": "PINK"}, "/colour"),
    "no time": ({"inner": {"time": "noon"}}, "/inner/time"),
    "no text": ({"words": ["a", 1]}, "/words/1"),
    "an unknown type": ({"any": {"@type": "x.y/z"}}, "/any"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_json_mapping_does_not_take_is_malformed(name):
    for function in (PLAIN.check, PLAIN.pack):
        with pytest.raises(CallerError) as caught:
            function(WRONG[name])
        assert Reason.MALFORMED is caught.value.reason


@pytest.mark.parametrize("name", WRONG_BAGS)
def test_the_field_that_is_wrong_is_named(name):
    value, pointer = WRONG_BAGS[name]
    with pytest.raises(CallerError) as caught:
        BAG.check(value)
    assert Reason.MALFORMED is caught.value.reason
    assert [pointer] == [detail.pointer for detail in caught.value.details]


@pytest.mark.parametrize("data", ["YQ==", "YQ", "-_8=", "+/8", ""])
def test_both_alphabets_of_base64_are_taken_with_padding_or_without(data):
    assert BAG.check({"data": data}) in ({"data": "YQ=="}, {"data": "+/8="}, {})


@pytest.mark.parametrize(
    "value", [struct_json(400), any_json(400), struct_json(98), {"inner": {}}], ids=["struct", "any", "98", "1"]
)
def test_json_that_is_nested_too_deeply_for_its_type_is_malformed_and_never_a_crash(value):
    try:
        packed = BAG.pack(value)
    except CallerError:
        assert value != {"inner": {}}
    else:
        assert value == BAG.unpack(packed)


@pytest.mark.parametrize("depth", [100, 400])
def test_a_struct_or_any_400_deep_is_refused(depth):
    for value in (struct_json(depth), any_json(depth)):
        with pytest.raises(CallerError):
            BAG.pack(value)
    for body in (nested_struct(depth), nested_any(depth)):
        with pytest.raises(CallerError):
            BAG.unpack(body)


def test_contracts_say_which_sides_stream():
    pour, take = CONTRACTS.methods["test.v1.Bags/Pour"], CONTRACTS.methods["test.v1.Bags/Take"]
    assert (Many.BOTH, Many.NEITHER) == (pour.many, take.many)
    assert "test.v1.Bag" == take.request.name
    assert {"text", "aFloat", "a_float"} <= set(take.request.fields)


@pytest.mark.parametrize("body", [b"\xff\xff", b"nonsense", descriptor_set()[:-20]])
def test_what_is_no_descriptor_set_is_told_with_the_remedy(body):
    with pytest.raises(ValueError, match="FileDescriptorSet"):
        FORMAT.contracts([body])


def test_a_descriptor_set_without_its_imports_is_told_with_the_remedy():
    from google.protobuf import descriptor_pb2

    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set())
    files.file[-1].dependency.append("elsewhere.proto")
    with pytest.raises(ValueError, match="--include_imports"):
        FORMAT.contracts([files.SerializeToString()])
