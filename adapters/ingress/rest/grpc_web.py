"""gRPC-Web (grpc/doc/PROTOCOL-WEB.md): binary, and base64 text."""

from __future__ import annotations

import base64
from urllib.parse import quote

from adapters.grpc.detail import DETAILS, message_of, status_bytes
from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.envelope import Base64, envelope, plain
from adapters.ingress.rest.method import (
    CODECS,
    ENCODINGS,
    Method,
    RpcProtocol,
    Terms,
    packing,
    wrong_method,
    wrong_type,
)
from adapters.ingress.rest.request import takes_gzip
from adapters.ingress.rest.rpc import BARE, EnvelopedExchange, Speech, lines
from gateway.errors import GatewayError
from gateway.exchange import Call
from gateway.message import Headers
from gateway.status import TABLE

PROTOCOL = "grpc_web"
BINARY, TEXT = "application/grpc-web", "application/grpc-web-text"
TYPES = tuple(f"{kind}{codec}" for kind in (BINARY, TEXT) for codec in ("", *(f"+{name}" for name in CODECS)))
TRAILERS = 0x80

# PROTOCOL-HTTP2.md, "Status-Message": percent-encoded but for printable ASCII.
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class GrpcWeb(RpcProtocol):
    """POST, told by its media type."""

    name = PROTOCOL

    def matches(self, asked: Asked) -> bool:
        return asked.kind.startswith(BINARY)

    def codec(self, asked: Asked, method: Method) -> str:
        del method
        kind = _bare(asked)
        if kind not in TYPES:
            raise wrong_type(*TYPES)
        if asked.method != "POST":
            raise wrong_method("POST")
        return CODECS[kind.partition("+")[2] or "proto"]

    def terms(self, asked: Asked) -> Terms:
        headers = asked.headers
        return Terms(seconds_of(headers.get(NAME)), packing("grpc-encoding", headers.get("grpc-encoding")))

    def exchange(self, call: Call, asked: Asked, method: Method, terms: Terms) -> GrpcWebExchange:
        text = _bare(asked).startswith(TEXT)
        pack = takes_gzip(asked.headers.joined("grpc-accept-encoding"))
        speech = Speech(asked.kind, call.accepts, method.many, terms.unpack, pack, Base64() if text else plain)
        return GrpcWebExchange(call, asked, speech, text=text)


def _bare(asked: Asked) -> str:
    return asked.kind.partition(";")[0].strip()


class GrpcWebExchange(EnvelopedExchange):
    """One call. Its status is always in the last frame, where a browser can read it without being allowed any header."""

    def __init__(self, call: Call, asked: Asked, speech: Speech, *, text: bool) -> None:
        super().__init__(call, asked, speech)
        self._text = text

    def fields(self) -> str:
        encoding = "grpc-encoding: gzip\r\n" if self._speech.pack else ""
        return f"{encoding}grpc-accept-encoding: {','.join(ENCODINGS)}\r\n"

    def encode(self, frame: bytes) -> bytes:
        return base64.b64encode(frame) if self._text else frame

    def end(self, error: GatewayError | None, trailers: Headers) -> bytes:
        status = 0 if error is None else int(TABLE[error.reason].code)
        text = f"grpc-status: {status}\r\n"
        if error is not None:
            text += f"grpc-message: {quote(message_of(error), safe=_PRINTABLE)}\r\n"
            if error.reason not in BARE and (details := status_bytes(error, self.call.id)):
                text += f"{DETAILS}: {base64.b64encode(details).decode().rstrip('=')}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in lines(trailers))
        return envelope(TRAILERS, text.encode("latin-1", "replace"))
