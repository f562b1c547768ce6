"""What a contract says of a field or a type, as far as its JSON depends on it."""

from __future__ import annotations

from collections.abc import Sequence

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor


def is_required(field: FieldDescriptor) -> bool:
    """Whether a message is refused without it: proto2's own, and field_behavior = REQUIRED (AIP-203: set, not to the default)."""
    behaviors: Sequence[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return bool(field.is_required) or field_behavior_pb2.REQUIRED in behaviors


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map: in JSON an object."""
    return bool(field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry)


def entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The key and the value of a map."""
    kind = field.message_type
    if kind is None:
        raise AssertionError("a map is of entries")
    return kind.fields_by_name["key"], kind.fields_by_name["value"]


def takes_null(field: FieldDescriptor) -> bool:
    """Whether null is a value of a singular field, and not its absence."""
    if field.is_repeated:
        return False
    if field.message_type is not None:
        return bool(field.message_type.full_name == "google.protobuf.Value")
    return field.enum_type is not None and bool(field.enum_type.full_name == "google.protobuf.NullValue")
