"""Readers: a JSON value to the wire form of a message type, by a function written for the type.

The fields come in the order of their numbers, as every runtime writes them; each has a variable of its own, f0, f1 and so on,
for its bytes. Keys are JSON names on the straight way; what has other keys (names of the .proto, names that are no field's)
is put in order once, and then goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from adapters.codec.protobuf import scalar, wire
from adapters.codec.protobuf.depth import bounded, is_shallow
from adapters.codec.protobuf.member import arranging, beside, lacking, members, twice, unique
from adapters.codec.protobuf.shape import entry, is_map, is_required, takes_null
from adapters.codec.protobuf.source import Source, indented
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS, special_reader
from adapters.codec.protobuf.wire import DELIMITED, END, FIXED32, FIXED64, KNOWN, START, TABLED, VARINT, tag
from adapters.codec.protobuf.wrong import WRONG, located
from gateway.codec import ABSENT, Value

Read = Callable[[Value], bytes]
F = FieldDescriptor


class Single(NamedTuple):
    """One value in the variable {v}: how it is converted, and what is then written of it behind its tag."""

    convert: tuple[str, ...]
    wire_type: int
    written: str = "{v}"
    """Of a varint: the number that it writes."""
    behind: bytes = b""
    zero: bytes = b""
    """How the default is told from other values once it is converted; where it is not false."""


def _ranged(name: str, low: int, high: int) -> tuple[str, ...]:
    return (f"if type({{v}}) is not int or not {low} <= {{v}} <= {high}: {{v}} = {name}({{v}})",)


_INT32 = _ranged("int32", -(2**31), 2**31 - 1)
_UINT32 = _ranged("uint32", 0, 2**32 - 1)
# Most integers of 64 bits are strings of few digits. isdigit() alone would take those of every script.
_DIGITS = "if type({v}) is str and len({v}) < 19 and {v}.isdigit() and {v}.isascii(): {v} = int({v})"
_INT64 = (_DIGITS, "el" + _ranged("int64", -(2**63), 2**63 - 1)[0])
_UINT64 = (_DIGITS, "el" + _ranged("uint64", 0, 2**64 - 1)[0])
_DOUBLE = "{v} = pack_double({v} if type({v}) is float and -DOUBLE_MAX <= {v} <= DOUBLE_MAX else double({v}))"
_FLOAT = "{v} = pack_float({v} if type({v}) is float and -FLOAT_MAX <= {v} <= FLOAT_MAX else float32({v}))"
_ZIGZAG = "({v} << 1) ^ ({v} >> 63)"

_SCALARS: dict[int, Single] = {
    F.TYPE_STRING: Single(("if type({v}) is not str: not_a_string({v})", "{v} = {v}.encode()"), DELIMITED),
    F.TYPE_BYTES: Single(("{v} = base64({v})",), DELIMITED),
    F.TYPE_BOOL: Single(("if {v} is not True and {v} is not False: not_a_bool({v})",), VARINT),
    F.TYPE_INT32: Single(_INT32, VARINT),
    F.TYPE_UINT32: Single(_UINT32, VARINT),
    F.TYPE_INT64: Single(_INT64, VARINT),
    F.TYPE_UINT64: Single(_UINT64, VARINT),
    F.TYPE_SINT32: Single((*_INT32, "{v} = " + _ZIGZAG), VARINT),
    F.TYPE_SINT64: Single((*_INT64, "{v} = " + _ZIGZAG), VARINT),
    F.TYPE_FIXED32: Single(_UINT32, FIXED32, "pack_fixed32({v})"),
    F.TYPE_FIXED64: Single(_UINT64, FIXED64, "pack_fixed64({v})"),
    F.TYPE_SFIXED32: Single(_INT32, FIXED32, "pack_sfixed32({v})"),
    F.TYPE_SFIXED64: Single(_INT64, FIXED64, "pack_sfixed64({v})"),
    F.TYPE_FLOAT: Single((_FLOAT,), FIXED32, zero=bytes(4)),
    F.TYPE_DOUBLE: Single((_DOUBLE,), FIXED64, zero=bytes(8)),
}
_ENUM = "{{v}} = ({names}.get({{v}}) or {convert}({{v}})) if type({{v}}) is str else {convert}({{v}})"
_ENUM_OR_NULL = "{{v}} = 0 if {{v}} is None else {convert}({{v}})"
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
    "headed": wire.headed,
    "located": located,
    "members": members,
    "twice": twice,
    "unique": unique,
    "varint": wire.varint,
}
# What `members` does, less a call: an object comes as its pairs, or is a plain dict already.
_OPENED = (
    "if type(value) is tuple:",
    "    pairs = value",
    "    value = dict(pairs)",
    "    if len(value) < len(pairs): unique(pairs)",
    "elif type(value) is not dict: value = members(value)",
)


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
        self._tables: dict[bytes, str] = {}
        self._inside: dict[str, tuple[Descriptor, Read]] = {}
        self._unwritten: list[tuple[str, Descriptor]] = []

    def of(self, descriptor: Descriptor) -> Read:
        """The reader of a type. It raises WrongError or UnicodeEncodeError."""
        name = self._name(descriptor)
        # In a loop: a chain of types may be longer than Python's recursion.
        while self._unwritten:
            own, kind = self._unwritten.pop()
            self._source.add(f"{own}(value)", self._wrapper(kind) if kind.full_name in WRAPPERS else self._message(kind))
        return self._source.function(name)

    def named(self, name: str) -> tuple[Descriptor, Read]:
        """The reader of the type that an Any names. Raises KeyError."""
        found = self._inside.get(name)
        if found is None:
            descriptor = self._pool.FindMessageTypeByName(name)
            # What is in an Any is bytes to whoever looks at the depth of the whole.
            read = self.of(descriptor)
            found = self._inside[name] = descriptor, read if is_shallow(descriptor) else bounded(read, descriptor)
        return found

    def _name(self, descriptor: Descriptor) -> str:
        name = self._names.get(descriptor.full_name)
        if name is None:
            if descriptor.full_name in SPECIAL:
                name = self._source.constant(special_reader(descriptor.full_name, self.named), "read")
                self._names[descriptor.full_name] = name
                return name
            # Before its body: a type may hold itself.
            name = self._names[descriptor.full_name] = self._source.reserve("read")
            self._unwritten.append((name, descriptor))
        return name

    def _wrapper(self, descriptor: Descriptor) -> list[str]:
        return ["v = value", "f0 = b''", *self._singular(descriptor.fields_by_name["value"], "f0"), "return f0"]

    def _message(self, descriptor: Descriptor) -> list[str]:
        fields = sorted(descriptor.fields, key=lambda field: field.number)
        known = self._source.constant(frozenset(field.json_name for field in fields).issuperset, "known")
        arranged = self._source.constant(arranging(fields, lenient=self._lenient), "arranged")
        lines = [*_OPENED, f"if not {known}(value): value = {arranged}(value)"]
        if not fields:
            return [*lines, "return b''"]
        own = {field.number: f"f{at}" for at, field in enumerate(fields)}
        groups = [oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1]
        lines += ["get = value.get", f"{' = '.join(own.values())} = b''", "key = at = None"]
        lines += [f"one_{oneof.index} = None" for oneof in groups]
        body = [line for field in fields for line in self._field(field, own[field.number])]
        lines += ["try:", *indented(body), "except WRONG as error: raise located(error, value, key, at) from None"]
        needed = {field.json_name: own[field.number] for field in fields if self._whole and is_required(field)}
        if needed:
            lack = self._source.constant(lacking(tuple(needed)), "lacking")
            lines.append(f"if not ({' and '.join(needed.values())}): raise {lack}({', '.join(needed.values())})")
        return [*lines, f"return {'f0' if len(own) == 1 else f'''b''.join(({', '.join(own.values())}))'''}"]

    def _field(self, field: FieldDescriptor, own: str) -> list[str]:
        if takes_null(field):
            lines = [f"v = get({field.json_name!r}, ABSENT)", "if v is not ABSENT:"]
        else:
            lines = [f"v = get({field.json_name!r})", "if v is not None:"]
        body = [f"key = {field.json_name!r}"]
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            one = f"one_{field.containing_oneof.index}"
            body += [f"if {one} is not None: beside({one})", f"{one} = key"]
        if is_map(field):
            body += self._map(field, own)
        elif field.is_repeated:
            body += self._repeated(field, own)
        else:
            body += self._singular(field, own)
        return [*lines, *indented(body)]

    def _singular(self, field: FieldDescriptor, own: str) -> list[str]:
        single = self._single(field)
        sent = f"{own} = {self._sent(single, field.number, 'v')}"
        if field.has_presence:
            test = "if v is not None: " if self._may_skip(field) else ""
        else:
            test = f"if v != {single.zero!r}: " if single.zero else "if v: "
        return [*_lines(single, "v"), test + sent]

    def _repeated(self, field: FieldDescriptor, own: str) -> list[str]:
        single = self._single(field)
        put = f"put({self._bare(single, 'e') if field.is_packed else self._sent(single, field.number, 'e')})"
        if self._may_skip(field):
            put = f"if e is not None: {put}"
        lines = ["if type(v) is not list: not_an_array(v)", "parts = []", "put = parts.append"]
        lines += ["for at, e in enumerate(v):", *indented([*_lines(single, "e"), put]), "at = None"]
        if field.is_packed:
            return [*lines, "e = b''.join(parts)", f"if e: {own} = headed({tag(field.number, DELIMITED)!r}, e)"]
        return [*lines, f"{own} = b''.join(parts)"]

    def _map(self, field: FieldDescriptor, own: str) -> list[str]:
        key, value = entry(field)
        single_key, single = self._single(key), self._single(value)
        if key.type == F.TYPE_BOOL:
            keyed = ["k = twice(flag(at), seen)"]
        elif key.type == F.TYPE_STRING:
            keyed = ["k = at", *_lines(single_key, "k")]
        else:  # 1 and 01 are one key
            keyed = ["k = at", "if type(k) is not str: not_a_string(k)", *_lines(single_key, "k"), "k = twice(k, seen)"]
        put = f"put(headed({tag(field.number, DELIMITED)!r}, {self._sent(single_key, 1, 'k')} + {self._sent(single, 2, 'e')}))"
        if self._may_skip(value):
            put = f"if e is not None: {put}"
        lines = ["if type(v) is not dict: v = members(v)", "parts = []", "put = parts.append"]
        if key.type != F.TYPE_STRING:
            lines.append("seen = set()")
        lines += ["for at, e in v.items():", *indented([*keyed, *_lines(single, "e"), put]), "at = None"]
        return [*lines, f"{own} = b''.join(parts)"]

    def _may_skip(self, field: FieldDescriptor) -> bool:
        """Whether a value may be one to leave out: a name that its enum does not have."""
        return self._lenient and field.enum_type is not None

    def _single(self, field: FieldDescriptor) -> Single:
        if field.message_type is not None:
            convert = (f"{{v}} = {self._name(field.message_type)}({{v}})",)
            if field.type == F.TYPE_GROUP:
                return Single(convert, START, behind=tag(field.number, END))
            return Single(convert, DELIMITED)
        if field.enum_type is not None:
            names, convert_enum = self._enum(field.enum_type)
            line = _ENUM_OR_NULL if takes_null(field) else _ENUM
            return Single((line.format(names=names, convert=convert_enum),), VARINT)
        return _SCALARS[field.type]

    def _sent(self, single: Single, number: int, v: str) -> str:
        """The expression for a converted value with its tag."""
        head = tag(number, single.wire_type)
        if single.wire_type == VARINT:
            return f"({self._table(head)}[{v}] if 0 <= {v} < {TABLED} else {head!r} + varint({v}))"
        if single.wire_type == DELIMITED:
            return f"({self._table(head)}[len({v})] + {v} if len({v}) < {TABLED} else headed({head!r}, {v}))"
        behind = f" + {single.behind!r}" if single.behind else ""
        return f"{head!r} + {single.written.format(v=v)}{behind}"

    def _bare(self, single: Single, v: str) -> str:
        """The expression for a converted value without a tag: what is packed is never delimited."""
        if single.wire_type == VARINT:
            return f"SMALL[{v}] if 0 <= {v} < {KNOWN} else varint({v})"
        return single.written.format(v=v)

    def _table(self, head: bytes) -> str:
        """The name of a tag's table: with each small number behind it."""
        name = self._tables.get(head)
        if name is None:
            name = self._tables[head] = self._source.constant(wire.table(head), "table")
        return name

    def _enum(self, descriptor: EnumDescriptor) -> tuple[str, str]:
        found = self._enums.get(descriptor.full_name)
        if found is None:
            names = {value.name: value.number for value in descriptor.values}
            convert = scalar.enum(names, closed=descriptor.is_closed, lenient=self._lenient)
            found = self._source.constant(names, "names"), self._source.constant(convert, "enum")
            self._enums[descriptor.full_name] = found
        return found


def _lines(single: Single, v: str) -> list[str]:
    return [line.format(v=v) for line in single.convert]
