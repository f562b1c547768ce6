"""The format `text`: UTF-8, one string a message."""

from __future__ import annotations

from gateway.codec import Codec, Type, Value
from gateway.errors import CallerError, Reason
from gateway.message import TEXT
from gateway.template import text_of


class _Codec:
    def decode(self, body: bytes) -> Value:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise CallerError(Reason.MALFORMED, "the body is not UTF-8") from error

    def encode(self, value: Value) -> bytes:
        return text_of(value).encode()


class TextFormat:
    """See `Format`."""

    name = "text"
    content_types: tuple[str, ...] = (TEXT,)
    typed = False
    opaque = False
    pairs = None

    def codec(self, kind: Type | None) -> Codec:
        if kind is not None:
            raise ValueError("text has no fields, so it cannot carry a contract's messages")
        return _Codec()


FORMAT = TextFormat()
