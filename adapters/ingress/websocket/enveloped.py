"""A WebSocket under polygate.v1 as an exchange: a frame is an envelope, which says what a bare one cannot (docs/websocket.md)."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

from adapters.grpc.detail import DETAILS, said
from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.websocket.exchange import Conversation
from adapters.ingress.websocket.handshake import HANDSHAKE, MAX_FIELDS
from adapters.ingress.websocket.wire import Wire
from adapters.websocket.envelope import Envelope, Kind, read, write
from gateway.errors import CallerError, GatewayError, Outcome, Reason, resumable, stopping
from gateway.exchange import Call, Handler
from gateway.jsontext import loads
from gateway.message import JSON, NO_HEADERS, PROTOBUF, STARTS, Headers, Many, Message
from gateway.status import Failure, marks, problem

REQUEST_ID = "x-request-id"
OF_MESSAGES = frozenset({"idempotency-key"})
"""What headers later than the first frame may say, of the message that follows them."""
MAX_FIELD = 8 << 10
"""Of a header of the first frame: as in a handshake."""


class Enveloped(Conversation):
    """One of them. Its call begins with the caller's first frame, which may be its headers: so the 101 comes first, and what
    refuses the call is an error in an envelope. A caller that has said its `end` still listens; one that closes is gone.
    """

    def __init__(self, wire: Wire, call: Call, binary: str, open_timeout: float, close_timeout: float) -> None:
        """`binary`: the content type of messages in binary envelopes."""
        super().__init__(wire, call, close_timeout)
        self._binary = binary
        self._open_timeout = open_timeout
        self._begun = asyncio.Event()
        self._ended = False
        self._told = False
        self._draining = False
        self._text = True
        """What is no message goes in the kind of frame that the caller began with."""
        self._trailers = NO_HEADERS
        self._own = NO_HEADERS
        """Of the message that comes next."""
        wire.take = self._take
        self.decided.set()

    async def _run(self, handler: Handler) -> None:
        try:
            async with asyncio.timeout(self._open_timeout):
                await self._begun.wait()
        except TimeoutError:
            self.error = CallerError(Reason.SLOW_REQUEST, "the call's first frame did not come in time")
            return
        await super()._run(handler)

    # The way in

    def _take(self, frame: bytes, text: bool) -> bool:  # noqa: FBT001  a callback of the wire
        """One frame. True where the inbox is full."""
        if self.error is not None:
            return False
        try:
            return self._taken(read(frame, text=text), text=text)
        except CallerError as error:
            self._wrong(error)
            return False

    def _wrong(self, error: CallerError) -> None:
        """A frame ends the call. Where each message is answered by itself those before it are first: told any earlier, its error
        would be taken for the answer to one of them.
        """
        self.error = error
        if self._begun.is_set() and self.call.each:
            self._inbox.end()
            return
        if self._inbox.used and self.call.many is not Many.REPLIES:
            self.error = CallerError(error.reason, error.message, details=error.details, outcome=Outcome.UNKNOWN)
        self._inbox.end(keep=False)
        self.task.cancel()

    def _taken(self, envelope: Envelope, *, text: bool) -> bool:
        kind = envelope.kind
        if self._ended or kind in {"trailers", "error"} or (self._own and kind != "message"):
            raise CallerError(Reason.PROTOCOL, f"{kind} has no place here{' after the end' if self._ended else ''}")
        if not self._begun.is_set():
            self._begin(envelope.headers, text=text)
        elif kind == "headers":
            self._own = _own(envelope.headers)
        if kind == "message":
            own, self._own = self._own, NO_HEADERS
            return self._inbox.put(Message(envelope.body, JSON if text else self._binary, headers=own))
        if kind == "end":
            self._ended = True
            self._inbox.end()
        return False

    def _begin(self, headers: Headers, *, text: bool) -> None:
        """The call as its first frame completes it: its own headers take the place of the handshake's."""
        self._text = text
        if len(headers) > MAX_FIELDS or any(len(name) + len(value) > MAX_FIELD for name, value in headers):
            told = f"a call has {MAX_FIELDS} headers at most, of {MAX_FIELD} bytes each"
            raise CallerError(Reason.HEADERS_TOO_LARGE, told)
        call, names = self.call, {name for name, _ in headers}
        own = (pair for pair in headers if pair[0] not in HANDSHAKE)
        deadline = call.deadline
        if (seconds := seconds_of(headers.get(NAME))) is not None:
            deadline = asyncio.get_running_loop().time() + seconds
        self.call = replace(
            call,
            headers=Headers((*(pair for pair in call.headers if pair[0] not in names), *own)),
            accepts=JSON if text else PROTOBUF if self._binary == PROTOBUF else "",
            deadline=deadline,
            expires=deadline,
        )
        self._begun.set()

    async def receive(self) -> Message:
        if not self._open:
            await self._opened.wait()
        return await self._inbox.get()

    # The way out

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if not self._open:
            await self._opened.wait()
        if not self._told:
            self._told = True
            self._cursor = headers.get(STARTS)
            shown = (pair for pair in headers if pair[0] != REQUEST_ID and not pair[0].startswith(":"))
            self._say("headers", Headers(((REQUEST_ID, self.call.id), *shown)))

    async def send(self, message: Message) -> None:
        if not self._told:
            await self.accept()
        if isinstance(message, Failure):
            self._write(Envelope("error", problem=loads(message.body)), text=self._text)
        else:
            self._write(Envelope("message", message.body), text=message.content_type == JSON)
            self._cursor = message.cursor
        await self._pace()

    def conclude(self, headers: Headers) -> None:
        self._trailers = headers

    def _say(self, kind: Kind, headers: Headers) -> None:
        self._write(Envelope(kind, headers=headers), text=self._text)

    def _write(self, envelope: Envelope, *, text: bool) -> None:
        self._wire.write(write(envelope, text=text), text=text)

    # The end

    def leave(self, *, orderly: bool) -> None:
        """A caller has its `end` to say that it has finished: if it closes, it is gone, however politely."""
        del orderly
        if not self.task.done():
            self.task.cancel()

    def drain(self) -> None:
        """Its `end` cannot be said for a caller who has not said it: half of its messages would pass for all."""
        if self._ended and self._cursor is None:
            return
        self._draining = True
        if self.call.many is Many.REQUESTS or not self._begun.is_set():
            self.task.cancel(Reason.OVERLOADED)
        else:
            super().drain()

    def _finished(self) -> None:
        if self._draining or self.task.cancelled():
            self._failed(resumable(stopping(), self._cursor))
        else:
            self._say("trailers", self._trailers)

    def _failed(self, error: GatewayError) -> None:
        head = marks(error)
        if head and not self._told:
            self._say("headers", Headers(((REQUEST_ID, self.call.id), *head)))
        status = said(error)
        if status is not None:
            details = ((DETAILS, base64.b64encode(status.details).decode()),) if status.details else ()
            self._say("trailers", Headers((*status.trailers, *details)))
        self._write(Envelope("error", problem=problem(error, self.call.id)), text=self._text)


def _own(headers: Headers) -> Headers:
    """The headers of one message. CallerError(PROTOCOL) for what only a call has."""
    if not headers or len(headers) > len(OF_MESSAGES) or any(name not in OF_MESSAGES for name, _ in headers):
        raise CallerError(Reason.PROTOCOL, f"headers have no place here but a message's own: {', '.join(OF_MESSAGES)}")
    if any(len(value) > MAX_FIELD for _, value in headers):
        raise CallerError(Reason.HEADERS_TOO_LARGE, f"a header has {MAX_FIELD} bytes at most")
    return headers
