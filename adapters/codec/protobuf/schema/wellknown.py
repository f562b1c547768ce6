"""The JSON Schemas of the types that have a JSON form of their own: google.protobuf's, and google.api.HttpBody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor, FileDescriptor

from adapters.codec.protobuf.schema import scalar
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS
from gateway.schema import Schema, json

if TYPE_CHECKING:
    from adapters.codec.protobuf.schema import Teller

_TIMESTAMP: Schema = {"type": "string", "format": "date-time"}
_DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$"}
_MASK: Schema = {"type": "string", "pattern": "^[^_]*$", "description": "Field paths in lowerCamelCase, between commas."}
_PATH = "([A-Za-z0-9.*]+|[a-z0-9.*]+(_[a-z][a-z0-9.*]*)+)"
_TEXT_MASK: Schema = {**_MASK, "pattern": f"^({_PATH}(,{_PATH})*)?$"}
_NAME = "google.protobuf."
MOST_IN_ANY = 100
"""Messages that an Any is told to hold, one by one; where there are more, it is told to hold any of them."""


def is_known(descriptor: Descriptor) -> bool:
    """Whether it is no object of its fields."""
    name: str = descriptor.full_name
    return name in _FORMS or name in WRAPPERS


def schema(descriptor: Descriptor, teller: Teller) -> Schema | None:
    """The schema of a well-known type; None for any other."""
    name: str = descriptor.full_name
    if name in WRAPPERS:
        return teller.single(descriptor.fields_by_name["value"])
    form = _FORMS.get(name)
    return None if form is None else form(descriptor, teller)


def leaf(descriptor: Descriptor) -> Schema | None:
    """The same as one text in a path or a query; None for what cannot stand there."""
    name: str = descriptor.full_name
    if name in WRAPPERS:
        return scalar.text(descriptor.fields_by_name["value"])
    return {f"{_NAME}Timestamp": _TIMESTAMP, f"{_NAME}Duration": _DURATION, f"{_NAME}FieldMask": _TEXT_MASK}.get(name)


def _value(teller: Teller) -> Schema:
    return {} if teller.sent else json(teller.schemas)


def _empty(descriptor: Descriptor, teller: Teller) -> Schema:
    del descriptor
    is_open = not teller.sent and teller.options.unknown == "ignore"
    return {"type": "object", **({} if is_open else {"additionalProperties": False})}


def _any(descriptor: Descriptor, teller: Teller) -> Schema:
    """What is sent may be of any type; what is taken is of one that is known, told where they are not too many."""

    def make() -> Schema:
        kinds = list(_messages(teller.root.file, {}))
        if teller.sent or len(kinds) > MOST_IN_ANY:
            return {"type": "object", "properties": {"@type": {"type": "string"}}}
        nothing: Schema = {"type": "object", "additionalProperties": False}
        held = [teller.schemas.refer(f"{kind.full_name}.Any", teller.variant, partial(_held, kind, teller)) for kind in kinds]
        return {"anyOf": [nothing, *held]}

    return teller.schemas.refer(descriptor.full_name, teller.variant, make)


def _messages(file: FileDescriptor, seen: dict[str, FileDescriptor]) -> Iterator[Descriptor]:
    """The top-level messages of a file and of all that it imports, but for those of google's own that are no data."""
    if file.name in seen or file.name == "google/protobuf/descriptor.proto" or file.package == "google.api":
        return
    seen[file.name] = file
    yield from (kind for kind in file.message_types_by_name.values() if kind.full_name != "google.protobuf.Any")
    for imported in file.dependencies:
        yield from _messages(imported, seen)


def _held(kind: Descriptor, teller: Teller) -> Schema:
    """A message inside an Any: its fields beside its type or, of a type with a form of its own, that as `value`."""
    url: Schema = {"type": "string", "const": f"type.googleapis.com/{kind.full_name}"}
    if kind.full_name in SPECIAL | WRAPPERS:
        known = schema(kind, teller) or {}
        fields: Schema = {"type": "object", "properties": {"value": known}, "required": ["value"], "additionalProperties": False}
    else:
        fields = teller.fields(kind)
    return {**fields, "properties": {"@type": url, **fields["properties"]}, "required": ["@type", *fields.get("required", ())]}


_FORMS: Mapping[str, Callable[[Descriptor, Teller], Schema]] = {
    f"{_NAME}Timestamp": lambda _kind, _teller: dict(_TIMESTAMP),
    f"{_NAME}Duration": lambda _kind, _teller: dict(_DURATION),
    f"{_NAME}FieldMask": lambda _kind, _teller: dict(_MASK),
    f"{_NAME}Value": lambda _kind, teller: _value(teller),
    f"{_NAME}Struct": lambda _kind, teller: {"type": "object", "additionalProperties": _value(teller)},
    f"{_NAME}ListValue": lambda _kind, teller: {"type": "array", "items": _value(teller)},
    f"{_NAME}Empty": _empty,
    f"{_NAME}Any": _any,
}
