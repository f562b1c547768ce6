"""One RPC of the gRPC listener as an exchange."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from adapters.grpc.metadata import REQUEST_ID, metadata_of
from gateway.errors import CallerError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.message import NO_HEADERS, PROTOBUF, Headers, Many, Message
from gateway.status import Failure

GONE_S = 0.001


class Conversation(Exchange):
    """One RPC. A reply to a method with one reply is kept until the handler returns, and goes out with the status."""

    def __init__(self, call: Call, context: Any, first_message_s: float) -> None:
        self.call = call
        self._context = context
        many = call.many
        # `&` of flags costs a microsecond; their members are single objects.
        self._many_requests = many is Many.REQUESTS or many is Many.BOTH
        self._many_replies = many is Many.REPLIES or many is Many.BOTH
        # A bidirectional method may well listen first.
        self._patience: float | None = None if many is Many.BOTH else first_message_s
        self._opened = False
        self._ended = False
        self.reply: bytes | None = None
        self.cut = False
        """The gateway, not the caller, ends it: it has outlasted the drain."""

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._opened:
            return
        metadata = metadata_of(headers) if headers else ()
        # One reply needs no metadata of its own before it: its id is in the trailers, and a batch costs a tenth of a call.
        if self._many_replies or metadata:
            self._opened = True
            with gone():
                await self._context.send_initial_metadata(((REQUEST_ID, self.call.id), *metadata))

    async def receive(self) -> Message:
        if self._ended:
            raise EndOfMessages
        body = await self._first() if self._patience is not None else await self._read()
        if self._many_requests:
            if body is grpc.aio.EOF:
                self._ended = True
                # A caller that is gone ends its messages too, and its cancellation comes a moment later: measured, half of such
                # ends come first, and after a millisecond none of 300. Without it a broken-off stream looks complete.
                await asyncio.sleep(GONE_S)
                raise EndOfMessages
        else:
            # What follows the one message is never read: reading on for the end of the requests costs a sixth of a call.
            self._ended = True
            if body is grpc.aio.EOF:
                raise CallerError(Reason.NO_MESSAGE, "the call ended without its message")
        return Message(body, PROTOBUF)

    async def _first(self) -> Any:
        patience, self._patience = self._patience, None
        try:
            async with asyncio.timeout(patience):
                return await self._read()
        except TimeoutError as error:
            raise CallerError(Reason.SLOW_REQUEST, "the message did not come in time") from error

    async def _read(self) -> Any:
        with gone():
            return await self._context.read()

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            # A stream of gRPC has no place for an error beside its messages.
            raise message.error
        if not self._many_replies:
            self.reply = message.body
            return
        if not self._opened:
            await self.accept()
        with gone():
            await self._context.write(message.body)


class gone:  # noqa: N801  reads as the verb that it is
    """grpcio refuses to go on with a call that has ended: the caller is gone, and the cancellation is on its way."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, grpc.aio.BaseError):
            raise CallerError(Reason.CANCELLED, "the caller is gone") from error
