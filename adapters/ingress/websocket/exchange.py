"""A WebSocket as an exchange: a frame is a message, acceptance is the 101, the end is a close frame."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from adapters.ingress.websocket.wire import Wire
from gateway.errors import GatewayError, Reason, resumable
from gateway.exchange import Call, Exchange, Handler
from gateway.message import JSON, NO_HEADERS, PROBLEM, STARTS, TEXT, Headers, Message
from gateway.status import TABLE, Failure, problem_body, resume
from gateway.task import Tasks

NORMAL, RESTART = 1000, 1012
REASON_BYTES = 123
BURST = 64
"""How many messages one handler may send to a fast reader before others have their turn."""
_TEXTS = frozenset({JSON, TEXT, PROBLEM})
# An error reply after which the socket does not stay open: the kind of frame is wrong, and so would the next be.
_CLOSING = frozenset({Reason.UNSUPPORTED, Reason.UNSUPPORTED_ENCODING})


def _is_text(body: bytes) -> bool:
    """A text frame is UTF-8 (RFC 6455, 5.6); what a target only calls text goes as binary."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def resumed(reason: str, cursor: str | None) -> str:
    """The reason of a close, with the cursor that a stream is gone on with where a close frame has the room (RFC 6455 5.5)."""
    whole = reason if cursor is None else f"{reason}; cursor={cursor}"
    return whole if len(whole) <= REASON_BYTES else reason


@dataclass(frozen=True, slots=True)
class Ending:
    """How a conversation ends where the handler did not choose."""

    code: int
    reason: str


class Conversation(Exchange):
    """One WebSocket. The handler runs in a task of its own, from before the 101 is sent."""

    def __init__(self, wire: Wire, call: Call, close_timeout: float) -> None:
        self.call = call
        self.headers = NO_HEADERS
        self.decided = asyncio.Event()
        """The handler has accepted, or has ended without."""
        self.task: asyncio.Task[None]
        self.error: GatewayError | None = None
        self._wire = wire
        self._inbox = wire.inbox
        self._close_timeout = close_timeout
        self._opened = asyncio.Event()
        self._open = False
        self._sent = 0
        self._cursor: str | None = None
        """Of the latest event that was sent, in a stream of a topic."""
        self._ending: Ending | None = None
        self._left = False

    def start(self, handler: Handler, tasks: Tasks) -> None:
        """Run the handler."""
        self.task = tasks.spawn(self._run(handler), f"exchange {self.call.id}")
        self._wire.talk = self

    async def _run(self, handler: Handler) -> None:
        try:
            await handler(self)
        except GatewayError as error:
            self.error = error
        except asyncio.CancelledError:
            if self._ending is not None and not self.decided.is_set():
                self.error = GatewayError(Reason.OVERLOADED, "the gateway is stopping")
            raise
        finally:
            self.decided.set()

    # The exchange

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if headers:
            self._cursor = headers.get(STARTS)
        if self._open:
            return
        if not self.decided.is_set():
            self.headers = headers
            self.decided.set()
        await self._opened.wait()

    async def receive(self) -> Message:
        if not self._open:
            await self.accept()
        return await self._inbox.get()

    async def send(self, message: Message) -> None:
        if not self._open:
            await self.accept()
        wire = self._wire
        body = message.body
        wire.write(body, text=message.content_type in _TEXTS and (body.isascii() or _is_text(body)))
        self._cursor = message.cursor
        await self._pace()
        if isinstance(message, Failure) and message.error is not None and message.error.reason in _CLOSING:
            row = TABLE[message.error.reason]
            self.end(row.close, row.title)

    async def _pace(self) -> None:
        """Wait while the caller is slow, and let others have their turn."""
        self._sent += 1
        if self._wire.paused:
            await self._wire.room()
        elif self._sent % BURST == 0 or self._inbox.ended:
            await asyncio.sleep(0)

    # The listener's side

    @property
    def is_open(self) -> bool:
        """Whether the 101 is out."""
        return self._open

    def open(self) -> None:
        """The 101 is out."""
        self._open = True
        self._opened.set()

    def leave(self, *, orderly: bool) -> None:
        """The caller has gone. Who waits for its next message is told the end, and has the close timeout to finish what it has
        begun; nobody else has anybody to work for.
        """
        if self._left or self.task.done():
            return
        self._left = True
        if orderly and (self._inbox.waiting or self._inbox.told):
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._close_timeout, self.task.cancel)
            self.task.add_done_callback(lambda _task: timer.cancel())
        else:
            self.task.cancel()

    def drain(self) -> None:
        """Take no further message. Who has asked for some may answer those; a mere stream of replies ends here, and so does one
        of a topic: that has no end of its own.
        """
        self._ending = Ending(RESTART, "restarting")
        if self._inbox.used and self._cursor is None:
            self._inbox.end()
        else:
            self.task.cancel(Reason.OVERLOADED)

    def end(self, code: int, reason: str) -> None:
        """Stop the handler and close."""
        self._ending = Ending(code, reason)
        self.task.cancel()

    def outcome(self) -> Ending:
        """How it has ended, once the task is done; the last frame is written here."""
        error = self.error
        if error is None and not self.task.cancelled() and self.task.exception() is not None:
            error = GatewayError(Reason.BUG, f"something went wrong here ({self.call.id})")
        if error is not None:
            row = TABLE[error.reason]
            error = resumable(error, self._cursor)
            self._failed(error)
            return Ending(row.close, resumed(row.title, resume(error)))
        ending = Ending(RESTART, "restarting") if self.task.cancelled() else Ending(NORMAL, "")
        if self._ending is not None and (self.task.cancelled() or self._inbox.told):
            ending = self._ending
        self._finished()
        return ending if ending.code == NORMAL else Ending(ending.code, resumed(ending.reason, self._cursor))

    def _failed(self, error: GatewayError) -> None:
        """Say why it has failed."""
        self._wire.write(problem_body(error, self.call.id), text=True)

    def _finished(self) -> None:
        """Say that it has ended otherwise."""
