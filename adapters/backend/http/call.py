"""One exchange with an HTTP backend: the request on its way, the deadline, and what had left when something failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from aiohttp import ClientError, ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

from adapters.backend.http.answer import Ndjson, Reading, Sse, media_type
from adapters.http.request import BODILESS, Outgoing, opener
from gateway.errors import BackendError, Reason
from gateway.exchange import EndOfMessages, Exchange
from gateway.framing import LINES, NDJSON, SSE, ndjson
from gateway.message import BYTES, Message
from gateway.signature import Signer
from gateway.target import Target

# How many connections are tried while nothing has left: pooled ones may all have been closed by a peer that restarted.
TRIES = 5

AT_ONCE = 1 << 16
NOTHING = Message(b"")

STREAMS = {"sse": SSE, "ndjson": NDJSON}
_SERVED_AS = {"sse": frozenset({SSE}), "ndjson": LINES}


class _StaleError(Exception):
    """A pooled connection holds bytes that nobody asked for: what we read there would answer somebody else's request."""


class Request(ClientRequest):
    """A request that knows whether any of it may have left.

    The client library checks a pooled connection for life when it takes it; the peer's closing may show itself between that
    and the first write, and what is left of an earlier answer never does.
    """

    taken = False
    """It has a connection."""
    left = False
    """The peer may have seen some of it."""

    async def send(self, conn: Connection) -> ClientResponse:
        self.taken = True
        if conn.protocol is None or conn.protocol.should_close:
            raise _StaleError
        # With a body, head and body are written together, by `write_bytes`.
        self.left = not self.body
        return await super().send(conn)

    async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None) -> None:
        protocol = conn.protocol
        self.left = protocol is not None and protocol.transport is not None and not protocol.transport.is_closing()
        await super().write_bytes(writer, conn, content_length)


class Pool:
    """How many exchanges have a connection or wait for one."""

    def __init__(self, connections: int, waiting: int) -> None:
        self._connections = connections
        self._limit = connections + waiting
        self._running = 0

    def __enter__(self) -> None:
        if self._running >= self._limit:
            raise BackendError(Reason.OVERLOADED, "too many calls wait for a connection to the backend")
        self._running += 1

    def __exit__(self, *error: object) -> None:
        self._running -= 1

    @property
    def full(self) -> bool:
        """Every connection is taken, and somebody waits."""
        return self._running > self._connections


