"""Readers: a JSON value to the wire form of a message type, by a function written for the type.

The fields come in the order of their numbers, as every runtime writes them. Keys are JSON names on the straight way; what
has other keys (names of the .proto, names that are no field's) is put in order once, and then goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from adapters.codec.protobuf import scalar, wire
from adapters.codec.protobuf.member import arranging, beside, lacking, twice
from adapters.codec.protobuf.shape import entry, is_map, is_required, takes_null
from adapters.codec.protobuf.source import Source, indented
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS, special_reader
from adapters.codec.protobuf.wire import DELIMITED, END, FIXED32, FIXED64, START, VARINT, tag
from adapters.codec.protobuf.wrong import WRONG, located, members
from gateway.codec import ABSENT, Value

Read = Callable[[Value], bytes]
F = FieldDescriptor
_SIZED = "SMALL[len({v})] if len({v}) < 2048 else varint(len({v})), {v}"
_VARINT = "SMALL[{v}] if 0 <= {v} < 2048 else varint({v})"
_ZIGZAG = "varint(({v} << 1) ^ ({v} >> 63))"


def _ranged(name: str, low: int, high: int) -> str:
    return f"if type({{v}}) is not int or not {low} <= {{v}} <= {high}: {{v}} = {name}({{v}})"


_INT32 = _ranged("int32", -(2**31), 2**31 - 1)
_UINT32 = _ranged("uint32", 0, 2**32 - 1)
_INT64 = _ranged("int64", -(2**63), 2**63 - 1)
_UINT64 = _ranged("uint64", 0, 2**64 - 1)
_DOUBLE = "if type({v}) is not float or not -DOUBLE_MAX <= {v} <= DOUBLE_MAX: {v} = double({v})"
_FLOAT = "if type({v}) is not float or not -FLOAT_MAX <= {v} <= FLOAT_MAX: {v} = float32({v})"

# By type: how the value is converted, what it is on the wire, and its wire type.
_SCALARS: Mapping[int, tuple[tuple[str, ...], str, int]] = {
    F.TYPE_STRING: (("if type({v}) is not str: not_a_string({v})", "{v} = {v}.encode()"), _SIZED, DELIMITED),
    F.TYPE_BYTES: (("{v} = base64({v})",), _SIZED, DELIMITED),
    F.TYPE_BOOL: (("if {v} is not True and {v} is not False: not_a_bool({v})",), "b'\\x01' if {v} else b'\\x00'", VARINT),
    F.TYPE_INT32: ((_INT32,), _VARINT, VARINT),
    F.TYPE_UINT32: ((_UINT32,), _VARINT, VARINT),
    F.TYPE_INT64: ((_INT64,), _VARINT, VARINT),
    F.TYPE_UINT64: ((_UINT64,), _VARINT, VARINT),
    F.TYPE_SINT32: ((_INT32,), _ZIGZAG, VARINT),
    F.TYPE_SINT64: ((_INT64,), _ZIGZAG, VARINT),
    F.TYPE_FIXED32: ((_UINT32,), "pack_fixed32({v})", FIXED32),
    F.TYPE_FIXED64: ((_UINT64,), "pack_fixed64({v})", FIXED64),
    F.TYPE_SFIXED32: ((_INT32,), "pack_sfixed32({v})", FIXED32),
    F.TYPE_SFIXED64: ((_INT64,), "pack_sfixed64({v})", FIXED64),
    F.TYPE_FLOAT: ((_FLOAT, "{v} = pack_float({v})"), "{v}", FIXED32),
    F.TYPE_DOUBLE: ((_DOUBLE, "{v} = pack_double({v})"), "{v}", FIXED64),
}
_ZEROS = {F.TYPE_FLOAT: bytes(4), F.TYPE_DOUBLE: bytes(8)}
_ENUM = "{v} = ({names}.get({v}) or {convert}({v})) if type({v}) is str else {convert}({v})"
_ENUM_OR_NULL = "{v} = 0 if {v} is None else {convert}({v})"
_WORDS: dict[str, Any] = {
    name: getattr(scalar, name)
    for name in (
        *("not_a_string", "not_a_bool", "not_an_array", "flag", "base64", "double", "float32"),
        *("int32", "uint32", "int64", "uint64", "pack_float", "pack_double"),
        *("pack_fixed32", "pack_fixed64", "pack_sfixed32", "pack_sfixed64", "DOUBLE_MAX", "FLOAT_MAX"),
    )
} | {
    "ABSENT": ABSENT,
    "SMALL": wire.SMALL,
    "WRONG": WRONG,
    "beside": beside,
    "located": located,
    "members": members,
    "twice": twice,
    "varint": wire.varint,
}


class Readers:
    """The readers of one pool's types, each made when it is first asked for.

    `lenient`: fields and enum values that the type does not have are left out. `whole`: what is required must be there.
    """

    def __init__(self, pool: DescriptorPool, *, lenient: bool, whole: bool) -> None:
        self._pool = pool
        self._lenient = lenient
        self._whole = whole
        self._source = Source(_WORDS)
        self._names: dict[str, str] = {}
        self._enums: dict[str, tuple[str, str]] = {}

    def of(self, descriptor: Descriptor) -> Read:
        """The reader of a type. It raises WrongError or UnicodeEncodeError."""
        return self._source.function(self._name(descriptor))

    def named(self, name: str) -> tuple[Descriptor, Read]:
        """The reader of the type that an Any names. Raises KeyError."""
        descriptor = self._pool.FindMessageTypeByName(name)
        return descriptor, self.of(descriptor)

    def _name(self, descriptor: Descriptor) -> str:
        name = self._names.get(descriptor.full_name)
        if name is None:
            if descriptor.full_name in SPECIAL:
                name = self._source.constant(special_reader(descriptor.full_name, self.named), "read")
                self._names[descriptor.full_name] = name
                return name
            # Before its body: a type may hold itself.
            name = self._names[descriptor.full_name] = self._source.reserve("read")
            wrapper = descriptor.full_name in WRAPPERS
            self._source.add(f"{name}(value)", self._wrapper(descriptor) if wrapper else self._message(descriptor))
        return name

    def _wrapper(self, descriptor: Descriptor) -> list[str]:
        field = descriptor.fields_by_name["value"]
        return ["v = value", "out = ()", *self._singular(field, "out = ({})"), "return b''.join(out)"]

    def _message(self, descriptor: Descriptor) -> list[str]:
        fields = sorted(descriptor.fields, key=lambda field: field.number)
        known = self._source.constant(frozenset(field.json_name for field in fields).issuperset, "known")
        arranged = self._source.constant(arranging(fields, lenient=self._lenient), "arranged")
        needed = [field for field in fields if self._whole and is_required(field)]
        lines = ["if type(value) is not dict: value = members(value)", f"if not {known}(value): value = {arranged}(value)"]
        if not fields:
            return [*lines, "return b''"]
        groups = [oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1]
        lines += ["get = value.get", "out = []", "key = at = None", *(f"one_{oneof.index} = None" for oneof in groups)]
        if needed:
            lines.append(f"need = {len(needed)}")
        body = [line for field in fields for line in self._field(field, needed=field in needed)]
        lines += ["try:", *indented(body), "except WRONG as error: raise located(error, value, key, at) from None"]
        if needed:
            lines.append(f"if need: raise {self._source.constant(lacking(descriptor, needed), 'lacking')}(b''.join(out))")
        return [*lines, "return b''.join(out)"]

    def _field(self, field: FieldDescriptor, *, needed: bool) -> list[str]:
        if takes_null(field):
            lines = [f"v = get({field.json_name!r}, ABSENT)", "if v is not ABSENT:"]
        else:
            lines = [f"v = get({field.json_name!r})", "if v is not None:"]
        body = [f"key = {field.json_name!r}"]
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            one = f"one_{field.containing_oneof.index}"
            body += [f"if {one} is not None: beside({one})", f"{one} = key"]
        if is_map(field):
            body += self._map(field)
        elif field.is_repeated:
            body += self._repeated(field)
        else:
            body += self._singular(field, "out += ({})" + ("; need -= 1" if needed else ""))
        if needed and field.is_repeated:
            body.append("if v: need -= 1")
        return [*lines, *indented(body)]

    def _singular(self, field: FieldDescriptor, put: str) -> list[str]:
        convert, chunk, wire_type = self._single(field, "v")
        sent = put.format(f"{tag(field.number, wire_type)!r}, {chunk}")
        if field.has_presence:
            return [*convert, f"if v is not None: {sent}" if self._may_skip(field) else sent]
        zero = _ZEROS.get(field.type)
        return [*convert, f"if v != {zero!r}: {sent}" if zero else f"if v: {sent}"]

    def _repeated(self, field: FieldDescriptor) -> list[str]:
        convert, chunk, wire_type = self._single(field, "e")
        put = f"parts.append({chunk})" if field.is_packed else f"out += ({tag(field.number, wire_type)!r}, {chunk})"
        if self._may_skip(field):
            put = f"if e is not None: {put}"
        lines = ["if type(v) is not list: not_an_array(v)", *(["parts = []"] if field.is_packed else [])]
        lines += ["for at, e in enumerate(v):", *indented([*convert, put]), "at = None"]
        if field.is_packed:
            whole = f"out += ({tag(field.number, DELIMITED)!r}, {_SIZED.format(v='e')})"
            lines += ["if parts:", *indented(["e = b''.join(parts)", whole])]
        return lines

    def _map(self, field: FieldDescriptor) -> list[str]:
        key, value = entry(field)
        convert_key, key_chunk, key_type = self._single(key, "k")
        if key.type == F.TYPE_BOOL:
            keyed = ["k = twice(flag(at), seen)"]
        elif key.type == F.TYPE_STRING:
            keyed = ["k = at", *convert_key]
        else:  # 1 and 01 are one key
            keyed = ["k = at", "if type(k) is not str: not_a_string(k)", *convert_key, "k = twice(k, seen)"]
        convert, chunk, wire_type = self._single(value, "e")
        pair = f"b = b''.join(({tag(1, key_type)!r}, {key_chunk}, {tag(2, wire_type)!r}, {chunk}))"
        put = [pair, f"out += ({tag(field.number, DELIMITED)!r}, {_SIZED.format(v='b')})"]
        if self._may_skip(value):
            put = ["if e is not None:", *indented(put)]
        lines = ["if type(v) is not dict: v = members(v)", *([] if key.type == F.TYPE_STRING else ["seen = set()"])]
        return [*lines, "for at, e in v.items():", *indented([*keyed, *convert, *put]), "at = None"]

    def _may_skip(self, field: FieldDescriptor) -> bool:
        """Whether a value may be one to leave out: a name that its enum does not have."""
        return self._lenient and field.enum_type is not None

    def _single(self, field: FieldDescriptor, v: str) -> tuple[list[str], str, int]:
        """How one value in the variable `v` is converted, what it is on the wire, and its wire type."""
        if field.message_type is not None:
            convert = [f"{v} = {self._name(field.message_type)}({v})"]
            if field.type == F.TYPE_GROUP:
                return convert, f"{v}, {tag(field.number, END)!r}", START
            return convert, _SIZED.format(v=v), DELIMITED
        if field.enum_type is not None:
            names, converter = self._enum(field.enum_type)
            line = _ENUM_OR_NULL if takes_null(field) else _ENUM
            return [line.format(v=v, names=names, convert=converter)], _VARINT.format(v=v), VARINT
        lines, chunk, wire_type = _SCALARS[field.type]
        return [line.format(v=v) for line in lines], chunk.format(v=v), wire_type

    def _enum(self, descriptor: EnumDescriptor) -> tuple[str, str]:
        found = self._enums.get(descriptor.full_name)
        if found is None:
            names = {value.name: value.number for value in descriptor.values}
            convert = scalar.enum(names, closed=descriptor.is_closed, lenient=self._lenient)
            found = self._source.constant(names, "names"), self._source.constant(convert, "enum")
            self._enums[descriptor.full_name] = found
        return found
