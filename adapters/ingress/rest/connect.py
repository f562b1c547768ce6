"""The Connect protocol (connectrpc.com/docs/protocol): unary by POST and, for what changes nothing, by GET; streams."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from http import HTTPStatus

from google.protobuf import any_pb2

from adapters.grpc.detail import details_of, message_of
from adapters.ingress.rest.answer import Answer, error_fields
from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.envelope import envelope, plain
from adapters.ingress.rest.exchange import RestExchange
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
from adapters.ingress.rest.request import inflated, media_type, takes_gzip
from adapters.ingress.rest.rpc import BARE, EnvelopedExchange, Speech, lines, trailers_of
from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages
from gateway.message import Headers, Many, Message, compact
from gateway.status import TABLE, Failure, marks

PROTOCOL = "connect"
STREAM = "application/connect+"
UNARY_TYPES = {f"application/{name}": codec for name, codec in CODECS.items()}
STREAM_TYPES = {f"{STREAM}{name}": codec for name, codec in CODECS.items()}
_TYPE_OF = {codec: kind for kind, codec in UNARY_TYPES.items()}
END = 0x02

_TIMEOUT = re.compile(r"\d{1,10}\Z", re.ASCII)


def code(error: GatewayError) -> str:
    """Connect's name for an error's code: gRPC's in lower case, but for one that it spells otherwise."""
    name = TABLE[error.reason].code.name.lower()
    return "canceled" if name == "cancelled" else name


def error_of(error: GatewayError, exchange_id: str) -> dict[str, object]:
    """An error as Connect writes it. A detail of any type is there by its bytes."""
    details = [] if error.reason in BARE else [_detail(*pair) for pair in details_of(error, exchange_id)]
    message = message_of(error)
    return {"code": code(error)} | ({"message": message} if message else {}) | ({"details": details} if details else {})


def _detail(detail: any_pb2.Any, told: Mapping[str, object]) -> dict[str, object]:
    """By its bytes; `debug` says the same to a human, where the type is known."""
    shown = {"type": detail.type_url.rpartition("/")[2], "value": base64.b64encode(detail.value).decode().rstrip("=")}
    debug = {name: value for name, value in told.items() if name != "@type"}
    return shown | ({"debug": debug} if debug and debug.get("value") != base64.b64encode(detail.value).decode() else {})


def grouped(headers: Headers) -> dict[str, list[str]]:
    """Metadata as an object of lists."""
    found: dict[str, list[str]] = {}
    for name, value in lines(headers):
        found.setdefault(name, []).append(value)
    return found


def _seconds(headers: Headers) -> float | None:
    """How long the caller waits: Connect-Timeout-Ms, one to ten digits. CallerError for another version than 1 too."""
    version, text = headers.get("connect-protocol-version"), headers.get("connect-timeout-ms")
    if version not in {None, "1"}:
        raise CallerError(Reason.MALFORMED, "connect-protocol-version must be 1")
    if text is not None and not _TIMEOUT.match(text):
        raise CallerError(Reason.MALFORMED, "Connect-Timeout-Ms is one to ten digits")
    return None if text is None else int(text) / 1000


class ConnectStream(RpcProtocol):
    """Methods that stream, by POST."""

    name = PROTOCOL

    def matches(self, asked: Asked) -> bool:
        return asked.kind.startswith(STREAM)

    def codec(self, asked: Asked, method: Method) -> str:
        if asked.method != "POST":
            raise wrong_method("POST")
        codec = STREAM_TYPES.get(asked.kind.partition(";")[0].strip())
        if codec is None or (method.known and method.many is Many.NEITHER):
            raise wrong_type(*(UNARY_TYPES if method.known and method.many is Many.NEITHER else STREAM_TYPES))
        return codec

    def terms(self, asked: Asked) -> Terms:
        headers, name = asked.headers, "connect-content-encoding"
        return Terms(_seconds(headers), packing(name, headers.get(name)))

    def exchange(self, call: Call, asked: Asked, method: Method, terms: Terms) -> ConnectStreamExchange:
        pack = takes_gzip(asked.headers.joined("connect-accept-encoding"))
        many = method.many if method.known else Many.REPLIES
        return ConnectStreamExchange(call, asked, Speech(asked.kind, call.accepts, many, terms.unpack, pack, plain))


