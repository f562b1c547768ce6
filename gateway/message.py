"""What travels: a message, one payload of bytes with its headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass, for what every exchange makes several of.

    It is frozen to the type checker, which is enough and free; freezing at run time makes construction cost four times as much.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


class Many(Flag):
    """Which sides may carry more than one message."""

    NEITHER = 0
    REQUESTS = auto()
    REPLIES = auto()
    BOTH = REQUESTS | REPLIES


STARTS = ":cursor"
"""The cursor that a stream is gone on with which was sent nothing: an ingress that ends it tells that."""


class Headers(tuple[tuple[str, str], ...]):
    """An immutable list of (lower-case name, value) pairs: duplicates kept, in order.

    Names that start with ":" (":status", ":cursor") are ours: an ingress that knows one acts on it, no wire ever carries one.
    A binary value travels in base64 under a name that ends in "-bin", as in gRPC.
    """

    __slots__ = ()

    def get(self, name: str) -> str | None:
        """The first value of a lower-case name, or None."""
        for key, value in self:
            if key == name:
                return value
        return None

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a lower-case name, in order."""
        return tuple(value for key, value in self if key == name)

    def joined(self, name: str) -> str:
        """Every value of a lower-case name as one list (RFC 9110 5.3); "" where there is none."""
        found = ""
        for key, value in self:
            if key == name:
                found = f"{found}, {value}" if found else value
        return found

    def without(self, *names: str) -> Headers:
        """The same headers less the lower-case names given."""
        return Headers(pair for pair in self if pair[0] not in names)

    def plus(self, *pairs: tuple[str, str]) -> Headers:
        """The same headers with pairs added at the end."""
        return Headers((*self, *pairs))


NO_HEADERS = Headers()

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def compact(value: object) -> str:
    """JSON of our own making, without white space. `json.dumps` with settings would make an encoder for every call."""
    return _ENCODER.encode(value)


JSON = "application/json"
PROTOBUF = "application/x-protobuf"
PROBLEM = "application/problem+json"
BYTES = "application/octet-stream"
TEXT = "text/plain"

SHARED = 64
SHARED_BYTES = 16 << 10


@value
class Message:
    """One payload: bytes that only a codec opens.

    `cursor` and `timestamp` (milliseconds since 1970) say where and when the message stands in a log, if it came from one:
    a message with a cursor is an *event*.
    """

    body: bytes
    content_type: str = BYTES
    key: bytes | None = None
    headers: Headers = NO_HEADERS
    cursor: str | None = None
    timestamp: int | None = None


def shared(function: Callable[[Message], T]) -> Callable[[Message], T]:
    """The same function, which makes of one message for many receivers one result: the latest few are kept, by identity."""
    kept: dict[int, tuple[Message, T]] = {}

    def sharing(message: Message) -> T:
        found = kept.get(id(message))
        if found is not None:  # what is kept is alive, so that no other has its id
            return found[1]
        made = function(message)
        if len(message.body) <= SHARED_BYTES:
            if len(kept) >= SHARED:
                kept.clear()
            kept[id(message)] = (message, made)
        return made

    return sharing


@value
class Notice(Message):
    """What the gateway itself says amid a target's messages: a JSON object, whose `name` says what it is. No policy opens it."""

    name: str = ""
