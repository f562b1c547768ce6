"""One WebSocket connection as the gateway wants it: what arrives is bounded and checked at once, nobody is waited for for ever.

The library frames and negotiates. Ours are the inbox (the library's grows by whatever one read of the socket holds, and looks
at text only when it is asked for), the watch over the peer (the library's waits for ever on one that stops reading) and the
refusals (the library's say who it is and what it was sent).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.extensions import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.typing import LoggerLike, StatusLike, Subprotocol

from gateway.exchange import EndOfMessages
from gateway.message import Message

SLICE = 8 << 10
"""How much of one read is parsed before the inbox is looked at: what it may hold beyond its bound."""
MAX_HEAD = 64 << 10
"""Of request line and headers together: the library bounds each line only."""
MAX_FRAGMENTS = 4096
"""Of one message: empty ones add nothing to its size."""
HELD_BYTES = 64 << 10
"""What the inbox may hold before reading pauses, whatever the number of messages."""

OPEN, CONNECTING = State.OPEN, State.CONNECTING
TEXT, BINARY, CONT, PONG = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PONG
INVALID_DATA, TOO_BIG, PEER_TIMEOUT = 1007, 1009, 3008

Refuse = Callable[[int], Response]
"""The answer for a status that the library refuses with."""


class Talk(Protocol):
    """What a connection tells the conversation that it carries."""

    def leave(self, *, orderly: bool) -> None:
        """The caller goes: by a close frame, or without a word."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection is held to, the same for all of a listener."""

    text: str
    """The content type of text frames."""
    binary: str
    """And of binary ones."""
    max_size: int
    max_queue: int
    write_limit: int
    open_timeout: float
    close_timeout: float
    ping_interval: float
    ping_timeout: float
    extensions: Sequence[ServerExtensionFactory]
    subprotocols: tuple[str, ...]
    refuse: Refuse
    logger: LoggerLike


class Framing(ServerProtocol):
    """The library's framing, with answers of our own and no debt of pongs."""

    def __init__(self, terms: Terms) -> None:
        self._refuse = terms.refuse
        self.start = b""
        self.congested = False
        self.owed: Frame | None = None
        super().__init__(
            extensions=terms.extensions,
            subprotocols=cast("Sequence[Subprotocol]", terms.subprotocols) or None,
            max_size=terms.max_size,
            logger=terms.logger,
        )

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """The first of ours that the caller offers; none is no reason to refuse."""
        return next((name for name in self.available_subprotocols or () if name in subprotocols), None)

    def reject(self, status: StatusLike, text: str) -> Response:
        """Every refusal of the library comes through here; its text is dropped."""
        del text
        return self._refuse(int(status))

    def send_response(self, response: Response) -> None:
        self._refuse = _answered
        super().send_response(response)

    def send_eof(self) -> None:
        """What the library takes for no HTTP at all it answers with nothing; we say 400, or 405 to a POST with a body."""
        if self.state is CONNECTING and self._refuse is not _answered:
            status = 400 if self.start.startswith(b"GET ") or b" " not in self.start else 405
            self.writes.append(self._refuse(status).serialize())
            self._refuse = _answered
        super().send_eof()

    def send_frame(self, frame: Frame) -> None:
        """While the peer does not read, only the latest ping is owed an answer (RFC 6455, 5.5.3)."""
        if self.congested and frame.opcode is PONG:
            self.owed = frame
        else:
            super().send_frame(frame)


def _answered(status: int) -> Response:
    raise AssertionError(f"a second answer to one request: {status}")