class ConnectStreamExchange(EnvelopedExchange):
    """One stream: always 200, its end in the last frame."""

    def fields(self) -> str:
        encoding = "connect-content-encoding: gzip\r\n" if self._speech.pack else ""
        return f"{encoding}connect-accept-encoding: {','.join(ENCODINGS)}\r\n"

    def end(self, error: GatewayError | None, trailers: Headers) -> bytes:
        said: dict[str, object] = {} if error is None else {"error": error_of(error, self.call.id)}
        if shown := grouped(trailers):
            said["metadata"] = shown
        return envelope(END, compact(said).encode())


class ConnectUnary(RpcProtocol):
    """Methods with one message each way, by POST. What tells them from a REST call is the version's header."""

    name = PROTOCOL

    def matches(self, asked: Asked) -> bool:
        return asked.headers.get("connect-protocol-version") is not None

    def codec(self, asked: Asked, method: Method) -> str:
        if asked.method != "POST":
            raise wrong_method(*(("GET", "POST") if method.safe else ("POST",)))
        codec = UNARY_TYPES.get(media_type(asked.kind))
        if codec is None or method.many is not Many.NEITHER:
            raise wrong_type(*(UNARY_TYPES if method.many is Many.NEITHER else STREAM_TYPES))
        return codec

    def terms(self, asked: Asked) -> Terms:
        return Terms(_seconds(asked.headers))

    def exchange(self, call: Call, asked: Asked, method: Method, terms: Terms) -> ConnectExchange:
        del method, terms
        return ConnectExchange(call, asked)


class ConnectExchange(RestExchange):
    """One message in, one out."""

    def __init__(self, call: Call, asked: Asked) -> None:
        super().__init__(call, asked.request, asked.limits)

    async def receive(self) -> Message:
        return Message((await super().receive()).body, self.call.accepts)

    def answer(self) -> Answer:
        reply = self._reply
        if isinstance(reply, Failure) and reply.error is not None:
            return self.failure(reply.error)
        body = b"" if reply is None else reply.body
        headers = Headers((*lines(self._headers), *_trailing(self._trailers)))
        return self._whole(HTTPStatus.OK, body, _TYPE_OF[self.call.accepts], headers)

    def failure(self, error: GatewayError) -> Answer:
        body = compact(error_of(error, self.call.id)).encode()
        headers = (*lines(self._headers), *lines(marks(error)), *error_fields(error), *_trailing(trailers_of(error)))
        return self._whole(TABLE[error.reason].http, body, "application/json", Headers(headers))


def _trailing(trailers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((f"trailer-{name}", value) for name, value in lines(trailers))


class ConnectGet(RpcProtocol):
    """A method that changes nothing, its message in the query."""

    name = PROTOCOL

    def matches(self, asked: Asked) -> bool:
        # A REST call may have a parameter of this name too.
        if asked.method != "GET" or ("connect", "v1") not in asked.query:
            return False
        return asked.find(self._view, PROTOCOL, asked.path).error is None

    def codec(self, asked: Asked, method: Method) -> str:
        if not method.safe:
            raise wrong_method("POST")
        codec = CODECS.get(dict(asked.query).get("encoding", ""))
        if codec is None:
            raise wrong_type(*UNARY_TYPES)
        return codec

    def terms(self, asked: Asked) -> Terms:
        return Terms(_seconds(asked.headers), body=asked_message(dict(asked.query), asked.limits.body))

    def exchange(self, call: Call, asked: Asked, method: Method, terms: Terms) -> ConnectExchange:
        del method
        return ConnectGetExchange(call, asked, terms.body)


def asked_message(query: Mapping[str, str], limit: int) -> bytes:
    """The message that a query carries."""
    text = query.get("message")
    if text is None:
        raise CallerError(Reason.MALFORMED, "the query has no message")
    body = text.encode()
    if query.get("base64") == "1":
        try:
            body = base64.b64decode(body.rstrip(b"=") + b"=" * (-len(body.rstrip(b"=")) % 4), altchars=b"-_", validate=True)
        except binascii.Error as error:
            raise CallerError(Reason.MALFORMED, "the query's message is not base64") from error
    if packing("compression", query.get("compression", "")):
        body = inflated(body, "gzip", limit)
    return body


class ConnectGetExchange(ConnectExchange):
    """The same, with its message known."""

    def __init__(self, call: Call, asked: Asked, body: bytes) -> None:
        super().__init__(call, asked)
        self._message: Message | None = Message(body, call.accepts)

    async def receive(self) -> Message:
        message, self._message = self._message, None
        if message is None:
            raise EndOfMessages
        return message
