"""gRPC metadata to headers and back. A `-bin` value is bytes in gRPC and base64 in a header."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from urllib.parse import quote

from gateway.message import NO_HEADERS, Headers

Metadata = tuple[tuple[str, str | bytes], ...]

REQUEST_ID = "x-request-id"

# What belongs to one hop (RFC 9110 7.6.1), to HTTP/2 or to gRPC itself (PROTOCOL-HTTP2.md, "Custom-Metadata"): never forwarded.
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What a caller's headers say about itself and its own hop, not about the call.
_OWN = frozenset({REQUEST_ID, "user-agent", "cookie", "origin", "referer", "range", "cache-control", "pragma", "authority"})
_OWN_PREFIXES = ("accept", "if-", "sec-", "grpc-")
_KEY = re.compile(r"[0-9a-z_.\-]+\Z")
_PRINTABLE = re.compile(r"[\x20-\x7e]*\Z")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def headers_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Headers:
    """What the peer sent, without what is reserved."""
    if not metadata:
        return NO_HEADERS
    return Headers(
        (key, value if isinstance(value, str) else _text(key, value))
        for key, value in metadata
        if not key.startswith("grpc-") and key not in _RESERVED
    )


def forwarded(headers: Headers) -> Headers:
    """Of a caller's headers those that say something of its call, and not of its own hop: they are the call's metadata."""
    # RFC 9110 7.6.1: what Connection names belongs to the connection too.
    hop = {name.strip().lower() for name in headers.joined("connection").split(",")}
    return Headers(
        pair
        for pair in headers
        if pair[0] not in _RESERVED and pair[0] not in _OWN and pair[0] not in hop and not pair[0].startswith(_OWN_PREFIXES)
    )


def metadata_of(headers: Iterable[tuple[str, str]]) -> Metadata:
    """What we send. A name that gRPC cannot carry is left out; a value beyond printable ASCII is percent-encoded."""
    return tuple(
        pair
        for name, value in headers
        if _KEY.match(name) and name not in _RESERVED and not name.startswith("grpc-") and (pair := _pair(name, value))
    )


def _text(key: str, value: bytes) -> str:
    # grpcio gives bytes for a text key where the peer sent what is not ASCII.
    return base64.b64encode(value).decode() if key.endswith("-bin") else value.decode("latin-1")


def _pair(name: str, value: str) -> tuple[str, str | bytes] | None:
    if name.endswith("-bin"):
        try:
            return name, base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except binascii.Error:
            return None
    return name, value if _PRINTABLE.match(value) else quote(value, safe=_SAFE)
