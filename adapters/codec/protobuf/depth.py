"""How deep a message is nested: bounded in JSON by our own limit, and on the wire by every runtime's, both 100."""

from __future__ import annotations

import json
from collections.abc import Callable

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from adapters.codec.protobuf.runtime import class_of
from adapters.codec.protobuf.wrong import WrongError
from gateway.codec import Value
from gateway.jsontext import MAX_DEPTH

UNBOUNDED = 32
"""So deep a JSON value is never over 100 on the wire, where a Struct takes three levels for one."""
_ENDLESS = frozenset({"google.protobuf.Any", "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
_MANY_TYPES = 30


def over_deep() -> WrongError:
    """What is told of it."""
    return WrongError(f"is nested deeper than {MAX_DEPTH}")


def bounded(read: Callable[[Value], bytes], descriptor: Descriptor) -> Callable[[Value], bytes]:
    """A reader that refuses what is nested too deeply; of a type that can be."""
    kind = class_of(descriptor)

    def bounded(value: Value) -> bytes:
        if not too_deep(value, UNBOUNDED):
            return read(value)
        if too_deep(value):
            raise over_deep()
        body = read(value)
        try:
            kind.FromString(body)
        except DecodeError as error:
            raise over_deep() from error
        return body

    return bounded


def check_depth(text: str) -> None:
    """Raise WrongError for a JSON text of our own that is nested too deeply."""
    if text.count("{") + text.count("[") > MAX_DEPTH and too_deep(json.loads(text)):
        raise over_deep()


def too_deep(value: Value, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are nested in each other over `limit` levels. Level by level: recursion is what it guards."""
    level = [value]
    for _ in range(limit):
        level = [part for holder in level for part in _parts(holder) if isinstance(part, dict | list | tuple)]
        if not level:
            return False
    return True


def _parts(holder: Value) -> list[Value]:
    if isinstance(holder, dict):
        return list(holder.values())
    if isinstance(holder, tuple):
        return [part for _, part in holder]
    return holder if isinstance(holder, list) else []


def is_shallow(descriptor: Descriptor) -> bool:
    """Whether no message of the type can be nested deeply: it holds neither itself nor what may hold anything."""
    done: set[str] = set()

    def ends(kind: Descriptor, above: frozenset[str]) -> bool:
        if kind.full_name in above or kind.full_name in _ENDLESS or len(above) > _MANY_TYPES:
            return False
        if kind.full_name in done:
            return True
        held = [field.message_type for field in kind.fields if field.message_type is not None]
        if not all(ends(each, above | {kind.full_name}) for each in held):
            return False
        done.add(kind.full_name)
        return True

    return ends(descriptor, frozenset())
