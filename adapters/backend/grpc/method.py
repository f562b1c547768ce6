"""A method of the peer: one message for one, or both ways at once. What grpcio says of itself is told from what the peer said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from adapters.backend.grpc.link import Link
from adapters.grpc.failure import LastWord, answered, bad_answer, failure_of, late
from gateway.errors import BackendError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange, early, relay
from gateway.message import PROTOBUF, Many, Message
from gateway.target import Target

# Every wait has a deadline: that of a call whose caller has none.
DEFAULT_S = 30.0


class Method:
    """One target: a method of the peer, bound. A route has `once` or `stream`, as its method is."""

    def __init__(self, link: Link, path: str, many: Many, target: Target) -> None:
        self._link = link
        self._path = path
        self._many = many
        self._safe = target.safe
        self._contract = target.contract
        self._bound: Callable[..., Any] | None = None

    def _call(self, kind: str) -> Callable[..., Any]:
        # The channel exists from the backend's entering on; handlers may be bound before.
        if self._bound is None:
            self._bound = self._link.method(kind, self._path)
        return self._bound

    async def once(self, exchange: Exchange) -> None:
        """One in, one out, in grpcio's own form: half the price of a stream."""
        message = await exchange.receive()
        call = exchange.call
        left = await self._ready(call)
        # The peer is told of the caller's own timeout, not of the time that we ourselves allow.
        timeout = None if call.expires is None else left
        rpc = self._call("unary_unary")(message.body, timeout=timeout, metadata=self._link.metadata(call))
        try:
            async with asyncio.timeout(left if timeout is None else None):
                body = await rpc
        except grpc.aio.AioRpcError as error:
            due = None if timeout is None else call.due(DEFAULT_S)
            raise failure_of(error, safe=self._safe, contract=self._contract, due=due) from error
        except TimeoutError as error:
            raise late(safe=self._safe) from error
        if body is None:
            raise bad_answer("the backend said OK without a message that can be read", safe=self._safe)
        headers, trailers = answered(await rpc.initial_metadata()), answered(await rpc.trailing_metadata())
        if headers:
            await exchange.accept(headers)
        await exchange.send(Message(body, PROTOBUF))
        if trailers:
            exchange.conclude(trailers)

    async def stream(self, exchange: Exchange) -> None:
        """Any other kind: both ways at once until the peer ends."""
        call = exchange.call
        await self._ready(call)
        # A stream lasts as long as it likes, unless its caller has said otherwise.
        left = None if call.expires is None else max(0.0, early(call.expires) - asyncio.get_running_loop().time())
        rpc = self._call("stream_stream")(metadata=self._link.metadata(call), timeout=left)
        replies = _Replies(exchange, rpc, None if self._many & Many.REQUESTS else call.due(DEFAULT_S), safe=self._safe)

        last = LastWord(rpc)

        async def send(message: Message) -> None:
            # A peer may end before it has read everything; how it ended is what reading says.
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
                await rpc.write(message.body)

        try:
            await relay(exchange, send, replies.receive, rpc.done_writing)
        except grpc.aio.AioRpcError as error:
            status = await last.status(error)
            if status.code() is not grpc.StatusCode.OK:
                due = None if call.expires is None else early(call.expires)
                raise failure_of(status, safe=self._safe, contract=self._contract, due=due) from error
        finally:
            rpc.cancel()
        if not self._many & Many.REPLIES and replies.count != 1:
            raise bad_answer("the backend said OK without its one message", safe=self._safe)
        if trailers := answered(await rpc.trailing_metadata()):
            exchange.conclude(trailers)

    async def _ready(self, call: Call) -> float:
        """Connected, with so many seconds left."""
        due = call.due(DEFAULT_S)
        await self._link.connected(due)
        left = due - asyncio.get_running_loop().time()
        if left <= 0:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the call could be sent")
        return left


class _Replies:
    """The peer's side of a stream."""

    def __init__(self, exchange: Exchange, rpc: Any, due: float | None, *, safe: bool) -> None:
        self._safe = safe
        self._exchange = exchange
        self._rpc = rpc
        self._due = due
        # Its read() may drop what is left once the status is in; its iterator does not.
        self._bodies: AsyncIterator[bytes] = aiter(rpc)
        self.count = 0

    async def receive(self) -> Message:
        if self.count == 0:
            try:
                async with asyncio.timeout_at(self._due):
                    body = await self._first()
            except TimeoutError as error:
                call = self._exchange.call
                raise late(safe=self._safe, asked=call.expires is not None and call.expires == call.deadline) from error
        else:
            body = await anext(self._bodies, None)
        if body is None:
            raise EndOfMessages
        self.count += 1
        return Message(body, PROTOBUF)

    async def _first(self) -> bytes | None:
        headers = answered(await self._rpc.initial_metadata())
        if not self._rpc.done():
            await self._exchange.accept(headers)
            return await anext(self._bodies, None)
        # It is over already. A refusal has no head of its own: what it is, the status says, and its error has its headers.
        body = await anext(self._bodies, None)
        await self._exchange.accept(headers)
        return body
