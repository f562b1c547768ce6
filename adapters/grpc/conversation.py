"""One RPC of the gRPC listener as an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc.aio

from adapters.grpc.metadata import REQUEST_ID, Metadata, metadata_of
from gateway.errors import CallerError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.message import NO_HEADERS, PROTOBUF, STARTS, Headers, Many, Message
from gateway.status import Failure

GONE_S = 0.001


class Patience:
    """Ends the wait for a call's first message when it lasts too long. One look around for all calls: a timer for each costs a
    fifteenth of a call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order of their beginnings.
        self._waiting: dict[asyncio.Task[Any], float] = {}

    async def watch(self) -> None:
        """Look around, for as long as calls come."""
        time = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._seconds / 10)
            over = time() - self._seconds
            for task, since in list(self._waiting.items()):
                if since > over:
                    break
                del self._waiting[task]
                task.cancel()

    async def first(self, read: Callable[[], Awaitable[Any]]) -> Any:
        """What `read` reads. CallerError(SLOW_REQUEST) where it takes too long."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        before = task.cancelling()
        self._waiting[task] = task.get_loop().time()
        try:
            return await read()
        except asyncio.CancelledError as error:
            # Cancelled by the watch and by nobody else; see asyncio.timeout for the count.
            if task not in self._waiting and task.uncancel() <= before:
                raise CallerError(Reason.SLOW_REQUEST, "the message did not come in time") from error
            raise
        finally:
            self._waiting.pop(task, None)


class Conversation(Exchange):
    """One RPC. A reply to a method with one reply is kept until the handler returns, and goes out with the status."""

    def __init__(self, call: Call, context: Any, patience: Patience) -> None:
        self.call = call
        self._context = context
        many = call.many
        # `&` of flags costs a microsecond; their members are single objects.
        self._many_requests = many is Many.REQUESTS or many is Many.BOTH
        self._many_replies = many is Many.REPLIES or many is Many.BOTH
        # A bidirectional method may well listen first.
        self._patience: Patience | None = None if many is Many.BOTH else patience
        self._opened = False
        self._ended = False
        self.reply: bytes | None = None
        self.trailers: Metadata = ()
        self.sending = False
        """Something is on its way to the wire: grpcio takes no status before that has arrived there."""
        self.cursor: str | None = None
        """Of the latest event that was sent, in a stream of a topic."""
        self.cut = False
        """The gateway, not the caller, ends it: it has outlasted the drain."""

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._opened:
            return
        if headers:
            self.cursor = headers.get(STARTS)
        metadata = metadata_of(headers) if headers else ()
        # One reply needs no metadata of its own before it: its id is in the trailers, and a batch costs a tenth of a call.
        if self._many_replies or metadata:
            self._opened = True
            self.sending = True
            try:
                await self._context.send_initial_metadata(((REQUEST_ID, self.call.id), *metadata))
            except grpc.aio.BaseError as error:
                raise _gone() from error
            self.sending = False

    async def receive(self) -> Message:
        if self._ended:
            raise EndOfMessages
        patience, self._patience = self._patience, None
        body = await self._read() if patience is None else await patience.first(self._read)
        if self._many_requests:
            if body is grpc.aio.EOF:
                self._ended = True
                # A caller that is gone ends its messages too, and its cancellation comes a moment later: measured, half of such
                # ends come first, and after a millisecond none of 300. Without it a broken-off stream looks complete.
                await asyncio.sleep(GONE_S)
                raise EndOfMessages
        else:
            self._ended = True
            if body is grpc.aio.EOF:
                reason = Reason.NOT_IMPLEMENTED if self._many_replies else Reason.NO_MESSAGE
                raise CallerError(reason, "the call ended without its message")
            # What follows the one message of a unary call is never read: reading on for the end costs a sixth of a call.
            if self._many_replies and patience is not None and await patience.first(self._read) is not grpc.aio.EOF:
                raise CallerError(Reason.NOT_IMPLEMENTED, "this method takes one message")
        return Message(body, PROTOBUF)

    async def _read(self) -> Any:
        try:
            return await self._context.read()
        except grpc.aio.BaseError as error:
            raise _gone() from error

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            # A stream of gRPC has no place for an error beside its messages.
            raise message.error
        if not self._many_replies:
            self.reply = message.body
            return
        if not self._opened:
            await self.accept()
        self.sending = True
        try:
            await self._context.write(message.body)
        except grpc.aio.BaseError as error:
            raise _gone() from error
        self.sending = False
        self.cursor = message.cursor

    def conclude(self, headers: Headers) -> None:
        self.trailers = metadata_of(headers)


def _gone() -> CallerError:
    """Grpcio refuses to go on with a call that has ended: the caller is gone, and the cancellation is on its way."""
    return CallerError(Reason.CANCELLED, "the caller is gone")
