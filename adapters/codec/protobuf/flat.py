"""The short way for a message of plain scalars, which most are: its fields compiled when loading, no json_format in between.

It is never on its own: what it is not sure of (a number written as a string, a field it does not know) it leaves to
json_format, by returning None, so that both ways always say the same.
"""

from __future__ import annotations

from math import copysign, isfinite
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.codec import Value

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
}
_EXACT = 2**53
"""Every whole number below it is a double of its own."""


class _Field(NamedTuple):
    name: str
    json_name: str
    kind: int
    low: int
    high: int


class Flat:
    """One message type whose fields are all singular strings, bools, 32-bit integers, 64-bit integers (out only) or doubles."""

    def __init__(self, descriptor: Descriptor) -> None:
        """See `flat` for which descriptors have one."""
        fields = [_field(field) for field in descriptor.fields]
        self._known = {name: field for field in fields for name in (field.name, field.json_name)}
        self._reads = [(field.name, field.json_name, field.kind) for field in fields]

    def values(self, value: Value) -> dict[str, Any] | None:
        """The message's fields by their proto names, ready for its constructor."""
        if type(value) is not dict:
            return None
        known = self._known
        values: dict[str, Any] = {}
        for key, part in value.items():
            field = known.get(key)
            if field is None or field.name in values or not _fits(part, field):
                return None
            values[field.name] = part
        return values

    def canonical(self, value: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """The same in the canonical JSON mapping: lowerCamel names, defaults left out. `value` itself where it is so already."""
        known = self._known
        if all(part and known[key].json_name == key for key, part in value.items()):
            return value
        return {known[name].json_name: part for name, part in values.items() if part}

    def read(self, message: Any) -> dict[str, Any] | None:
        """The canonical JSON mapping of a message."""
        value: dict[str, Any] = {}
        for name, json_name, kind in self._reads:
            part = getattr(message, name)
            if kind == FieldDescriptor.CPPTYPE_DOUBLE and _is_minus_zero(part):
                return None
            if part:
                if kind == FieldDescriptor.CPPTYPE_INT64 or kind == FieldDescriptor.CPPTYPE_UINT64:  # noqa: PLR1714  faster
                    part = str(part)
                elif kind == FieldDescriptor.CPPTYPE_DOUBLE and not isfinite(part):
                    return None
                value[json_name] = part
        return value


def _is_minus_zero(part: float) -> bool:
    """It is no default, though it equals one."""
    return part == 0 and copysign(1.0, part) < 0


def _fits(part: object, field: _Field) -> bool:
    kind = field.kind
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return type(part) is str
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return type(part) is bool
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        if type(part) is float:
            return isfinite(part) and not _is_minus_zero(part)
        return type(part) is int and -_EXACT < part < _EXACT
    # A 64-bit integer is a string in canonical JSON and may be a number too: json_format knows all of that.
    return type(part) is int and field.low <= part <= field.high


def _field(field: FieldDescriptor) -> _Field:
    low, high = _RANGES.get(field.cpp_type, (1, 0))
    return _Field(field.name, field.json_name, field.cpp_type, low, high)


_KINDS = frozenset(
    {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_BOOL,
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
)


def flat(descriptor: Descriptor) -> Flat | None:
    """The short way of a type, or None: presence, repetition, enums, bytes and messages within need json_format."""
    if descriptor.full_name.startswith("google.protobuf.") or descriptor.is_extendable:
        return None
    for field in descriptor.fields:
        plain = field.cpp_type in _KINDS and field.type != FieldDescriptor.TYPE_BYTES
        if not plain or field.is_repeated or field.has_presence:
            return None
    return Flat(descriptor)
