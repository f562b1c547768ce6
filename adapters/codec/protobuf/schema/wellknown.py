"""The JSON Schemas of the types that have a JSON form of their own: google.protobuf's, and google.api.HttpBody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor, FileDescriptor

from adapters.codec.protobuf.schema import scalar
from gateway.schema import Schema

if TYPE_CHECKING:
    from adapters.codec.protobuf.schema import Teller

_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_DAY = "[0-9]{3}[1-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIMESTAMP: Schema = {"type": "string", "format": "date-time"}
_DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$"}
_PATH = r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*"
_MASK: Schema = {"type": "string", "pattern": f"^({_PATH}(,{_PATH})*)?$"}
_NAME = "google.protobuf."
_WRAPPED = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
_WRAPPERS = frozenset(f"{_NAME}{name}Value" for name in _WRAPPED)
MOST_IN_ANY = 100
"""Messages that an Any is told to hold, one by one; where there are more, it is told to hold any of them."""


def is_known(descriptor: Descriptor) -> bool:
    """Whether it is no object of its fields."""
    name: str = descriptor.full_name
    return name in _FORMS or name in _WRAPPERS


def takes_null(descriptor: Descriptor | None) -> bool:
    """Whether null is a value of it, and not as good as absent."""
    return descriptor is not None and descriptor.full_name == "google.protobuf.Value"


def schema(descriptor: Descriptor, teller: Teller) -> Schema | None:
    """The schema of a well-known type; None for any other."""
    name: str = descriptor.full_name
    if name in _WRAPPERS:
        return teller.single(descriptor.fields_by_name["value"])
    form = _FORMS.get(name)
    return None if form is None else form(descriptor, teller)


def leaf(descriptor: Descriptor) -> Schema | None:
    """The same as one text in a path or a query; None for what cannot stand there."""
    name: str = descriptor.full_name
    if name in _WRAPPERS:
        return scalar.text(descriptor.fields_by_name["value"])
    return {f"{_NAME}Timestamp": _TIMESTAMP, f"{_NAME}Duration": _DURATION, f"{_NAME}FieldMask": _MASK}.get(name)


def _value(descriptor: Descriptor, teller: Teller) -> Schema:
    del descriptor

    def make() -> Schema:
        again = teller.schemas.refer("google.protobuf.Value", "", make)
        # A whole number beyond 64 bits is refused wherever it stands.
        number: Schema = {"type": "number", "minimum": -(2**63), "maximum": 2**64 - 1}
        holders: list[Schema] = [{"type": "array", "items": again}, {"type": "object", "additionalProperties": again}]
        return {"anyOf": [{"type": ["null", "boolean", "string"]}, number, *holders]}

    return teller.schemas.refer("google.protobuf.Value", "", make)


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
        return {"anyOf": [nothing, *(_held(kind, teller) for kind in kinds)]}

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
    known = schema(kind, teller)
    if known is not None:
        fields: Schema = {"type": "object", "properties": {"value": known}, "required": ["value"], "additionalProperties": False}
    else:
        fields = teller.fields(kind)
    return {**fields, "properties": {"@type": url, **fields["properties"]}, "required": ["@type", *fields.get("required", ())]}


_FORMS: Mapping[str, Callable[[Descriptor, Teller], Schema]] = {
    f"{_NAME}Timestamp": lambda _kind, _teller: dict(_TIMESTAMP),
    f"{_NAME}Duration": lambda _kind, _teller: dict(_DURATION),
    f"{_NAME}FieldMask": lambda _kind, _teller: dict(_MASK),
    f"{_NAME}Value": _value,
    f"{_NAME}Struct": lambda kind, teller: {"type": "object", "additionalProperties": _value(kind, teller)},
    f"{_NAME}ListValue": lambda kind, teller: {"type": "array", "items": _value(kind, teller)},
    f"{_NAME}Empty": _empty,
    f"{_NAME}Any": _any,
}
