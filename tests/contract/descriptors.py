"""Contracts and messages at random: a file of proto2, proto3 or an edition, with messages, enums, maps, oneofs and groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

F = FieldDescriptorProto
IMPORTS = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
SCALARS = [number for number in range(1, 19) if number not in {F.TYPE_GROUP, F.TYPE_MESSAGE, F.TYPE_ENUM}]
KEYS = [kind for kind in SCALARS if kind not in {F.TYPE_FLOAT, F.TYPE_DOUBLE, F.TYPE_BYTES}]
KNOWN = [
    *("Any", "Duration", "Empty", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"),
    *("BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value", "StringValue", "UInt32Value"),
]
# What a Python keyword, a method of the runtime's messages or our own variables are called is a name like any other.
NAMES = ["a", "an_id", "from", "HasField", "v", "key", "f0", "b_1", "_c", "get", "x__y", "ABC", "m"]


@dataclass(frozen=True)
class World:
    """One contract; `kind` is the message that is looked at."""

    pool: DescriptorPool
    kind: Descriptor

    @property
    def make(self) -> Callable[..., Any]:
        return GetMessageClass(self.kind)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    syntax = draw(st.sampled_from(["proto2", "proto3", "editions"]))
    file = FileDescriptorProto(name="random.proto", package="r", syntax=syntax)
    if syntax == "editions":
        file.edition = descriptor_pb2.EDITION_2023
    file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTS)
    enum = file.enum_type.add(name="Hue")
    for number, name in enumerate(["NONE", "RED", "GREEN_ISH"] if syntax != "proto2" else ["RED", "GREEN_ISH"]):
        enum.value.add(name=name, number=number)
    enum.options.allow_alias = True
    enum.value.add(name="SCARLET", number=1)
    for at in range(draw(st.integers(1, 3))):
        _message(draw, file, f"M{at}", syntax)
    pool = DescriptorPool()
    for module in IMPORTS:
        known = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(known)
        pool.Add(known)
    pool.Add(file)
    return World(pool, pool.FindMessageTypeByName("r.M0"))


def _message(draw: st.DrawFn, file: FileDescriptorProto, name: str, syntax: str) -> None:
    message = file.message_type.add(name=name)
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=7, unique_by=lambda one: one.replace("_", "").lower()))
    numbers = draw(st.lists(st.integers(1, 3000), min_size=len(names), max_size=len(names), unique=True))
    has_oneof = draw(st.booleans())
    if has_oneof:
        message.oneof_decl.add(name="either")
    for at, (field_name, number) in enumerate(zip(names, numbers, strict=True)):
        field = message.field.add(name=field_name, number=number)
        _typed(draw, field, message, syntax, len(file.message_type))
        in_oneof = has_oneof and (at == 0 or draw(st.booleans()))
        field.label = draw(st.sampled_from([F.LABEL_OPTIONAL, F.LABEL_OPTIONAL, F.LABEL_REPEATED]))
        if in_oneof:
            field.label = F.LABEL_OPTIONAL
            field.oneof_index = 0
        elif field.type != F.TYPE_GROUP and draw(st.integers(0, 5)) == 0:
            _as_map(draw, field, message)
        _featured(draw, field, syntax, in_oneof=in_oneof)


def _featured(draw: st.DrawFn, field: FieldDescriptorProto, syntax: str, *, in_oneof: bool) -> None:
    """What options and an edition's features change of the wire form and of presence."""
    delimited = {F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_MESSAGE, F.TYPE_GROUP}
    features = field.options.features
    if syntax != "editions":
        if field.label == F.LABEL_REPEATED and field.type not in delimited:
            field.options.packed = draw(st.booleans())
        return
    if field.label == F.LABEL_OPTIONAL and not in_oneof and field.type not in {F.TYPE_MESSAGE, F.TYPE_ENUM}:
        features.field_presence = draw(st.sampled_from([features.EXPLICIT, features.IMPLICIT]))
    if field.type_name.startswith(".r.M") and not field.type_name.endswith("Entry"):
        features.message_encoding = draw(st.sampled_from([features.LENGTH_PREFIXED, features.DELIMITED]))


def _typed(draw: st.DrawFn, field: FieldDescriptorProto, message: Any, syntax: str, made: int) -> None:
    way = draw(st.sampled_from(["scalar", "scalar", "enum", "known", "message", "group"]))
    if way == "scalar" or (way == "group" and syntax != "proto2"):
        field.type = draw(st.sampled_from(SCALARS))
    elif way == "enum":
        field.type, field.type_name = F.TYPE_ENUM, draw(st.sampled_from([".r.Hue", ".google.protobuf.NullValue"]))
        if field.type_name != ".r.Hue" and syntax == "proto2":
            field.type_name = ".r.Hue"
    elif way == "group":
        group = message.nested_type.add(name=f"G{field.number}")
        group.field.add(name="inside", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
        field.type, field.type_name = F.TYPE_GROUP, f".r.{message.name}.{group.name}"
    else:
        field.type = F.TYPE_MESSAGE
        known = f".google.protobuf.{draw(st.sampled_from(KNOWN))}"
        field.type_name = known if way == "known" else f".r.M{draw(st.integers(0, made - 1))}"


def _as_map(draw: st.DrawFn, field: FieldDescriptorProto, message: Any) -> None:
    camel = "".join(part[:1].upper() + part[1:] for part in field.name.split("_"))
    entry = message.nested_type.add(name=f"{camel}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=F.LABEL_OPTIONAL, type=draw(st.sampled_from(KEYS)))
    value = entry.field.add(name="value", number=2, label=F.LABEL_OPTIONAL, type=field.type)
    if field.type_name:
        # A null in a map is NullValue's to us, and refused by json_format.
        value.type_name = field.type_name.replace(".google.protobuf.NullValue", ".r.Hue")
    field.label, field.type, field.type_name = F.LABEL_REPEATED, F.TYPE_MESSAGE, f".r.{message.name}.{entry.name}"


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0, 1, 127, 128, 16383, 16384]))


