"""How bytes are read and what they mean: formats, types, contracts, and the translations compiled from them.

A *format* (json, protobuf, text, bytes) makes a *codec* for a *type*; a *contract* is a type for each direction. A codec has
two functions over plain Python values. N + M of them, and one compiled function for each pair that a route can meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.errors import CallerError, FieldError, Reason
from gateway.message import Many

Value = Any
"""A plain Python value: None, bool, int, float, str, bytes, list, dict."""


class Type(Protocol):
    """One message type of a contract, compiled when the config is loaded."""

    name: str
    fields: tuple[str, ...]
    """The names of its top-level fields, in every spelling that the JSON mapping takes."""

    @property
    def part(self) -> Type:
        """The same with nothing required: what a body may lack because path and query give it."""

    def check(self, value: Value) -> Value:
        """The value as the type's canonical JSON mapping. Raises CallerError(MALFORMED) with the field's path."""

    def pack(self, value: Value) -> bytes:
        """The type's binary form; refuses what `check` refuses."""

    def unpack(self, body: bytes) -> Value:
        """The plain value of a binary message. Raises CallerError(MALFORMED)."""


class Codec(Protocol):
    """Bytes to a plain value and back, for one type or for none."""

    def decode(self, body: bytes) -> Value:
        """Raises CallerError(MALFORMED) with the field's path where it is known."""

    def encode(self, value: Value) -> bytes:
        """The bytes of a value."""


class Format(Protocol):
    """One way to write messages down. Registered under `gateway.codec` by its name."""

    name: str
    content_types: tuple[str, ...]
    """What it is called on the wire; the first is the one that we send."""
    typed: bool
    """It means nothing without a type, and its `encode` checks the value against it."""
    opaque: bool
    """Its bytes are never opened: no merging, no template field, no other format on the other side."""

    def codec(self, kind: Type | None) -> Codec:
        """The codec for a type. Raises ValueError where `typed` and none is given."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a route's messages mean: the types of both sides, and which of them stream."""

    name: str
    request: Type
    reply: Type
    many: Many
    safe: bool = False
    """Calling it changes nothing (idempotency_level = NO_SIDE_EFFECTS)."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """Every contract that the config's descriptor sets hold, by method name ("shop.v1.Orders/Place")."""

    methods: Mapping[str, Contract]
    files: tuple[bytes, ...] = ()
    """The serialized FileDescriptorSets, for reflection and documents."""


NO_CONTRACTS = Contracts({})

Transcode = Callable[[bytes, Mapping[str, str] | None], bytes]
"""One compiled translation: a body, and the fields that path and query add to it."""


def transcode(source: Format, target: Format, kind: Type | None, *, merging: bool, bodyless: bool = False) -> Transcode:
    """The function from one format to another for one type.

    `bodyless`: no body is as good as an empty message even where no type says what that is (a GET).

    With equal formats and nothing to merge the bytes that came in go out, where they already say what the type's canonical
    form says; so a record is the same whatever wire it came by.
    """
    if source.opaque or target.opaque:
        return lambda body, _fields: body
    # A typed target checks while it encodes, so the source need not check as well.
    read = source.codec(kind if source.typed else None).decode
    encode = target.codec(kind).encode
    check = kind.check if kind is not None and not target.typed and not source.typed else None

    def through(body: bytes, _fields: Mapping[str, str] | None) -> bytes:
        value = read(body)
        if check is None:
            return body
        canonical = check(value)
        return body if canonical == value else encode(canonical)

    def across(body: bytes, _fields: Mapping[str, str] | None) -> bytes:
        value = read(body)
        return encode(check(value) if check else value)

    plain = through if source is target else across
    if not merging:
        return plain

    read_part = source.codec(kind.part).decode if source.typed and kind is not None else read
    check_merged = kind.check if kind is not None and not target.typed else None

    def merged(body: bytes, fields: Mapping[str, str] | None) -> bytes:
        # No bytes are a message too where a type says what that is: one that has nothing but defaults.
        if not fields and (body or source.typed or not (bodyless or kind is not None)):
            return plain(body, None)
        value = merge(read_part(body), fields or {}) if body else dict(fields or {})
        return encode(check_merged(value) if check_merged else value)

    return merged


def merge(value: Value, fields: Mapping[str, str]) -> Value:
    """A JSON object with path variables added, so that a message is the same whatever the wire; a path variable is immutable."""
    if not isinstance(value, dict):
        raise CallerError(Reason.MALFORMED, "the body must be a JSON object")
    for name, field in fields.items():
        if name in value and value[name] != field and str(value[name]) != field:
            raise CallerError(
                Reason.MALFORMED,
                f"the body says otherwise than the path for {name}",
                details=(FieldError(f"/{name}", "is set by the path"),),
            )
    # Twice: they stand first, as in the path, and what they say is what counts.
    return {**fields, **value, **fields}
