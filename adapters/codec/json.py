"""The format `json`: always parsed, strictly."""

from __future__ import annotations

from gateway.codec import Codec, Type, Value
from gateway.jsontext import dumps, loads
from gateway.message import JSON


class _Untyped:
    def decode(self, body: bytes) -> Value:
        return loads(body)

    def encode(self, value: Value) -> bytes:
        return dumps(value)


class _Typed(_Untyped):
    def __init__(self, kind: Type) -> None:
        self._check = kind.check

    def decode(self, body: bytes) -> Value:
        return self._check(loads(body))


class JsonFormat:
    """See `Format`."""

    name = "json"
    content_types: tuple[str, ...] = (JSON,)
    typed = False
    opaque = False
    pairs = None

    def codec(self, kind: Type | None) -> Codec:
        return _Untyped() if kind is None else _Typed(kind)


FORMAT = JsonFormat()
