"""gRPC-Web (grpc/doc/PROTOCOL-WEB.md): binary, and base64 text."""

from __future__ import annotations

import base64
from urllib.parse import quote

from adapters.grpc.detail import DETAILS, message_of, status_bytes
from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.envelope import Base64, envelope, plain
from adapters.ingress.rest.exchange import HttpExchange
from adapters.ingress.rest.rpc import (
    BARE,
    CODECS,
    ENCODINGS,
    EnvelopedExchange,
    Speech,
    due,
    lines,
    metadata,
    packing,
    refused,
    streams,
    takes_gzip,
)
from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import Call
from gateway.message import Headers
from gateway.port import View
from gateway.route import Endpoint
from gateway.status import TABLE

PROTOCOL = "grpc_web"
BINARY, TEXT = "application/grpc-web", "application/grpc-web-text"
TYPES = tuple(f"{kind}{codec}" for kind in (BINARY, TEXT) for codec in ("", *(f"+{name}" for name in CODECS)))
TRAILERS = 0x80

# PROTOCOL-HTTP2.md, "Status-Message": percent-encoded but for printable ASCII.
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class GrpcWeb:
    """See `Protocol`."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        return asked.kind.startswith(BINARY)

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        view, path = self._view, asked.path
        kind = asked.kind.partition(";")[0].strip()
        found = asked.find(view, PROTOCOL, path)
        if kind not in TYPES:
            return refused(asked, view, PROTOCOL, CallerError(Reason.UNSUPPORTED, "no such codec", details=(Allowed(TYPES),)))
        if asked.method != "POST":
            return refused(
                asked, view, PROTOCOL, CallerError(Reason.WRONG_METHOD, "gRPC-Web is POST", details=(Allowed(("POST",)),))
            )
        codec = CODECS[kind.partition("+")[2] or "proto"]
        text = kind.startswith(TEXT)
        many = streams(view, path, found.endpoint.many)
        problem: GatewayError | None = None
        seconds, unpack = None, False
        try:
            seconds = seconds_of(asked.headers.get(NAME))
            unpack = packing("grpc-encoding", asked.headers.get("grpc-encoding") or "")
        except CallerError as error:
            problem = error
        pack = takes_gzip(asked.headers.joined("grpc-accept-encoding"))
        speech = Speech(asked.kind, codec, many, unpack, pack, Base64() if text else plain)
        call = asked.call(
            PROTOCOL,
            path,
            found.params,
            headers=metadata(asked.headers),
            many=found.endpoint.many,
            deadline=due(seconds),
            accepts=codec,
        )
        exchange = GrpcWebExchange(call, asked, speech, text=text)
        return exchange, found.endpoint if problem is None else view.refuse(PROTOCOL, problem)


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
