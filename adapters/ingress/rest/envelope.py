"""How Connect's streams and gRPC-Web stand in an HTTP body: five bytes, then a message, over and over. No I/O here."""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from typing import Protocol

from gateway.errors import CallerError, Reason

COMPRESSED = 0x01
_HEAD = struct.Struct(">BI")
_QUADS = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def envelope(flags: int, body: bytes) -> bytes:
    """One message with its head: flags and length."""
    return _HEAD.pack(flags, len(body)) + body


def gzipped(body: bytes) -> bytes:
    """A body in gzip."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()


class Envelopes:
    """Cuts bytes into envelopes; holds at most one that is not whole yet, and whatever came with its end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()

    def feed(self, chunk: bytes) -> None:
        """What has come."""
        self._bytes += chunk

    def next(self) -> tuple[int, bytes] | None:
        """Flags and body of the next one, once it is whole. CallerError(TOO_LARGE) as soon as it says so itself."""
        held = self._bytes
        if len(held) < _HEAD.size:
            return None
        flags, size = _HEAD.unpack_from(held)
        if size > self._limit:
            raise CallerError(Reason.TOO_LARGE, f"a message has {self._limit} bytes at most")
        end = _HEAD.size + size
        if len(held) < end:
            return None
        body = bytes(held[_HEAD.size : end])
        del held[:end]
        return flags, body

    @property
    def empty(self) -> bool:
        """Nothing is left: a body that ends here ends well."""
        return not self._bytes


class Decode(Protocol):
    """What stands between the wire's bytes and the envelopes."""

    def __call__(self, chunk: bytes) -> bytes: ...


def plain(chunk: bytes) -> bytes:
    """The bytes are the envelopes."""
    return chunk


class Base64:
    """gRPC-Web's text form: base64 in pieces, each of which may be padded (PROTOCOL-WEB.md)."""

    def __init__(self) -> None:
        self._rest = b""

    def __call__(self, chunk: bytes) -> bytes:
        held = self._rest + chunk
        whole = len(held) // 4 * 4
        self._rest = held[whole:]
        pieces = _QUADS.findall(held[:whole])
        try:
            decoded = [binascii.a2b_base64(piece, strict_mode=True) for piece in pieces]
        except binascii.Error as error:
            raise CallerError(Reason.MALFORMED, "the body is not base64") from error
        if sum(map(len, pieces)) != whole:
            raise CallerError(Reason.MALFORMED, "the body is not base64")
        return b"".join(decoded)