class Inbox:
    """The messages that have come and were not yet received."""

    def __init__(self, limit: int, resume: Callable[[], None]) -> None:
        self._limit = limit
        self._low = limit // 4
        self._resume = resume
        self._messages: deque[Message] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = False
        """No further message will come."""
        self.told = False
        """And whoever receives knows it."""
        self.used = False
        self.full = False

    @property
    def waiting(self) -> bool:
        """Somebody receives now."""
        return self._waiter is not None

    def put(self, message: Message) -> bool:
        """Add one. True where that makes it full: the socket is then not to be read until `resume` is called."""
        self._messages.append(message)
        self._held += len(message.body)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.full or (len(self._messages) <= self._limit and self._held <= HELD_BYTES):
            return False
        self.full = True
        return True

    async def get(self) -> Message:
        """The next one. Raises EndOfMessages after the last."""
        self.used = True
        messages = self._messages
        while not messages:
            if self.ended:
                self.told = True
                raise EndOfMessages
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        message = messages.popleft()
        self._held -= len(message.body)
        if self.full and len(messages) <= self._low and self._held <= HELD_BYTES:
            self.full = False
            self._resume()
        return message

    def end(self, *, keep: bool = True) -> None:
        """No further message comes; those that are there are received first, or dropped."""
        self.ended = True
        if not keep:
            self._messages.clear()
            self._held, self.full = 0, False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Wire(ServerConnection):
    """One connection. `talk` is set once the caller's request has been read."""

    protocol: Framing

    def __init__(self, server: Server, terms: Terms, gone: Callable[[Wire], None], **settings: Any) -> None:
        super().__init__(Framing(terms), server, **settings)
        self._terms = terms
        self._gone = gone
        self.talk: Talk | None = None
        self.inbox = Inbox(terms.max_queue, self._resume)
        self.open_until = self.loop.time() + terms.open_timeout
        self._head = 0
        self._rest = bytearray()
        self._partial: bytearray | None = None
        self._partial_type = ""
        self._fragments = 0
        self._deaf = False
        self._heard = False
        self._watch: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    # The way in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._watch = self.loop.call_at(self.open_until, self._slow)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self.request is None and not self._reads_head(data):
            return
        if self._rest or len(data) > SLICE:
            self._rest += data
            self._pump()
        else:
            super().data_received(data)
        if self.protocol.state is not OPEN:
            self._closing()

    def _reads_head(self, data: bytes) -> bool:
        protocol = self.protocol
        protocol.start = (protocol.start + data[:8])[:8]
        self._head += len(data)
        if self._head > MAX_HEAD and not protocol.eof_sent:
            self._refuse(431)
        return not protocol.eof_sent

    def _pump(self) -> None:
        rest = self._rest
        while rest and (self._deaf or not self.inbox.full):
            piece = bytes(rest[:SLICE])
            del rest[:SLICE]
            super().data_received(piece)

    def _resume(self) -> None:
        """The inbox has room again."""
        self._pump()
        if self.protocol.state is not OPEN:
            self._closing()
        if not self.inbox.full and not self.transport.is_closing():
            self.transport.resume_reading()

    def process_event(self, event: Event) -> None:
        """One frame. Pings were answered already, a close frame is seen by the state that it leads to."""
        if self.request is None:
            super().process_event(event)
            return
        frame = cast("Frame", event)
        opcode = frame.opcode
        if opcode > BINARY or self._deaf:
            return
        if opcode is CONT or not frame.fin:
            self._fragment(frame)
        else:
            self._message(bytes(frame.data), self._terms.text if opcode is TEXT else self._terms.binary, text=opcode is TEXT)

    def _fragment(self, frame: Frame) -> None:
        if self._partial is None:
            self._partial, self._fragments = bytearray(), 0
            self._partial_type = self._terms.text if frame.opcode is TEXT else self._terms.binary
            self._partial_text = frame.opcode is TEXT
        self._partial += frame.data
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            self.fail(TOO_BIG, "too many fragments")
        elif frame.fin:
            body, self._partial = bytes(self._partial), None
            self._message(body, self._partial_type, text=self._partial_text)

    def _message(self, body: bytes, content_type: str, *, text: bool) -> None:
        if text and not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                self.fail(INVALID_DATA, "text is not UTF-8")
                return
        if self.inbox.put(Message(body, content_type)) and not self.transport.is_closing():
            self.transport.pause_reading()

    # The way out

    def write(self, body: bytes, *, text: bool) -> None:
        """Send one message without waiting; dropped where the caller has closed. `room` waits while the caller is slow."""
        protocol = self.protocol
        if protocol.state is OPEN:
            if text:
                protocol.send_text(body)
            else:
                protocol.send_binary(body)
            self.send_data()

    async def room(self) -> None:
        """Wait until the caller has taken enough of what is written, or is gone."""
        # Why it is lost is told by `leave`.
        with suppress(OSError):
            await self.drain()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.protocol.congested = True

    def resume_writing(self) -> None:
        """The peer reads, so it is there."""
        super().resume_writing()
        self._heard = True
        protocol = self.protocol
        protocol.congested = False
        owed, protocol.owed = protocol.owed, None
        if owed is not None and protocol.state is OPEN:
            protocol.send_frame(owed)
            self.send_data()

    # The end

    async def finish(self, code: int, reason: str = "") -> None:
        """Close with a code and wait until the connection is gone, which the close timeout sees to."""
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self.send_data()
            self._closing()
            self._pump()
        await self.wait_closed()

    def turn_away(self) -> None:
        """The listener stops, and this caller has not asked for anything yet."""
        if self.request is None and not self.protocol.eof_sent:
            self._refuse(503)

    def fail(self, code: int, reason: str) -> None:
        """Close at once for what the peer did."""
        if not self._deaf:
            self._deaf = True
            self.protocol.fail(code, reason)
            self.send_data()
            self._closing()

    def _refuse(self, status: int) -> None:
        self.protocol.send_response(self.protocol.reject(status, ""))
        self.send_data()
        self._closing()

    def _closing(self) -> None:
        """Not open, or no longer: read nothing further, and let go at the close timeout."""
        protocol = self.protocol
        if protocol.state is CONNECTING and not protocol.eof_sent:
            return
        if self._end is not None:
            return
        self._end = self.loop.call_later(self._terms.close_timeout, self.transport.abort)
        if self._watch is not None:
            self._watch.cancel()
        self._deaf = True
        orderly = protocol.close_rcvd is not None
        self.inbox.end(keep=orderly)
        if not self.transport.is_closing():
            # The peer's own close frame may stand behind what we no longer want.
            self.transport.resume_reading()
        if protocol.state is CONNECTING:
            self.transport.close()
        if self.talk is not None:
            self.talk.leave(orderly=orderly)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._watch, self._end):
            if timer is not None:
                timer.cancel()
        self._deaf = True
        self.inbox.end(keep=self.protocol.close_rcvd is not None)
        if self.talk is not None:
            self.talk.leave(orderly=self.protocol.close_rcvd is not None)
        self._gone(self)

    # The watch over the peer

    def _slow(self) -> None:
        """The head has not come in time. Once it has, the listener keeps the time."""
        if self.request is None and not self.protocol.eof_sent:
            self._refuse(408)

    def opened(self) -> None:
        """The 101 is out."""
        if self._watch is not None:
            self._watch.cancel()
        if self.protocol.state is OPEN:
            self._watch = self.loop.call_later(self._terms.ping_interval, self._ping)

    def _ping(self) -> None:
        self._heard = False
        if not self.paused:
            self.protocol.send_ping(b"")
            self.send_data()
        self._watch = self.loop.call_later(self._terms.ping_timeout, self._look)

    def _look(self) -> None:
        """Whatever came, or was taken, says that the peer is there; where it is we who do not read, nothing can come."""
        if self._heard or (self.inbox.full and not self.paused):
            wait = max(0.0, self._terms.ping_interval - self._terms.ping_timeout)
            self._watch = self.loop.call_later(wait, self._ping)
            return
        stuck = self.paused
        self.fail(PEER_TIMEOUT, "no sign of life")
        if stuck:
            self.transport.abort()
        else:
            self.transport.close()


class Refusal(asyncio.Protocol):
    """A connection beyond the listener's limit: answered as soon as it is there, with nothing read and no task started."""

    def __init__(self, response: Response, linger: float) -> None:
        self._response = response.serialize()
        self._linger = linger
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._response)
        # Closing while the request is on its way would reset the connection, and the answer with it.
        self._timer = asyncio.get_running_loop().call_later(self._linger, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        del data
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
