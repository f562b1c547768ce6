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
from adapters.ingress.rest.envelope import envelope, gzipped, plain
from adapters.ingress.rest.exchange import HttpExchange, RestExchange
from adapters.ingress.rest.request import inflated, media_type
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
    trailers_of,
)
from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages
from gateway.message import Headers, Many, Message, compact
from gateway.port import View
from gateway.route import Endpoint
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


def timeout(text: str | None) -> float | None:
    """Seconds of a Connect-Timeout-Ms: one to ten digits."""
    if text is None:
        return None
    if not _TIMEOUT.match(text):
        raise CallerError(Reason.MALFORMED, "Connect-Timeout-Ms is one to ten digits")
    return int(text) / 1000


def check_version(text: str | None) -> None:
    """Only version 1 is known."""
    if text is not None and text != "1":
        raise CallerError(Reason.MALFORMED, "connect-protocol-version must be 1")


class ConnectStream:
    """See `Protocol`: methods that stream, by POST."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        return asked.kind.startswith(STREAM)

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        view, headers = self._view, asked.headers
        found = asked.find(view, PROTOCOL, asked.path)
        many = streams(view, asked.path, found.endpoint.many)
        codec = STREAM_TYPES.get(asked.kind.partition(";")[0].strip())
        if asked.method != "POST":
            return refused(
                asked, view, PROTOCOL, CallerError(Reason.WRONG_METHOD, "a stream is POST", details=(Allowed(("POST",)),))
            )
        if codec is None or (found.error is None and many is Many.NEITHER):
            served = tuple(UNARY_TYPES if many is Many.NEITHER else STREAM_TYPES)
            return refused(
                asked,
                view,
                PROTOCOL,
                CallerError(Reason.UNSUPPORTED, "this method has other media types", details=(Allowed(served),)),
            )
        endpoint, seconds, unpack = found.endpoint, None, False
        try:
            check_version(headers.get("connect-protocol-version"))
            seconds = timeout(headers.get("connect-timeout-ms"))
            unpack = packing("connect-content-encoding", headers.get("connect-content-encoding") or "")
        except CallerError as error:
            endpoint = view.refuse(PROTOCOL, error)
        pack = takes_gzip(headers.joined("connect-accept-encoding"))
        speech = Speech(asked.kind, codec, many if found.error is None else Many.REPLIES, unpack, pack, plain)
        call = asked.call(
            PROTOCOL,
            asked.path,
            found.params,
            headers=metadata(headers),
            many=found.endpoint.many,
            deadline=due(seconds),
            accepts=codec,
        )
        return ConnectStreamExchange(call, asked, speech), endpoint


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


class ConnectUnary:
    """See `Protocol`: methods with one message each way, by POST. What tells them from a REST call is the version's header."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        return asked.headers.get("connect-protocol-version") is not None

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        view, headers = self._view, asked.headers
        if asked.method != "POST":
            methods = ("GET", "POST") if safe(view, asked.path) else ("POST",)
            return refused(
                asked, view, PROTOCOL, CallerError(Reason.WRONG_METHOD, "this method is POST", details=(Allowed(methods),))
            )
        found = asked.find(view, PROTOCOL, asked.path)
        codec = UNARY_TYPES.get(media_type(asked.kind))
        many = streams(view, asked.path, found.endpoint.many)
        if codec is None or many is not Many.NEITHER:
            served = tuple(UNARY_TYPES if many is Many.NEITHER else STREAM_TYPES)
            return refused(
                asked,
                view,
                PROTOCOL,
                CallerError(Reason.UNSUPPORTED, "this method has other media types", details=(Allowed(served),)),
            )
        endpoint, seconds = found.endpoint, None
        try:
            check_version(headers.get("connect-protocol-version"))
            seconds = timeout(headers.get("connect-timeout-ms"))
        except CallerError as error:
            endpoint = view.refuse(PROTOCOL, error)
        call = asked.call(
            PROTOCOL,
            asked.path,
            found.params,
            headers=metadata(headers),
            many=found.endpoint.many,
            deadline=due(seconds),
            accepts=codec,
        )
        return ConnectExchange(call, asked, codec), endpoint


def safe(view: View, path: str) -> bool:
    """Whether a method changes nothing, so that GET may call it."""
    contract = view.contracts.methods.get(path[1:])
    return contract is not None and contract.safe


class ConnectExchange(RestExchange):
    """One message in, one out."""

    def __init__(self, call: Call, asked: Asked, codec: str) -> None:
        super().__init__(call, asked.request, asked.limits.body, asked.limits.seconds)
        self._codec = codec
        self._gzip = takes_gzip(asked.headers.joined("accept-encoding"))
        self._compress_from = asked.limits.compress_from

    async def receive(self) -> Message:
        return Message((await super().receive()).body, self._codec)

    def answer(self) -> Answer:
        reply = self._reply
        if isinstance(reply, Failure) and reply.error is not None:
            return self.failure(reply.error)
        body = b"" if reply is None else reply.body
        return self._answer(HTTPStatus.OK, body, _TYPE_OF[self._codec], (*lines(self._headers), *_trailing(self._trailers)))

    def _answer(self, status: int, body: bytes, content_type: str, headers: tuple[tuple[str, str], ...]) -> Answer:
        packed = self._gzip and len(body) >= self._compress_from
        if not packed:
            return Answer(status, body, content_type, self.call.id, Headers(headers))
        marked = Headers((*headers, ("vary", "accept-encoding")))
        return Answer(status, gzipped(body), content_type, self.call.id, marked, encoding="gzip")

    def failure(self, error: GatewayError) -> Answer:
        body = compact(error_of(error, self.call.id)).encode()
        headers = (*lines(self._headers), *lines(marks(error)), *error_fields(error), *_trailing(trailers_of(error)))
        return self._answer(TABLE[error.reason].http, body, "application/json", headers)


def _trailing(trailers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((f"trailer-{name}", value) for name, value in lines(trailers))


class ConnectGet:
    """See `Protocol`: a method that changes nothing, its message in the query."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        return asked.method == "GET" and ("connect", "v1") in asked.query

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        view, headers, path = self._view, asked.headers, asked.path
        found = asked.find(view, PROTOCOL, path)
        if not safe(view, path):
            return refused(
                asked, view, PROTOCOL, CallerError(Reason.WRONG_METHOD, "this method is POST", details=(Allowed(("POST",)),))
            )
        query = dict(asked.query)
        codec = CODECS.get(query.get("encoding", ""))
        if codec is None:
            return refused(
                asked, view, PROTOCOL, CallerError(Reason.UNSUPPORTED, "no such codec", details=(Allowed(tuple(CODECS)),))
            )
        endpoint, seconds, body = found.endpoint, None, b""
        try:
            seconds = timeout(headers.get("connect-timeout-ms"))
            body = asked_message(query, asked.limits.body)
        except CallerError as error:
            endpoint = view.refuse(PROTOCOL, error)
        call = asked.call(PROTOCOL, path, found.params, headers=metadata(headers), deadline=due(seconds), accepts=codec)
        return ConnectGetExchange(call, asked, codec, body), endpoint


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

    def __init__(self, call: Call, asked: Asked, codec: str, body: bytes) -> None:
        super().__init__(call, asked, codec)
        self._message: Message | None = Message(body, codec)

    async def receive(self) -> Message:
        message, self._message = self._message, None
        if message is None:
            raise EndOfMessages
        return message
