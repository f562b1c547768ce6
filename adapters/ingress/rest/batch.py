"""A REST request that holds many messages for a route that answers one with one: each is answered by itself, in order.

    {"status": 201, "receipt": {...}}
    {"status": 201, "receipt": {...}, "replayed": true}
    {"status": 503, "error": {...}}          the problem object (RFC 9457)

The status of the whole is 200: what became of a message is said with it alone. A body that breaks off is the last answer. Where
all is done or nothing, what is wrong with one is the answer to the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp.web import BaseRequest

from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.rest.answer import Answer
from adapters.ingress.rest.asked import Asked, Limits
from adapters.ingress.rest.body import Body
from adapters.ingress.rest.exchange import RestExchange, StreamExchange
from adapters.ingress.rest.outflow import Outflow
from adapters.ingress.rest.request import choose, media_type
from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages
from gateway.framing import LINES, NDJSON
from gateway.message import JSON, NO_HEADERS, Headers, Many, Message
from gateway.route import Batch, Endpoint
from gateway.status import TABLE, Failure, problem_body

HOLD_BYTES = 1 << 20
"""How many answers wait for a caller who reads only once all is sent; beyond, they are waited for."""

Called = Callable[..., Call]
"""`Asked.call` with what the route has found."""
Refused = Callable[[GatewayError], Endpoint]


def holds_many(kind: str, batch: Batch) -> bool:
    """Whether a body of a media type may hold many messages: lines always, an array where the route takes that for a batch."""
    if kind == JSON:
        return batch.arrays
    kind = kind.partition(";")[0].strip()
    return kind in LINES or (batch.arrays and kind in {JSON, ""})


class BatchExchange(StreamExchange):
    """One of them. One whose body turns out to be a single JSON value is a call like any other."""

    __slots__ = ("_ahead", "_broken", "_left", "_most", "_together", "streams")

    def __init__(self, call: Call, request: BaseRequest, limits: Limits, batch: Batch) -> None:
        super().__init__(call, request, limits)
        self.streams = False
        self._together = batch.whole
        self._most = self._left = batch.limit
        self._ahead: Message | None = None
        self._broken: GatewayError | None = None

    async def begins(self) -> bool:
        """Whether there are many; reads the first of them."""
        assert self.body is not None  # noqa: S101  whoever makes it gives it one
        try:
            self._ahead = await self.body.receive()
        except EndOfMessages:
            return True
        except CallerError as error:
            self._broken = error
            return False
        return self.body.many

    async def receive(self) -> Message:
        assert self.body is not None  # noqa: S101
        ahead, self._ahead = self._ahead, None
        if not self.streams:
            if self._broken is not None:
                raise self._broken
            if ahead is None:
                raise EndOfMessages
            return ahead
        try:
            message = ahead if ahead is not None else await self.body.receive()
        except CallerError as error:
            if self._together:
                raise
            # Those before it are on their way, and each is answered.
            self._broken = error
            raise EndOfMessages from error
        if not self._left and not self._together:
            self._broken = CallerError(Reason.TOO_LARGE, f"a batch has {self._most} messages at most")
            raise EndOfMessages
        self._left -= 1
        return message

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        await (StreamExchange if self.streams else RestExchange).accept(self, headers)

    async def send(self, message: Message) -> None:
        if not self.streams:
            await RestExchange.send(self, message)
            return
        if not self._out.opened:
            await self.accept()
        self._write(_answered(message))
        await self._out.pace(HOLD_BYTES)

    def _write(self, element: bytes) -> None:
        self._out.write(self._frame(Message(element, JSON)))
        self._sent += 1

    def conclude(self, headers: Headers) -> None:
        (StreamExchange if self.streams else RestExchange).conclude(self, headers)

    async def finish(self) -> Outflow:
        await self.accept()
        if self._broken is not None:
            self._write(_failed(self._broken, problem_body(self._broken, self.call.id)))
            if not self.request.content.is_eof():
                self._out.force_close()  # the rest of the body is nobody's next request
        return await super().finish()

    def failure(self, error: GatewayError) -> Answer | Outflow:
        return (StreamExchange if self.streams else RestExchange).failure(self, error)


def _answered(message: Message) -> bytes:
    if isinstance(message, Failure) and message.error is not None:
        return _failed(message.error, message.body)
    status = message.headers.get(":status") or "200"
    replayed = b',"replayed":true' if message.headers.get("idempotency-replayed") else b""
    return b'{"status":%b,"receipt":%b%b}' % (status.encode(), message.body, replayed)


def _failed(error: GatewayError, problem: bytes) -> bytes:
    return b'{"status":%d,"error":%b}' % (TABLE[error.reason].http, problem)


def batched(asked: Asked, called: Called, endpoint: Endpoint, batch: Batch, refused: Refused) -> tuple[BatchExchange, Endpoint]:
    """The exchange of a request that may hold many messages, and what answers it. Raises GatewayError."""
    lines = media_type(asked.kind) in LINES
    accept, seconds = asked.headers.joined("accept"), seconds_of(asked.headers.get(NAME))
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    exchange = BatchExchange(called(deadline=deadline), asked.request, asked.limits, batch)
    exchange.body = Body(asked, raw=False)

    async def run(_exchange: object) -> None:
        exchange.streams = await exchange.begins()
        many, served = exchange.streams, (NDJSON, JSON) if lines else (JSON, NDJSON)
        try:
            accepts = choose(accept, served if many else endpoint.offers, False)
        except GatewayError as error:
            exchange.streams = False
            await refused(error).handler(exchange)
            return
        accepts = accepts or (served[0] if many else "")
        exchange.call = called(deadline=deadline, accepts=accepts, many=Many.BOTH if many else Many.NEITHER)
        await (batch.handler if many else endpoint.handler)(exchange)

    return exchange, Endpoint(endpoint.route, run)
