"""The format `bytes`: opaque. Nothing looks inside, nothing is merged, and the media type goes through with the body."""

from __future__ import annotations

from gateway.codec import Codec, Type, Value
from gateway.message import BYTES


class _Codec:
    def decode(self, body: bytes) -> Value:
        return body

    def encode(self, value: Value) -> bytes:
        return bytes(value)


class BytesFormat:
    """See `Format`."""

    name = "bytes"
    content_types: tuple[str, ...] = (BYTES,)
    typed = False
    opaque = True
    pairs = None

    def codec(self, kind: Type | None) -> Codec:
        del kind
        return _Codec()


FORMAT = BytesFormat()
