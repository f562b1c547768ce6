"""The compiled codec and protobuf's own json_format say the same, of any message of any contract."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import descriptor_pb2, json_format
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from adapters.codec.protobuf import MessageType, Pool
from gateway.codec import JsonOptions
from gateway.errors import CallerError
from tests.contract.descriptors import World, messages

THOROUGH = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def kind_of(world: World, **options: Any) -> MessageType:
    return MessageType(world.kind, Pool(world.pool), JsonOptions(**options))


def theirs(world: World, message: Any, **options: Any) -> str | None:
    try:
        return json_format.MessageToJson(message, descriptor_pool=world.pool, **options)
    except (json_format.SerializeToJsonError, ValueError, TypeError) as error:
        note(f"json_format: {error}")
        return None


def ours(call: Any, body: bytes) -> bytes | None:
    try:
        return call(body)
    except CallerError as error:
        note(f"ours: {error} {error.details}")
        return None


def plain(text: str | bytes) -> str:
    """What a JSON text says: maps have no order."""
    return json.dumps(json.loads(text), sort_keys=True)


@THOROUGH
@given(messages())
def test_a_message_has_the_same_json(drawn):
    world, message = drawn
    shown = ours(kind_of(world).unpack_json, message.SerializePartialToString())
    expected = theirs(world, message)
    if expected is None:
        assert shown is None
    else:
        assert shown is not None
        assert plain(expected) == plain(shown)


@THOROUGH
@given(messages())
def test_defaults_numbers_and_names_are_shown_as_asked_for(drawn):
    world, message = drawn
    body = message.SerializePartialToString()
    for options, asked in (
        ({"defaults": True}, {"always_print_fields_with_no_presence": True}),
        ({"proto_names": True}, {"preserving_proto_field_name": True}),
        ({"enum_numbers": True}, {"use_integers_for_enums": True}),
    ):
        shown, expected = ours(kind_of(world, **options).unpack_json, body), theirs(world, message, **asked)
        if expected is None or shown is None:
            assert expected is shown
        elif "NullValue" not in str(world.kind.file.serialized_pb):  # by number it is 0 to json_format, and null to the mapping
            assert plain(expected) == plain(shown)


def parsed(world: World, text: bytes, **options: Any) -> Any:
    try:
        return json_format.Parse(text, world.make(), descriptor_pool=world.pool, **options)
    except (json_format.ParseError, ValueError, TypeError) as error:
        note(f"json_format: {error}")
        return None


@THOROUGH
@given(messages(), st.booleans(), st.booleans(), st.booleans())
def test_json_has_the_same_bytes(drawn, proto_names, numbers, defaults):
    world, message = drawn
    text = theirs(
        world,
        message,
        preserving_proto_field_name=proto_names,
        use_integers_for_enums=numbers,
        always_print_fields_with_no_presence=defaults,
    )
    if text is None:
        return
    expected = parsed(world, text.encode())
    packed = ours(kind_of(world).part.pack_json, text.encode())
    note(text)
    if expected is None or packed is None:
        assert expected is packed or too_large_for_them(text)
    else:
        same(world, expected, packed)
        assert packed == kind_of(world).part.pack(json.loads(text))


def too_large_for_them(text: str) -> bool:
    """json_format cannot read the largest float that it writes: it compares nine digits of it with the exact value."""
    return "3.4028235e+38" in text


def same(world: World, expected: Any, packed: bytes) -> None:
    """The same bytes; with maps, which have no order, the same message."""
    if expected.SerializePartialToString() != packed:
        assert any(holder in text_of(world) for holder in ("map_entry", "Struct", "Value", "Any"))
        again = world.make.FromString(packed)
        if expected.SerializePartialToString(deterministic=True) != again.SerializePartialToString(deterministic=True):
            # In an Any, maps are bytes, and in whatever order.
            assert "Any" in text_of(world)
            assert plain(theirs(world, expected) or "null") == plain(theirs(world, again) or "null")


def text_of(world: World) -> str:
    proto = descriptor_pb2.FileDescriptorProto()
    world.kind.file.CopyToProto(proto)
    return str(proto)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1.0, 1.5, -0.0, 1e2, 2**31, -(2**31) - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 1e300]),
    st.sampled_from(
        ["", "a", "RED", "1", "-1", "1.0", "1e2", "1.5s", "2026-11-21T10:51:26Z", "YQ==", "YQ", "NaN", "Infinity", "a,bC"]
    ),
    st.just([]),
    st.just({}),
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2))


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[World, Any]:
    """JSON of a message with a thing changed."""
    world, message = draw(messages())
    text = theirs(world, message)
    value = json.loads(text) if text is not None else {}
    for _ in range(draw(st.integers(1, 2))):
        at: Any = value
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
            if not (isinstance(at[key], dict | list) and at[key]) or draw(st.booleans()):
                way = draw(st.sampled_from(["change", "change", "change", "drop", "add"]))
                if way == "change":
                    at[key] = draw(JSON)
                elif way == "drop":
                    del at[key]
                elif isinstance(at, dict):
                    names = [name for field in world.kind.fields for name in (field.name, field.json_name)]
                    at[draw(st.sampled_from([*names, "nonsense", "@type"]))] = draw(JSON)
                else:
                    at.append(draw(JSON))
                break
            at = at[key]
    return world, value


# What json_format takes and we do not: whose value is what, by our words for it.
STRICTER = {
    "is beyond the range of a signed integer of 32 bits": lambda value: isinstance(value, int),  # an enum's number
    "is not an object": lambda value: value in ([], ""),
    "is given by both of its names": lambda _value: True,
    "is not a number": lambda value: isinstance(value, bool),
    "is not a whole number": lambda value: isinstance(value, bool | float),  # an enum's 1.5 and true would be 1
    "is no value of its enum": lambda value: isinstance(value, float | bool),
    'has not just "value" beside @type': lambda _value: True,
    "is a key that stands twice": lambda _value: True,
    "is not a list of field paths in lowerCamelCase": lambda _value: False,
    "is a whole number in floating point, too large to be exact": lambda _value: False,
}


def at(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@THOROUGH
@given(spoilt(), st.booleans())
def test_json_that_was_spoilt_is_refused_or_has_the_same_bytes(drawn, lenient):
    world, value = drawn
    text = json.dumps(value).encode()
    note(text.decode())
    expected = parsed(world, text, ignore_unknown_fields=lenient)
    kind = kind_of(world, unknown="ignore" if lenient else "reject").part
    try:
        packed = kind.pack_json(text)
    except CallerError as error:
        if expected is not None:
            (detail,) = error.details
            note(f"ours: {error}")
            assert STRICTER[detail.detail](at(value, detail.pointer))
    else:
        if expected is None:
            assert too_large_for_them(text.decode())
            return
        same(world, expected, packed)
        assert packed == kind.pack(value)
