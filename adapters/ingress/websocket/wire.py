"""One WebSocket connection as the gateway wants it: what arrives is bounded and checked at once, nobody is waited for for ever.

The library's own connection looks at text only when it is asked for, and waits for ever on a peer that stops reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from adapters.ingress.websocket.fragment import Fragments, TooManyError
from adapters.ingress.websocket.framing import Framing, Terms
from adapters.ingress.websocket.inbox import Inbox
from gateway.message import Message

SLICE = 8 << 10
"""How much of one read is parsed before the inbox is looked at: what it may hold beyond its bound."""
MAX_HEAD = 64 << 10
"""Of request line and headers together: the library bounds each line only."""
SHORT = 125
"""The longest body whose length stands in the second byte of a frame (RFC 6455, 5.2)."""
SMALL = 4 << 10
"""Frames up to here are framed here and gathered, those of one turn of the loop into one write: the library's way to a frame, and
a system call for each, cost more than all else that we do."""
_TEXT_HEADS = tuple(bytes((0x81, size)) for size in range(SHORT + 1))
_BINARY_HEADS = tuple(bytes((0x82, size)) for size in range(SHORT + 1))

OPEN, CONNECTING = State.OPEN, State.CONNECTING
TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
INVALID_DATA, TOO_BIG, PEER_TIMEOUT = 1007, 1009, 3008


class Talk(Protocol):
    """What a connection tells the conversation that it carries."""

    def leave(self, *, orderly: bool) -> None:
        """The caller goes: by a close frame, or without a word."""


Take = Callable[[bytes, bool], bool]
"""Takes a frame, which is text or not, in the place of the inbox. True where the inbox is full."""


class Count(Protocol):
    """Who keeps count of the connections."""

    def made(self, wire: Wire) -> None:
        """It is there: with TLS, once that is agreed on."""

    def lost(self, wire: Wire) -> None:
        """It is gone."""


class Wire(ServerConnection):
    """One connection. `talk` is set once the caller's request has been read."""

    protocol: Framing

    def __init__(self, server: Server, terms: Terms, count: Count, **settings: Any) -> None:
        super().__init__(Framing(terms), server, **settings)
        self._terms = terms
        self._count = count
        self.talk: Talk | None = None
        self.inbox = Inbox(terms.max_queue, self._resume)
        self.take: Take | None = None
        self.open_until = self.loop.time() + terms.open_timeout
        self._head = 0
        self._rest = bytearray()
        self._out = bytearray()
        self._fragments: Fragments | None = None
        self._deaf = False
        self._heard = False
        self._watch: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    # The way in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._count.made(self)
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
            self._message(bytes(frame.data), text=opcode is TEXT)

    def _fragment(self, frame: Frame) -> None:
        fragments = self._fragments = self._fragments or Fragments()
        try:
            whole = fragments.add(frame)
        except TooManyError:
            self.fail(TOO_BIG, "too many fragments")
            return
        if whole is not None:
            body, text = whole
            self._message(body, text=text)

    def _message(self, body: bytes, *, text: bool) -> None:
        if text and not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                self.fail(INVALID_DATA, "text is not UTF-8")
                return
        if self.take is None:
            full = self.inbox.put(Message(body, self._terms.text if text else self._terms.binary))
        else:
            full = self.take(body, text)
        if full and not self.transport.is_closing():
            self.transport.pause_reading()

    # The way out

    def write(self, body: bytes, *, text: bool) -> None:
        """Send one message without waiting; dropped where the caller has closed. `room` waits while the caller is slow."""
        protocol = self.protocol
        if protocol.state is not OPEN:
            return
        size = len(body)
        if protocol.extensions or size > SMALL:
            if text:
                protocol.send_text(body)
            else:
                protocol.send_binary(body)
            self.send_data()
            return
        out = self._out
        if not out:
            self.loop.call_soon(self._flush)
        if size <= SHORT:
            out += (_TEXT_HEADS if text else _BINARY_HEADS)[size]
        else:
            out += (b"\x81\x7e" if text else b"\x82\x7e") + size.to_bytes(2, "big")
        out += body
        if len(out) > self._terms.write_limit:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, bytearray()
            if not self.transport.is_closing():
                self.transport.write(out)

    def send_data(self) -> None:
        """What the library has to say stands behind what was gathered."""
        self._flush()
        super().send_data()

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
        if self._watch is not None and self.request is None and not self.protocol.eof_sent:
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
        self._count.lost(self)

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
        if self.protocol.state is not OPEN:
            return  # the peer has gone, and the loop has not come to say so yet
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
