"""What protobuf's json_format lets through though it may be read in two ways: refused before it is asked.

A field that is given by both of its names (the last would win), base64 that is none (what is not of its alphabet would be
dropped in silence), a number in a string that only Python reads as one ("1_0", digits of other scripts), and nesting that
hides in Struct and Any, which its own limit does not count.
"""

from __future__ import annotations

import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.codec import Value

_NUMBER = re.compile(r"-?[0-9.]+(?:[eE][-+]?[0-9]+)?\Z|-?Infinity\Z|NaN\Z")
_NUMBERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
)
# The JSON mapping takes the standard alphabet and the one for URLs, with padding or without.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}\Z")


def too_deep(value: Value, limit: int) -> bool:
    """Whether lists and dicts are nested in each other over `limit` levels. Level by level: recursion is what it guards."""
    level = [value]
    for _ in range(limit):
        level = [
            part
            for holder in level
            if isinstance(holder, dict | list)
            for part in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def ambiguous(value: Value, descriptor: Descriptor, path: str = "") -> tuple[str, str] | None:
    """The pointer of the first field that cannot be taken for sure, and why; None where all can.

    `value` is not nested too deeply. What has a JSON form of its own (google.protobuf.*) is left to json_format.
    """
    if not isinstance(value, dict) or descriptor.full_name.startswith("google.protobuf."):
        return None
    seen: set[str] = set()
    for key, part in value.items():
        field = descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name.get(key)
        if field is None:
            continue  # json_format says so better
        here = f"{path}/{key}"
        if field.name in seen:
            return here, "is given by both of its names"
        seen.add(field.name)
        for place, single in _singles(part, field):
            at = f"{here}{place}"
            kind = _kind(field)
            if kind is not None and (found := ambiguous(single, kind, at)) is not None:
                return found
            if isinstance(single, str) and (wrong := _unreadable(single, _holds(field))) is not None:
                return at, wrong
    return None


def _unreadable(text: str, field: FieldDescriptor) -> str | None:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return None if _BASE64.match(text) else "is not base64"
    if field.cpp_type in _NUMBERS:
        return None if _NUMBER.match(text) else "is not a number"
    return None


def _singles(part: Value, field: FieldDescriptor) -> list[tuple[str, Value]]:
    """A field's values one by one, each with its place in the field."""
    if field.is_repeated and isinstance(part, list):
        return [(f"/{index}", item) for index, item in enumerate(part)]
    if field.is_repeated and isinstance(part, dict):
        return [(f"/{key}", item) for key, item in part.items()]
    return [("", part)]


def _holds(field: FieldDescriptor) -> FieldDescriptor:
    """The field itself or, of a map, that of its values."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        held: FieldDescriptor = entry.fields_by_name["value"]
        return held
    return field


def _kind(field: FieldDescriptor) -> Descriptor | None:
    return _holds(field).message_type
