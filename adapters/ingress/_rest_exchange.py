"""A REST request as an exchange: one body in; one response out, or a stream of SSE, NDJSON or JSON array."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp.web import BaseRequest, Response, StreamResponse

from adapters.ingress._rest_request import ClosingError, media_type, read_body
from gateway.errors import GatewayError, HttpAnswer
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.framing import NDJSON, SSE, SSE_HEARTBEAT, ndjson, sse
from gateway.message import JSON, NO_HEADERS, PROBLEM, Headers, Message
from gateway.status import TABLE, Failure, allowed, problem_body, retry_after

FLUSH_BYTES = 1 << 16
WAIT_BYTES = 1 << 15
HEARTBEAT_S = 15.0
# Ours to say, never a backend's.
_OWN = frozenset({"content-length", "transfer-encoding", "connection", "content-type", "content-encoding", "date", "server"})
_NO_BODY = frozenset({204, 205, 304})
_SAFE_HEADERS = {"Server": "polygate", "X-Content-Type-Options": "nosniff"}


def response(status: int, body: bytes, content_type: str, call_id: str, headers: Headers = NO_HEADERS) -> Response:
    """One whole response, with the exchange's id."""
    answer = Response(status=status, body=body, headers={**_SAFE_HEADERS, "X-Request-Id": call_id})
    if body or status not in _NO_BODY:
        answer.headers["Content-Type"] = content_type
    for name, value in headers:
        if not name.startswith(":") and name not in _OWN:
            answer.headers.add(name, value)
    return answer


def error_response(error: GatewayError, call_id: str) -> Response:
    """The one place where an error becomes an HTTP answer."""
    row = TABLE[error.reason]
    for detail in error.details:
        if isinstance(detail, HttpAnswer):
            kind = detail.headers.get("content-type") or "application/octet-stream"
            return response(detail.status, detail.body, kind, call_id, detail.headers)
    answer = response(row.http, problem_body(error, call_id), PROBLEM, call_id)
    seconds = retry_after(error)
    if seconds is not None and row.http in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        answer.headers["Retry-After"] = str(max(1, round(seconds + 0.499)))
    if row.http == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(allowed(error))
    elif row.http == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = ", ".join(allowed(error)) or "Bearer"
    elif row.http in {HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.NOT_ACCEPTABLE} and allowed(error):
        answer.headers["Accept"] = ", ".join(allowed(error))
    if isinstance(error, ClosingError):
        answer.force_close()
    return answer


class RestExchange(Exchange):
    """One body, one response: kept until the handler returns, so that what fails late is still answered as a failure."""

    def __init__(self, call: Call, request: BaseRequest, limit: int, seconds: float) -> None:
        self.call = call
        self.request = request
        self._limit = limit
        self._seconds = seconds
        self._read = False
        self._headers = NO_HEADERS
        self._reply: Message | None = None

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if not self._headers:
            self._headers = headers

    async def receive(self) -> Message:
        if self._read:
            raise EndOfMessages
        self._read = True
        body = await read_body(self.request, self._limit, self._seconds)
        kind = self.request.headers.get("Content-Type")
        return Message(body, media_type(kind) if kind else JSON)

    async def send(self, message: Message) -> None:
        if self._reply is not None:
            raise AssertionError("a second reply to a caller that gets one: refused when the config is loaded")
        self._reply = message

    async def finish(self) -> StreamResponse:
        """The response, once the handler has returned."""
        status = int(self._headers.get(":status") or 200)
        reply = self._reply
        if reply is None:
            return response(204 if status == HTTPStatus.OK else status, b"", JSON, self.call.id, self._headers)
        if isinstance(reply, Failure) and reply.error is not None:
            return error_response(reply.error, self.call.id)
        return response(status, reply.body, reply.content_type, self.call.id, self._headers)

    async def fail(self, error: GatewayError) -> StreamResponse:
        """The response to an error, which here always comes before any answer."""
        return error_response(error, self.call.id)


class StreamExchange(RestExchange):
    """One body in, a stream out. What is sent within one turn of the event loop leaves as one chunk."""

    def __init__(self, call: Call, request: BaseRequest, limit: int, seconds: float) -> None:
        super().__init__(call, request, limit, seconds)
        self._response: StreamResponse | None = None
        self._frames: list[bytes] = []
        self._size = 0
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._flush: asyncio.Handle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._idle = True

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._response is not None:
            return
        kind = self.call.accepts
        answer = StreamResponse(headers={**_SAFE_HEADERS, "X-Request-Id": self.call.id, "Cache-Control": "no-store"})
        answer.headers["Content-Type"] = kind
        answer.headers["X-Accel-Buffering"] = "no"
        for name, value in headers:
            if not name.startswith(":") and name not in _OWN:
                answer.headers.add(name, value)
        if self.request.version == (1, 1):
            answer.enable_chunked_encoding()
        await answer.prepare(self.request)
        self.request.writer.send_headers()
        self._response = answer
        if kind == JSON:
            self._write(b"[")
        elif kind == SSE:
            self._beat = self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    def _frame(self, message: Message) -> bytes:
        kind = self.call.accepts
        if kind == SSE:
            return sse(message.body, id=message.cursor)
        if kind == NDJSON:
            return ndjson(message.body)
        return (b"," if self._sent else b"") + message.body

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            raise message.error
        if self._response is None:
            await self.accept()
        self._write(self._frame(message))
        self._sent += 1
        transport = self.request.transport
        if self._size > FLUSH_BYTES or (transport is not None and transport.get_write_buffer_size() > WAIT_BYTES):
            self._flush_now()
            await self.request.writer.drain()

    def _write(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._size += len(frame)
        if self._flush is None:
            self._flush = self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        """Write all frames as one chunk (RFC 9112 7.1); a connection that is gone cancels the handler by itself."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        transport = self.request.transport
        if not self._frames or transport is None or transport.is_closing():
            return
        chunk = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        self._idle = False
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self.request.version == (1, 1) else chunk)

    def _heartbeat(self) -> None:
        """A comment every so often, so that a silent stream is told from a dead one, by both sides."""
        if self._idle and not self._frames:
            self._write(SSE_HEARTBEAT)
            self._flush_now()
        self._idle = True
        self._beat = self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    def close(self) -> None:
        """Let go of the timers; what is not written yet is dropped with the caller."""
        for handle in (self._flush, self._beat):
            if handle is not None:
                handle.cancel()

    async def finish(self) -> StreamResponse:
        await self.accept()
        if self.call.accepts == JSON:
            self._write(b"]")
        self._flush_now()
        assert self._response is not None  # noqa: S101  accept() has made it
        await self.request.writer.drain()
        return self._response

    async def fail(self, error: GatewayError) -> StreamResponse:
        """Before the head: a proper status. After it: in-band, and never a clean end."""
        if self._response is None:
            return error_response(error, self.call.id)
        body = problem_body(error, self.call.id)
        kind = self.call.accepts
        if kind == SSE:
            self._write(sse(body, name="error"))
        elif kind == NDJSON:
            self._write(b'{"error":' + body + b"}\n")
        self._flush_now()
        if kind == JSON and self.request.transport is not None:
            # An array cannot say it: the connection breaks off, so that no client takes half of it for all.
            self.request.transport.abort()
        return self._response
