"""HTTP answers, written in one piece. They have what aiohttp's server asks of a response: prepare, write_eof, keep_alive.

aiohttp's own Response costs as much as all the rest of a small request; a head of six fields needs none of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

from aiohttp.web import BaseRequest, StreamResponse

from adapters.ingress.rest.connection import watch
from adapters.ingress.rest.request import ClosingError
from gateway.errors import GatewayError, HttpAnswer, RpcStatus
from gateway.message import NO_HEADERS, PROBLEM, Headers
from gateway.status import TABLE, allowed, marks, problem_body, retry_after

DRAIN_BYTES = 1 << 16
_NO_BODY = frozenset({204, 205, 304})
# Ours to say, never a backend's.
_OWN = frozenset(
    {"content-length", "transfer-encoding", "connection", "content-type", "content-encoding", "date", "server", "keep-alive"}
)
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_clock = [0, ""]


def _now() -> str:
    """The Date of this second (RFC 9110 6.6.1)."""
    second = int(time.time())
    if _clock[0] != second:
        _clock[:] = [second, formatdate(second, usegmt=True)]
    return cast("str", _clock[1])


def fields_of(headers: Headers) -> str:
    """What a backend's headers say, one line each, and never in the place of our own."""
    lines = ""
    for name, value in headers:
        if name not in _OWN and not name.startswith(":") and name.isascii() and "\r" not in value and "\n" not in value:
            lines += f"{name}: {value}\r\n"
    return lines


def head(status: int, call_id: str, fields: str, extra: Headers) -> bytes:
    """A response's head. `fields` are ours, `extra` a backend's."""
    line = _LINES.get(status) or f"HTTP/1.1 {status} -"
    fields += fields_of(extra)
    always = f"server: polygate\r\nx-content-type-options: nosniff\r\nx-request-id: {call_id}\r\ndate: {_now()}"
    return f"{line}\r\n{always}\r\n{fields}\r\n".encode("latin-1", "replace")


class Answer:
    """One whole response."""

    __slots__ = ("_body", "_content_type", "_encoding", "_headers", "_id", "_request", "keep_alive", "status")

    def __init__(
        self, status: int, body: bytes, content_type: str, call_id: str, headers: Headers = NO_HEADERS, *, encoding: str = ""
    ) -> None:
        self.status = status
        self.keep_alive: bool | None = None
        self._body = body
        self._content_type = content_type
        self._encoding = encoding
        self._id = call_id
        self._headers = headers

    def with_header(self, name: str, value: str) -> None:
        """Add one header of ours."""
        self._headers = self._headers.plus((name, value))

    def force_close(self) -> None:
        """The connection closes after this answer."""
        self.keep_alive = False

    def last(self) -> bytes:
        """The whole of it, for a connection that closes before aiohttp has a request of its own to answer."""
        return self._head(keep=False) + self._body

    def _head(self, *, keep: bool) -> bytes:
        fields = "" if keep else "connection: close\r\n"
        if self.status not in _NO_BODY:
            fields += f"content-type: {self._content_type}\r\ncontent-length: {len(self._body)}\r\n"
        if self._encoding:
            fields += f"content-encoding: {self._encoding}\r\n"
        return head(self.status, self._id, fields, self._headers)

    async def prepare(self, request: BaseRequest) -> None:
        """Called once by aiohttp, before write_eof."""
        self._request = request
        # An HTTP/1.0 caller would have to be told that the connection stays; none needs it to.
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive and request.version == (1, 1)

    async def write_eof(self) -> None:
        """Called once by aiohttp. A ConnectionError is its word for a caller who is gone."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        body = self._body
        start = self._head(keep=bool(self.keep_alive))
        transport.write(start if self._request.method == "HEAD" else start + body)
        watch(self._request)
        if len(body) > DRAIN_BYTES:
            await self._request.writer.drain()

    @property
    def response(self) -> StreamResponse:
        """The same, by the name that aiohttp's signatures have for it."""
        return cast("StreamResponse", self)


def error_fields(error: GatewayError) -> Iterator[tuple[str, str]]:
    """The header fields that an error's status has (RFC 9110 15.5)."""
    status = TABLE[error.reason].http
    seconds = retry_after(error)
    names = ", ".join(allowed(error))
    if seconds is not None and status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        yield "retry-after", str(max(1, round(seconds + 0.499)))
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        yield "allow", names
    elif status == HTTPStatus.UNAUTHORIZED:
        yield "www-authenticate", names or "Bearer"
    elif status in {HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.NOT_ACCEPTABLE} and names:
        yield "accept", names


def error_answer(error: GatewayError, call_id: str, accepted: Headers = NO_HEADERS) -> Answer:
    """The one place where an error becomes an HTTP answer. `accepted`: the headers of the yes that came before it."""
    row = TABLE[error.reason]
    headers = Headers((*accepted, *marks(error), *_trailers(error)))
    for detail in error.details:
        if isinstance(detail, HttpAnswer):
            kind = detail.headers.get("content-type") or "application/octet-stream"
            return Answer(detail.status, detail.body, kind, call_id, Headers((*detail.headers, *headers)))
    answer = Answer(row.http, problem_body(error, call_id), PROBLEM, call_id, Headers((*headers, *error_fields(error))))
    if isinstance(error, ClosingError):
        answer.force_close()
    return answer


def _trailers(error: GatewayError) -> Headers:
    """What a gRPC backend's error came with, where an answer has one head only."""
    return next((detail.trailers for detail in error.details if isinstance(detail, RpcStatus)), NO_HEADERS)
