"""A REST request as an exchange: one body in, or many messages of it; one response out, or a stream of them."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from http import HTTPStatus

from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import BaseRequest

from adapters.ingress.rest.answer import Answer, error_answer
from adapters.ingress.rest.asked import Limits
from adapters.ingress.rest.body import Body
from adapters.ingress.rest.envelope import gzipped
from adapters.ingress.rest.outflow import Outflow
from adapters.ingress.rest.request import media_type, read_body, takes_gzip
from gateway.errors import GatewayError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.framing import NDJSON, NDJSON_HEARTBEAT, SSE, SSE_HEARTBEAT, ndjson, sse
from gateway.message import BYTES, JSON, NO_HEADERS, STARTS, Headers, Message, Notice, shared
from gateway.status import Failure, problem_body, resume

LINGER_S = 5.0
"""What a caller that was too slow may take to read what was sent to it before."""
_BEATS = {SSE: SSE_HEARTBEAT, NDJSON: NDJSON_HEARTBEAT}
_PACKED = ("image/", "audio/", "video/", "application/gzip", "application/zip")
"""Types that are compressed already."""


@shared
def _event(message: Message) -> bytes:
    return sse(message.body, id=message.cursor, name=message.name if isinstance(message, Notice) else None)


class HttpExchange(Exchange):
    """A request of any protocol on this port. What goes out is an `Answer`, all at once, or an `Outflow`."""

    __slots__ = ()
    streams: bool
    """It may have many replies, so that it is concluded by `finish` and `close`; otherwise `answer` gives it as a whole."""
    cursor: str | None = None
    """Of the latest event that was sent, in a stream of a topic."""

    @property
    @abstractmethod
    def uploads(self) -> bool:
        """It may have many requests."""

    def answer(self) -> Answer:
        """The response, once the handler has returned."""
        raise AssertionError("a stream is finished")

    async def finish(self) -> Outflow:
        """The end of a stream, once the handler has returned."""
        raise AssertionError("what does not stream is answered")

    @abstractmethod
    def failure(self, error: GatewayError) -> Answer | Outflow:
        """The response to an error: a proper status, or the end of what has begun, never a clean one."""

    def close(self) -> None:
        """Let go of the timers; what is not written yet is dropped with the caller."""


class RestExchange(HttpExchange):
    """One body, one response: kept until the handler returns, so that what fails late is still answered as a failure."""

    streams = False
    __slots__ = (
        "_compress_from",
        "_headers",
        "_limit",
        "_read",
        "_reply",
        "_seconds",
        "_trailers",
        "body",
        "call",
        "raw",
        "request",
    )

    def __init__(self, call: Call, request: BaseRequest, limits: Limits) -> None:
        self.call = call
        self.request = request
        self._limit = limits.body
        self._seconds = limits.seconds
        self._compress_from = limits.compress_from
        self._read = False
        self._headers = NO_HEADERS
        self._trailers = NO_HEADERS
        self._reply: Message | None = None
        self.body: Body | None = None
        """Of a body that may hold many messages."""
        self.raw = False
        """The body is bytes of any media type, which stands as it came, its parameters too; "" where none is told."""

    @property
    def uploads(self) -> bool:
        return self.body is not None

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if not self._headers:
            self._headers = headers

    async def receive(self) -> Message:
        if self.body is not None:
            return await self.body.receive()
        if self._read:
            raise EndOfMessages
        self._read = True
        request = self.request
        body = b""
        if request.content is not EMPTY_PAYLOAD:
            body = await read_body(request, self.call.headers, self._limit, self._seconds)
        kind = self.call.headers.get("content-type")
        if self.raw:
            return Message(body, kind or "")
        return Message(body, media_type(kind) if kind else JSON)

    async def send(self, message: Message) -> None:
        if self._reply is not None:
            raise AssertionError("a second reply to a caller that gets one: refused when the config is loaded")
        self._reply = message

    def conclude(self, headers: Headers) -> None:
        self._trailers = headers

    def answer(self) -> Answer:
        """The response, once the handler has returned."""
        status = int(self._headers.get(":status") or 200) if self._headers else 200
        reply = self._reply
        headers = Headers((*self._headers, *self._trailers)) if self._trailers else self._headers
        if reply is None:
            return Answer(204 if status == HTTPStatus.OK else status, b"", JSON, self.call.id, headers)
        if isinstance(reply, Failure) and reply.error is not None:
            return error_answer(reply.error, self.call.id)
        return self._whole(status, reply.body, reply.content_type, headers)

    def _whole(self, status: int, body: bytes, content_type: str, headers: Headers) -> Answer:
        """A response, compressed where it is large and the caller takes that (RFC 9110 8.4)."""
        if len(body) < self._compress_from or content_type.startswith(_PACKED):
            return Answer(status, body, content_type, self.call.id, headers)
        headers = headers.plus(("vary", "accept-encoding"))
        if not takes_gzip(", ".join(self.request.headers.getall("accept-encoding", ()))):
            return Answer(status, body, content_type, self.call.id, headers)
        return Answer(status, gzipped(body), content_type, self.call.id, headers, encoding="gzip")

    def failure(self, error: GatewayError) -> Answer | Outflow:
        """The response to an error, which here always comes before any answer."""
        return error_answer(error, self.call.id, self._headers)


class OptionsExchange(RestExchange):
    """204, and which methods the path has (RFC 9110 9.3.7)."""

    def __init__(self, call: Call, request: BaseRequest, methods: tuple[str, ...]) -> None:
        super().__init__(call, request, Limits(0, 0, 0))
        self._methods = methods

    def answer(self) -> Answer:
        return Answer(HTTPStatus.NO_CONTENT, b"", "", self.call.id, Headers((("allow", ", ".join(self._methods)),)))


class StreamExchange(RestExchange):
    """One body in, a stream out. What is sent within one turn of the event loop leaves as one chunk."""

    streams = True
    __slots__ = ("_beat", "_heartbeat_s", "_out", "_sent", "cursor")

    def __init__(self, call: Call, request: BaseRequest, limits: Limits) -> None:
        super().__init__(call, request, limits)
        self._out = Outflow(request)
        self._sent = 0
        self.cursor: str | None = None
        self._heartbeat_s = limits.heartbeat
        self._beat: asyncio.TimerHandle | None = None

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._out.opened:
            return
        if self.body is not None:
            self.body.go_on()
        kind = self.call.accepts
        self.cursor = headers.get(STARTS)
        fields = f"content-type: {kind}\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
        self._out.open(self.call.id, fields, headers.without("cache-control", "x-accel-buffering"))
        if kind == JSON:
            self._out.write(b"[")
        elif kind in _BEATS:
            self._beat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._heartbeat)

    def _frame(self, message: Message) -> bytes:
        kind = self.call.accepts
        if kind == SSE:
            return _event(message)
        if kind == NDJSON:
            return ndjson(message.body)
        return (b"," if self._sent else b"") + message.body

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            raise message.error
        out = self._out
        if not out.opened:
            await self.accept()
        out.write(self._frame(message))
        self._sent += 1
        await out.pace()
        self.cursor = message.cursor

    def _heartbeat(self) -> None:
        """Something that says nothing, every so often, so that a silent stream is told from a dead one, by both sides."""
        out = self._out
        if out.idle and not out.waiting:
            out.write(_BEATS[self.call.accepts])
            out.flush()
        out.idle = True
        self._beat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._heartbeat)

    def close(self) -> None:
        """Let go of the timers; what is not written yet is dropped with the caller."""
        self._out.close()
        if self._beat is not None:
            self._beat.cancel()

    def conclude(self, headers: Headers) -> None:
        if any(part.strip().lower() == "trailers" for part in self.call.headers.joined("te").split(",")):
            self._out.trailers = headers

    async def finish(self) -> Outflow:
        """The end of the stream, once the handler has returned."""
        await self.accept()
        if self.call.accepts == JSON:
            self._out.write(b"]")
        await self._out.drained()
        return self._out

    def failure(self, error: GatewayError) -> Answer | Outflow:
        """Before the head: a proper status. After it: in-band, and never a clean end."""
        out = self._out
        if not out.opened:
            return error_answer(error, self.call.id)
        body = problem_body(error, self.call.id)
        kind = self.call.accepts
        if kind == SSE:
            # A browser comes back by itself, with the id that it was told last.
            out.write(sse(body, id=resume(error) or self.cursor, name="error"))
        elif kind == NDJSON:
            out.write(b'{"error":' + body + b"}\n")
        out.flush()
        if error.reason is Reason.SLOW_CALLER:
            out.let_go(LINGER_S)
        if kind == JSON:
            # An array cannot say it: the connection breaks off, so that no client takes half of it for all.
            out.clean = False
            out.force_close()
        return out


class RawExchange(StreamExchange):
    """A stream of google.api.HttpBody: its bytes one behind the other, of the media type that the first of them has."""

    __slots__ = ("_head",)

    def __init__(self, call: Call, request: BaseRequest, limits: Limits) -> None:
        super().__init__(call, request, limits)
        self._head = NO_HEADERS

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        """The head waits for the first message, which says what it all is."""
        self._head = self._head or headers

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            raise message.error
        self._open(message.content_type)
        if message.body:
            self._out.write(message.body)
        await self._out.pace()

    def _open(self, kind: str) -> None:
        if not self._out.opened:
            if self.body is not None:
                self.body.go_on()
            fields = f"content-type: {kind}\r\nx-accel-buffering: no\r\n"
            self._out.open(self.call.id, fields, self._head.without("x-accel-buffering"))

    async def finish(self) -> Outflow:
        self._open(BYTES)
        await self._out.drained()
        return self._out

    def failure(self, error: GatewayError) -> Answer | Outflow:
        """Before the head: a proper status. After it the connection breaks off: bytes have no place for an error."""
        out = self._out
        if not out.opened:
            return error_answer(error, self.call.id, self._head)
        out.flush()
        out.clean = False
        out.force_close()
        return out
