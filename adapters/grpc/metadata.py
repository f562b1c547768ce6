"""gRPC metadata to headers and back. A `-bin` value is bytes in gRPC and base64 in a header."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

from gateway.message import NO_HEADERS, Headers
from gateway.policy.observe import header_values_dropped

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


def headers_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Headers:
    """What the peer sent, without what is reserved."""
    if not metadata:
        return NO_HEADERS
    return Headers(
        (key, text)
        for key, value in metadata
        if not key.startswith("grpc-") and key not in _RESERVED and (text := _text(key, value)) is not None
    )


def forwarded(headers: Headers) -> Headers:
    """Of a caller's headers those that say something of its call, and not of its own hop: they are the call's metadata."""
    # RFC 9110 7.6.1: what Connection names belongs to the connection too.
    named = headers.joined("connection")
    hop = {name.strip().lower() for name in named.split(",")} if named else ()
    return Headers(
        pair
        for pair in headers
        if pair[0] not in _RESERVED and pair[0] not in _OWN and pair[0] not in hop and not pair[0].startswith(_OWN_PREFIXES)
    )


def metadata_of(headers: Iterable[tuple[str, str]]) -> Metadata:
    """What we send. A name that gRPC cannot carry is left out, and so is, counted, a value beyond printable ASCII."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if not _KEY.match(name) or name in _RESERVED or name.startswith("grpc-"):
            continue
        if name.endswith("-bin"):
            found.extend((name, one) for one in _decoded(value))
        elif _PRINTABLE.match(value):
            found.append((name, value))
        else:
            header_values_dropped("grpc")
    return tuple(found)


def _text(key: str, value: str | bytes) -> str | None:
    if isinstance(value, str):
        return value
    if key.endswith("-bin"):
        return base64.b64encode(value).decode()
    # grpcio gives bytes for a text key where the peer sent what is not ASCII.
    header_values_dropped("grpc")
    return None


def _decoded(value: str) -> Iterator[bytes]:
    # PROTOCOL-HTTP2.md: what was joined by commas on the way is split before it is decoded.
    for part in value.split(","):
        text = part.strip()
        try:
            yield base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
        except binascii.Error:
            header_values_dropped("grpc")