VALUES: dict[int, st.SearchStrategy[Any]] = {
    F.TYPE_STRING: st.text(max_size=6),
    F.TYPE_BYTES: st.binary(max_size=6),
    F.TYPE_BOOL: st.booleans(),
    F.TYPE_FLOAT: st.floats(width=32),
    F.TYPE_DOUBLE: st.floats(),
    **dict.fromkeys([F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32], integers(32, signed=True)),
    **dict.fromkeys([F.TYPE_UINT32, F.TYPE_FIXED32], integers(32, signed=False)),
    **dict.fromkeys([F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64], integers(64, signed=True)),
    **dict.fromkeys([F.TYPE_UINT64, F.TYPE_FIXED64], integers(64, signed=False)),
}


def fill(draw: st.DrawFn, message: Any, world: World, depth: int = 3) -> None:
    """Set some of a message's fields to anything that the runtime takes."""
    full = message.DESCRIPTOR.full_name
    if full.startswith("google.protobuf."):
        _fill_known(draw, message, full.rpartition(".")[2], world, depth)
        return
    for field in message.DESCRIPTOR.fields:
        if draw(st.booleans()) and not (field.message_type is not None and depth == 0):
            _fill_field(draw, message, field, world, depth)


def _fill_field(draw: st.DrawFn, message: Any, field: FieldDescriptor, world: World, depth: int) -> None:
    if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        for one in draw(st.lists(VALUES[key.type], max_size=2, unique=True)):
            if value.message_type is not None:
                fill(draw, getattr(message, field.name)[one], world, depth - 1)
            else:
                getattr(message, field.name)[one] = _scalar(draw, value)
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, 3))):
            if field.message_type is not None:
                fill(draw, getattr(message, field.name).add(), world, depth - 1)
            else:
                getattr(message, field.name).append(_scalar(draw, field))
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
        fill(draw, getattr(message, field.name), world, depth - 1)
    else:
        setattr(message, field.name, _scalar(draw, field))


def _scalar(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.enum_type is None:
        return draw(VALUES[field.type])
    known = [value.number for value in field.enum_type.values]
    return draw(st.sampled_from(known if field.enum_type.is_closed else [*known, 7, -1, 2**31 - 1]))


def _fill_known(draw: st.DrawFn, message: Any, name: str, world: World, depth: int) -> None:
    if name == "Timestamp":
        message.seconds = draw(st.one_of(st.integers(-62135596801, 253402300800), st.sampled_from([0, 1])))
        message.nanos = draw(st.one_of(st.integers(-1, 10**9), st.sampled_from([0, 5 * 10**8, 123_000])))
    elif name == "Duration":
        message.seconds = draw(st.one_of(st.integers(-315576000001, 315576000001), st.sampled_from([0, 1, -1])))
        message.nanos = draw(st.one_of(st.integers(-(10**9), 10**9), st.sampled_from([0, 5 * 10**8, -123_000])))
    elif name == "FieldMask":
        message.paths.extend(draw(st.lists(st.sampled_from(["a", "a_b.c", "x.y_z", "1", "A", "a__b", "a_1", "_a"]), max_size=2)))
    elif name == "Any":
        if draw(st.booleans()):
            inner = world.make() if draw(st.booleans()) else draw(st.sampled_from([duration_pb2.Duration, empty_pb2.Empty]))()
            if depth:
                fill(draw, inner, world, depth - 1)
            message.type_url = f"type.googleapis.com/{inner.DESCRIPTOR.full_name}"
            message.value = inner.SerializePartialToString()
    elif name in {"Struct", "Value", "ListValue"}:
        _fill_json(draw, message, name, depth)
    elif name != "Empty":
        message.value = draw(VALUES[message.DESCRIPTOR.fields_by_name["value"].type])


def _fill_json(draw: st.DrawFn, message: Any, name: str, depth: int) -> None:
    if name == "Struct":
        for key in draw(st.lists(st.text(max_size=3), max_size=2, unique=True)):
            _fill_json(draw, message.fields[key], "Value", depth - 1)
    elif name == "ListValue":
        for _ in range(draw(st.integers(0, 2))):
            _fill_json(draw, message.values.add(), "Value", depth - 1)
    else:
        _fill_value(draw, message, depth)


def _fill_value(draw: st.DrawFn, message: Any, depth: int) -> None:
    kind = draw(st.sampled_from(["null", "bool", "number", "string", "none", *(["struct", "list"] if depth > 0 else [])]))
    if kind == "null":
        message.null_value = 0
    elif kind == "bool":
        message.bool_value = draw(st.booleans())
    elif kind == "number":
        message.number_value = draw(st.floats())
    elif kind == "string":
        message.string_value = draw(st.text(max_size=4))
    elif kind == "struct":
        message.struct_value.SetInParent()
        _fill_json(draw, message.struct_value, "Struct", depth)
    elif kind == "list":
        message.list_value.SetInParent()
        _fill_json(draw, message.list_value, "ListValue", depth)


@st.composite
def messages(draw: st.DrawFn) -> tuple[World, Any]:
    """A contract, and a message of it."""
    world = draw(worlds())
    message = world.make()
    fill(draw, message, world)
    return world, message
