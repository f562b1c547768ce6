"""What path and query can say: the scalars of a message, by dotted names, each read from text strictly by its type.

A body follows protobuf's own JSON parser, which takes `1.0` for an int; text in a URL is taken only as it is written down here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from adapters.codec.protobuf.mask import Mask
from adapters.codec.protobuf.scalar import base64, double, float32
from adapters.codec.protobuf.shape import is_map
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS, read_duration, read_timestamp
from adapters.codec.protobuf.wrong import WrongError
from gateway.codec import Value

Read = Callable[[str], Value]
"""The JSON value that a text says. Raises WrongError."""

MOST_STEPS = 100
_WHOLE = re.compile(r"-?[0-9]+\Z", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_WORDS = frozenset({"NaN", "Infinity", "-Infinity"})
_DIGITS = 20
_SHORT = 10
"""So few digits are within every range."""
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "a signed integer of 32 bits"),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1, "an unsigned integer of 32 bits"),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "a signed integer of 64 bits"),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1, "an unsigned integer of 64 bits"),
}
_BOOLS = {"true": True, "false": False}


@dataclass(slots=True)
class Shape:
    """A message type as dotted names walk it. Made once for each type, since a type may be inside itself."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    """By both of their names."""
    masks: tuple[Field, ...] = ()
    """Its FieldMask fields."""

    def find(self, name: str) -> tuple[Field, ...]:
        """The fields that a dotted name leads through; () where there is none. What it leads to may be no leaf."""
        parts = name.split(".", MOST_STEPS)
        shape: Shape | None = self
        steps: list[Field] = []
        for part in parts:
            step = shape.fields.get(part) if shape is not None else None
            if step is None:
                # What is inside a map, a list or a Struct is as wrong as they are themselves.
                return tuple(steps) if steps and steps[-1].closed else ()
            steps.append(step)
            shape = step.shape
        return tuple(steps)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    json_name: str
    rivals: frozenset[str]
    """Every name of the other members of its oneof."""
    union: str
    """Its oneof; "" for none."""
    repeated: bool
    read: Read | None
    """How one text says it; None where none can."""
    shape: Shape | None
    """What is inside it, where dotted names can go on."""
    why: str
    """Why no text says it; "" where one does."""

    @property
    def closed(self) -> bool:
        """Whether it holds what no dotted name can say."""
        return self.read is None and self.shape is None


def shape_of(descriptor: Descriptor, made: dict[str, Shape]) -> Shape:
    """The shape of a type and of all that are inside it. `made` remembers them by name."""
    # In a loop: a chain of types may be longer than Python's recursion.
    waiting: list[Descriptor] = []

    def of(kind: Descriptor) -> Shape:
        if kind.full_name not in made:
            made[kind.full_name] = Shape(kind.full_name)
            waiting.append(kind)
        return made[kind.full_name]

    whole = of(descriptor)
    while waiting:
        kind = waiting.pop()
        _fill(made[kind.full_name], kind, of)
    return whole


def _fill(shape: Shape, descriptor: Descriptor, of: Callable[[Descriptor], Shape]) -> None:
    fields = [_field(one, of) for one in descriptor.fields]
    shape.fields = {name: one for one in fields for name in (one.json_name, one.name)}
    shape.masks = tuple(
        one
        for one, told in zip(fields, descriptor.fields, strict=True)
        if not told.is_repeated and told.message_type is not None and told.message_type.full_name == "google.protobuf.FieldMask"
    )


def _field(told: FieldDescriptor, of: Callable[[Descriptor], Shape]) -> Field:
    oneof = told.containing_oneof
    others = [other for other in oneof.fields if other.name != told.name] if oneof is not None else []
    rivals = frozenset(name for other in others for name in (other.name, other.json_name))
    read, kind = None if is_map(told) else reader(told), told.message_type
    shape = of(kind) if _is_open(told) and kind is not None else None
    why = "" if read is not None else _why(told)
    return Field(
        told.name, told.json_name, rivals, oneof.name if oneof is not None and others else "", told.is_repeated, read, shape, why
    )


def _is_open(told: FieldDescriptor) -> bool:
    kind = told.message_type
    return kind is not None and not told.is_repeated and kind.full_name not in SPECIAL | WRAPPERS


def _why(told: FieldDescriptor) -> str:
    if is_map(told):
        return "is a map"
    return "is a list of messages" if told.is_repeated else "is a message"


def reader(told: FieldDescriptor) -> Read | None:
    """How a text says one value of a field; None for a message that is no bare scalar in JSON."""
    if told.message_type is not None:
        name: str = told.message_type.full_name
        if name in WRAPPERS:
            return reader(told.message_type.fields_by_name["value"])
        return _SPECIAL.get(name)
    if told.enum_type is not None:
        return _enum(told.enum_type)
    if told.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    if told.cpp_type in _RANGES:
        return _integer(*_RANGES[told.cpp_type])
    return _SCALARS[told.cpp_type]


def _string(text: str) -> Value:
    return text


def _bool(text: str) -> Value:
    if text not in _BOOLS:
        raise WrongError("is neither true nor false")
    return _BOOLS[text]


def _integer(low: int, high: int, what: str) -> Read:
    def read(text: str) -> Value:
        if len(text) < _SHORT and text.isascii() and text.isdecimal():
            return int(text)
        if not _WHOLE.match(text) or (low == 0 and text[0] == "-"):
            raise WrongError(f"is not {what} in decimal digits")
        # Python refuses to look at thousands of digits, be they zeros.
        digits = text.lstrip("-0") or "0"
        number = int(f"{text[:1] if text[0] == '-' else ''}{digits}") if len(digits) <= _DIGITS else None
        if number is None or not low <= number <= high:
            raise WrongError(f"is beyond the range of {what}")
        return number

    return read


def _float(holds: Callable[[Value], float]) -> Read:
    def read(text: str) -> Value:
        if text in _WORDS:
            return text
        if not _NUMBER.match(text):
            raise WrongError("is not a number")
        return holds(text)

    return read


def _bytes(text: str) -> Value:
    base64(text)
    return text


def _enum(told: EnumDescriptor) -> Read:
    names: Mapping[str, int] = {value.name: value.number for value in told.values}
    known = frozenset(names.values())
    number = _integer(*_RANGES[FieldDescriptor.CPPTYPE_INT32])
    closed: bool = told.is_closed

    def read(text: str) -> Value:
        if text in names:
            return text
        if not _WHOLE.match(text):
            raise WrongError("is no value of its enum")
        value = number(text)
        if closed and value not in known:
            raise WrongError("is no value of its enum")
        return value

    return read


def _timestamp(text: str) -> Value:
    read_timestamp(text)
    return text


def _duration(text: str) -> Value:
    read_duration(text)
    return text


def _mask(text: str) -> Value:
    return Mask.of(text)


_SCALARS: Mapping[int, Read] = {
    FieldDescriptor.CPPTYPE_STRING: _string,
    FieldDescriptor.CPPTYPE_BOOL: _bool,
    FieldDescriptor.CPPTYPE_FLOAT: _float(float32),
    FieldDescriptor.CPPTYPE_DOUBLE: _float(double),
}
_SPECIAL: Mapping[str, Read] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": _mask,
}


def default_of(told: FieldDescriptor, *, enum_numbers: bool) -> Value:
    """The JSON of a field that is not set."""
    kind = told.message_type
    if is_map(told):
        return {}
    if told.is_repeated:
        return []
    if kind is not None:
        return {"google.protobuf.Struct": {}, "google.protobuf.ListValue": []}.get(
            kind.full_name, None if kind.full_name in SPECIAL | WRAPPERS else {}
        )
    value = told.default_value
    if told.enum_type is not None:
        if told.enum_type.full_name == "google.protobuf.NullValue":
            return None
        names = told.enum_type.values_by_number
        return value if enum_numbers or value not in names else names[value].name
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, "NaN")
    return str(value) if told.cpp_type in {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64} else value
