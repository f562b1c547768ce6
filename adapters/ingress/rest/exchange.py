"""A REST request as an exchange: one body in; one response out, or a stream of SSE, NDJSON or JSON array."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest, StreamResponse

from adapters.ingress.rest.answer import Answer, error_answer, head
from adapters.ingress.rest.request import media_type, read_body
from gateway.errors import GatewayError
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.framing import NDJSON, SSE, SSE_HEARTBEAT, ndjson, sse
from gateway.message import JSON, NO_HEADERS, Headers, Message
from gateway.status import Failure, problem_body

FLUSH_BYTES = 1 << 16
WAIT_BYTES = 1 << 15
HEARTBEAT_S = 15.0


class RestExchange(Exchange):
    """One body, one response: kept until the handler returns, so that what fails late is still answered as a failure."""

    __slots__ = ("_headers", "_limit", "_read", "_reply", "_seconds", "call", "request")

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
        request = self.request
        body = b""
        if request.content is not EMPTY_PAYLOAD:
            body = await read_body(request, self.call.headers, self._limit, self._seconds)
        kind = self.call.headers.get("content-type")
        return Message(body, media_type(kind) if kind else JSON)

    async def send(self, message: Message) -> None:
        if self._reply is not None:
            raise AssertionError("a second reply to a caller that gets one: refused when the config is loaded")
        self._reply = message

    def answer(self) -> Answer:
        """The response, once the handler has returned."""
        status = int(self._headers.get(":status") or 200) if self._headers else 200
        reply = self._reply
        if reply is None:
            return Answer(204 if status == HTTPStatus.OK else status, b"", JSON, self.call.id, self._headers)
        if isinstance(reply, Failure) and reply.error is not None:
            return error_answer(reply.error, self.call.id)
        return Answer(status, reply.body, reply.content_type, self.call.id, self._headers)

    def failure(self, error: GatewayError) -> Answer | StreamAnswer:
        """The response to an error, which here always comes before any answer."""
        return error_answer(error, self.call.id)


class OptionsExchange(RestExchange):
    """204, and which methods the path has (RFC 9110 9.3.7)."""

    def __init__(self, call: Call, request: BaseRequest, methods: tuple[str, ...]) -> None:
        super().__init__(call, request, 0, 0)
        self._methods = methods

    def answer(self) -> Answer:
        return Answer(HTTPStatus.NO_CONTENT, b"", "", self.call.id, Headers((("allow", ", ".join(self._methods)),)))


class StreamAnswer:
    """A response whose head and frames the exchange has written itself; aiohttp writes its end."""

    __slots__ = ("_request", "clean", "keep_alive")

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self.keep_alive: bool | None = request.keep_alive and request.version == (1, 1)
        self.clean = True

    def force_close(self) -> None:
        """The connection closes after this answer."""
        self.keep_alive = False

    async def prepare(self, _request: BaseRequest) -> None:
        """Called once by aiohttp: the head is out already."""

    async def write_eof(self) -> None:
        """Called once by aiohttp: the last chunk (RFC 9112 7.1), unless the stream did not come to its end."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        if self.clean and self._request.version == (1, 1) and self._request.method != "HEAD":
            transport.write(b"0\r\n\r\n")

    @property
    def response(self) -> StreamResponse:
        """The same, by the name that aiohttp's signatures have for it."""
        return cast("StreamResponse", self)


class StreamExchange(RestExchange):
    """One body in, a stream out. What is sent within one turn of the event loop leaves as one chunk."""

    def __init__(self, call: Call, request: BaseRequest, limit: int, seconds: float) -> None:
        super().__init__(call, request, limit, seconds)
        self._answer: StreamAnswer | None = None
        self._frames: list[bytes] = []
        self._size = 0
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._flush: asyncio.Handle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._idle = True
        self._chunked = request.version == (1, 1)

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._answer is not None:
            return
        kind = self.call.accepts
        self._answer = StreamAnswer(self.request)
        fields = f"content-type: {kind}\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
        fields += "transfer-encoding: chunked\r\n" if self._chunked else ""
        fields += "" if self._answer.keep_alive else "connection: close\r\n"
        transport = self.request.transport
        if transport is not None and not transport.is_closing():
            transport.write(head(200, self.call.id, fields, headers.without("cache-control", "x-accel-buffering")))
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
        if self._answer is None:
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
        if not self._frames or transport is None or transport.is_closing() or self.request.method == "HEAD":
            return
        chunk = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        self._idle = False
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

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

    async def finish(self) -> StreamAnswer:
        """The end of the stream, once the handler has returned."""
        await self.accept()
        if self.call.accepts == JSON:
            self._write(b"]")
        self._flush_now()
        assert self._answer is not None  # noqa: S101  accept() has made it
        await self.request.writer.drain()
        return self._answer

    def failure(self, error: GatewayError) -> Answer | StreamAnswer:
        """Before the head: a proper status. After it: in-band, and never a clean end."""
        if self._answer is None:
            return error_answer(error, self.call.id)
        body = problem_body(error, self.call.id)
        kind = self.call.accepts
        if kind == SSE:
            self._write(sse(body, name="error"))
        elif kind == NDJSON:
            self._write(b'{"error":' + body + b"}\n")
        self._flush_now()
        if kind == JSON:
            # An array cannot say it: the connection breaks off, so that no client takes half of it for all.
            self._answer.clean = False
            self._answer.force_close()
        return self._answer
