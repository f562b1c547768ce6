"""How bytes are read and what they mean: formats, types and contracts, and how an HTTP request stands for a message.

A *format* (json, protobuf, form, csv, text, bytes) makes a *codec* for a *type*; a *contract* is a type for each direction. A
codec has two functions over plain Python values. N + M of them, and one compiled function for each pair that a route can meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

from gateway.message import Many, value
from gateway.schema import Leaf, Schema, Schemas

Value = Any
"""A plain Python value: None, bool, int, float, str, bytes, list, dict."""

ABSENT: Value = object()
"""In the place of a value: there is no body."""

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class JsonOptions:
    """How the JSON side of a type is read and written."""

    unknown: Literal["reject", "ignore"] = "reject"
    """What becomes of a field that the type does not have."""
    defaults: bool = False
    """Fields without presence are written though they have their default."""
    enum_numbers: bool = False
    """Enums are written by number. Both are read."""
    proto_names: bool = False
    """Fields are written by their names in the .proto. Both are read."""


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """One HTTP call of a method, as google.api.http says it."""

    method: str
    """"GET", or the kind of a custom pattern."""
    path: str
    body: str = ""
    response_body: str = ""
    origin: str = ""
    """Where the annotation stands: the .proto and, where that is known, the line."""
    wrong: str = ""
    """Why it cannot be served."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a request stands for one message (google/api/http.proto)."""

    http: bool = True
    """It is an HTTP request: it has a query, and a body that may be a part of the message."""
    body: str = "*"
    """The field that the body is: "*" for the whole message, "" where there is no body. Unless it is the whole, query
    parameters are fields of the message too.
    """
    response_body: str = ""
    """The reply's field that the response is; "" for the whole."""
    variables: tuple[str, ...] = ()
    """The field paths that the path's variables bind."""
    patch: bool = False
    """The method is PATCH: a FieldMask is filled from the body where the caller gives none."""
    unknown_query: Literal["reject", "ignore"] = "reject"
    """What becomes of a query parameter that is no field."""


MESSAGE = Rule(http=False, unknown_query="ignore")
"""What comes is the message, and the path may add to it."""


@value
class Given:
    """What path and query say of a message."""

    params: Mapping[str, str] = field(default_factory=lambda: _NO_PARAMS)
    query: tuple[tuple[str, str], ...] = ()


NOTHING_GIVEN = Given()

Bind = Callable[[Value, Given], Value]
"""A body (or ABSENT) and what path and query say, as the JSON mapping of one whole message. Raises CallerError(MALFORMED)."""


class Type(Protocol):
    """One message type of a contract, compiled when the config is loaded. Two are equal where they mean the same."""

    name: str
    fields: tuple[str, ...]
    """The names of its top-level fields, in every spelling that the JSON mapping takes."""
    columns: tuple[str, ...]
    """The names of its top-level fields as the JSON mapping writes them, in their order."""
    binary: bool
    """Whether it has a binary form."""

    @property
    def part(self) -> Type:
        """The same with nothing required: what a body may lack because path and query give it."""

    def under(self, options: JsonOptions) -> Type:
        """The same with its JSON read and written otherwise."""

    def check(self, value: Value) -> Value:
        """The value as the type's canonical JSON mapping. Raises CallerError(MALFORMED) with the field's path."""

    def pack(self, value: Value) -> bytes:
        """The type's binary form; refuses what `check` refuses."""

    def unpack(self, body: bytes) -> Value:
        """The plain value of a binary message. Raises CallerError(MALFORMED)."""

    def pack_json(self, body: bytes) -> bytes:
        """The binary form of JSON text: `pack` of what is parsed strictly, by a shorter way."""

    def unpack_json(self, body: bytes) -> bytes:
        """The JSON text of a binary message, by a shorter way than `unpack`."""

    def bind(self, rule: Rule) -> Bind:
        """How body, path and query make one message. Raises ValueError for a rule that does not fit the type."""

    def pick(self, field: str) -> Callable[[Value], Value]:
        """A field of a plain value, with its default where it is not set. Raises ValueError for an unknown field."""

    def raw(self, field: str) -> bool:
        """Whether a field, or for "*" and "" the whole, is a google.api.HttpBody: bytes of any media type."""

    def schema(self, schemas: Schemas, *, sent: bool, field: str = "", without: Sequence[str] = ()) -> Schema:
        """The JSON Schema of its JSON mapping as we send it, or of all that we take; of the whole or, of a field, of that alone.
        `without`: the field paths that it may not have, since something else gives them.
        """

    def leaves(self, schemas: Schemas, without: Sequence[str] = ()) -> Sequence[Leaf]:
        """What path and query may say; without what is in the fields of `without`, or is a sibling of theirs in a oneof."""


Tell = Callable[[str, bytes], Value | None]
"""The JSON mapping of a binary message by its type's full name; None for a type that is not known or a message that is none."""


class Codec(Protocol):
    """Bytes to a plain value and back, for one type or for none."""

    def decode(self, body: bytes) -> Value:
        """Raises CallerError(MALFORMED) with the field's path where it is known."""

    def encode(self, value: Value) -> bytes:
        """The bytes of a value."""


Pairing = Callable[[bytes, Type], tuple[tuple[str, str], ...]]
"""The names and texts of a body, for a type's `bind`. Raises CallerError(MALFORMED)."""


class Format(Protocol):
    """One way to write messages down. Registered under `gateway.codec` by its name."""

    name: str
    content_types: tuple[str, ...]
    """What it is called on the wire; the first is the one that we send."""
    typed: bool
    """It means nothing without a type, and its `encode` checks the value against it."""
    opaque: bool
    """Its bytes are never opened: no merging, no template field, no other format on the other side."""

    @property
    def pairs(self) -> Pairing | None:
        """Where all that it says is names and texts, as in a query, and what they mean is for a type to say: how to read them."""

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
    http: tuple[HttpBinding, ...] = field(default=(), compare=False)
    """The HTTP calls that its annotations give it."""
    tell: Tell = field(default=lambda _name, _body: None, compare=False)
    """Opens a message of any type of its files: a detail of an error, say."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """Every contract that the config's descriptor sets hold, by method name ("shop.v1.Orders/Place")."""

    methods: Mapping[str, Contract]
    files: tuple[bytes, ...] = ()
    """The serialized FileDescriptorSets, for reflection and documents."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """What their sources say of services, methods, types and fields, by full name."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What each file comes to, by its name: it is another one where what the file says, its comments aside, is another."""


NO_CONTRACTS = Contracts({})