class _Attempt:
    """One request on its way, as the client's middleware: where its errors become reasons.

    Left alone, the client repeats an idempotent request whose connection broke: PUT and DELETE, and what a route's author knows
    to be unsafe. Whether a repeat is legal is not for a backend to say, so what leaves here is our error, which it does not
    repeat. As long as nothing has left, another connection is no repeat.
    """

    __slots__ = ("_pool", "_reading", "_repeatable", "_request")

    def __init__(self, pool: Pool, reading: Reading, *, repeatable: bool) -> None:
        """`repeatable`: another connection may be tried where this one was closed before anything left."""
        self._pool = pool
        self._reading = reading
        self._repeatable = repeatable
        self._request: Request | None = None

    async def __call__(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        if not isinstance(request, Request):
            raise AssertionError("the session makes requests of this class alone")  # noqa: TRY004  a defect of ours
        self._request = request
        for _ in range(TRIES):
            request.taken = False
            try:
                return await send(request)
            except _StaleError:
                continue
            except (ClientError, OSError) as error:
                if request.left:
                    raise self._reading.bad("the backend broke off before its answer, or its answer cannot be read") from error
                if request.taken and self._repeatable:
                    continue
                if isinstance(error, TimeoutError) and self._pool.full:
                    raise BackendError(Reason.OVERLOADED, "every connection to the backend is taken") from error
                raise BackendError(Reason.UNREACHABLE, "the backend cannot be reached") from error
        raise BackendError(Reason.UNREACHABLE, "the backend closes its connections")

    @property
    def left(self) -> bool:
        """Whether the server may have seen any of the request."""
        return self._request is not None and self._request.left

    def overdue(self) -> BackendError:
        """The deadline passed."""
        if self.left and not self._reading.safe:
            return BackendError(Reason.UNKNOWN_OUTCOME, "the backend did not answer in time")
        return BackendError(Reason.TIMED_OUT, "the backend did not answer in time")


class _Upload:
    """The caller's messages as the lines of a request body, read by the client library's writer while it sends."""

    def __init__(self, exchange: Exchange, first: Message | None) -> None:
        self._exchange = exchange
        self._first = first
        self.error: Exception | None = None

    async def lines(self) -> AsyncIterator[bytes]:
        """The body. An error of the caller's is kept: the writer would hide it behind one of its own."""
        message = self._first
        try:
            while message is not None:
                yield ndjson(message.body)
                message = await self._exchange.receive()
        except EndOfMessages:
            return
        except Exception as error:
            self.error = error
            raise


@dataclass(frozen=True, slots=True)
class Manner:
    """How a target's exchanges go."""

    stream: Literal["none", "sse", "ndjson"]
    uploads: bool
    """The caller's messages go up as one body."""
    seconds: float
    """For a call without a deadline."""
    empty: bytes | None
    """What a success without a body means, where every call must have a reply."""
    sign: Signer | None
    ignores: bool
    """The body of a success is not looked at."""


def _body(body: bytes) -> bytes | BytesIO:
    """The client library writes bytes at once, and warns of what it thinks too large for that; it reads a file piece by piece."""
    return body if len(body) <= AT_ONCE else BytesIO(body)


class Calling:
    """The handler of one target."""

    def __init__(
        self,
        send: Callable[..., Awaitable[ClientResponse]],
        pool: Pool,
        target: Target,
        outgoing: Outgoing,
        reading: Reading,
        manner: Manner,
    ) -> None:
        self._send = send
        self._pool = pool
        self._target = target
        self._outgoing = outgoing
        self._reading = reading
        self._manner = manner
        self._bodiless = outgoing.method in BODILESS

    async def run(self, exchange: Exchange) -> None:
        """See `Backend.handler`."""
        message = await self._first(exchange)
        upload = _Upload(exchange, message) if self._manner.uploads else None
        with self._pool:
            try:
                response, body = await self._asked(exchange, message or NOTHING, upload)
                try:
                    if body is None:
                        await self._pour(exchange, response)
                finally:
                    response.close()
            except BackendError:
                if upload is not None and upload.error is not None:
                    raise upload.error from None
                raise
        if body is not None:
            await self._reply(exchange, response, body)

    async def _first(self, exchange: Exchange) -> Message | None:
        """A request without a body needs no message, and a body of lines may have none."""
        try:
            return await exchange.receive()
        except EndOfMessages:
            if self._bodiless or self._manner.uploads:
                return None
            raise

    async def _asked(self, exchange: Exchange, message: Message, upload: _Upload | None) -> tuple[ClientResponse, bytes | None]:
        """The answer within the deadline: with its whole body or, of a stream that has begun, without."""
        call = exchange.call
        now = asyncio.get_running_loop().time()
        due = call.due(self._manner.seconds)
        attempt = _Attempt(self._pool, self._reading, repeatable=upload is None)
        if due <= now:
            raise attempt.overdue()
        fields = opener(self._target.fields, message)
        url, headers = self._outgoing.url(call, fields), self._outgoing.headers(call, fields)
        data: bytes | BytesIO | AsyncIterator[bytes] | None = None
        if not self._bodiless:
            data = _body(message.body) if upload is None else upload.lines()
            kind = (message.content_type or BYTES) if self._reading.opaque else self._target.content_type
            headers["content-type"] = kind if upload is None else NDJSON
        if self._manner.sign is not None:
            # By the record where it is one: its id must be the same for every try, and a call's is not.
            headers.update(self._manner.sign(call.record or call.id, b"" if self._bodiless else message.body))
        response = None
        try:
            async with asyncio.timeout_at(due):
                response = await self._send(self._outgoing.method, url, headers=headers, data=data, middlewares=(attempt,))
                if self._reading.succeeded(response) and self._manner.stream != "none":
                    return response, None
                return response, await self._reading.body(response)
        except BaseException as error:
            if response is not None:
                response.close()
            # Ours alone: errors of the client's own clock have become reasons in the attempt.
            if isinstance(error, TimeoutError):
                raise attempt.overdue() from error
            raise

    async def _reply(self, exchange: Exchange, response: ClientResponse, body: bytes) -> None:
        """The one reply."""
        reading = self._reading
        if not reading.succeeded(response):
            raise reading.refusal(response, body)
        message = reading.message(response, body) if body and not self._manner.ignores else None
        if message is None and self._manner.empty is not None:
            message = Message(self._manner.empty, self._target.content_type)
        await exchange.accept(reading.head(response, empty=message is None))
        if message is not None:
            await exchange.send(message)

    async def _pour(self, exchange: Exchange, response: ClientResponse) -> None:
        """Every reply of a stream."""
        stream, reading = self._manner.stream, self._reading
        kind, _ = media_type(response)
        if kind and kind not in _SERVED_AS[stream]:
            raise reading.bad("the backend's answer is no stream of the kind that the route names")
        framing = Sse(reading) if stream == "sse" else Ndjson(reading)
        await exchange.accept(reading.head(response))
        await reading.pour(response, exchange, framing)
        for message in framing.end():
            await exchange.send(message)
