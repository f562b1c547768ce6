"""One exchange over one connection: what each side says, in bare frames or in envelopes of polygate.v1."""

from __future__ import annotations

import asyncio
import base64
import binascii
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NoReturn

from websockets.exceptions import ConnectionClosed

from adapters.backend.websocket.link import Link, closed
from adapters.grpc.detail import DETAILS
from adapters.grpc.metadata import REQUEST_ID
from adapters.websocket.envelope import END, Envelope, Problem, read, write
from gateway.errors import BackendError, CallerError, Outcome, Reason, RpcStatus
from gateway.exchange import EndOfMessages, Exchange, relay
from gateway.message import BYTES, JSON, NO_HEADERS, TEXT, Headers, Many, Message
from gateway.status import Code, reason_of_code

_TEXTS = frozenset({JSON, TEXT})
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Manner:
    """How a target's exchanges go."""

    content_type: str
    """Of the messages that the route sends and wants."""
    many: Many
    safe: bool
    linger: float
    """Seconds of silence after which bare frames are over, once the caller has ended."""

    @property
    def outcome(self) -> Outcome | None:
        """Of every failure after the first frame has left; None for what its reason says."""
        return Outcome.FAILED if self.safe else None

    @property
    def text(self) -> bool:
        """Messages are in text frames."""
        return self.content_type in _TEXTS

    @property
    def one_reply(self) -> bool:
        """Exactly one reply is due."""
        return self.many is Many.NEITHER or self.many is Many.REQUESTS


class Talk(ABC):
    """The peer's side of one exchange, for `relay`."""

    def __init__(self, link: Link, exchange: Exchange, manner: Manner) -> None:
        self._link = link
        self._exchange = exchange
        self._manner = manner
        self._replies = 0
        self._due: float | None = None
        self._clock: asyncio.Timeout | None = None
        """Of the frame that is waited for."""
        self.sent = False
        """The peer may have seen something of the call."""

    async def run(self, due: float | None) -> None:
        """Both ways at once until the peer ends. `due`: by when the first reply is there; where there is but one, all of it."""
        self._due = due
        await relay(self._exchange, self.send, self.receive, self.finish)
        if self._manner.one_reply and self._replies != 1:
            raise self.bad("the backend ended without its one message")

    def bad(self, text: str) -> BackendError:
        """What the peer says makes no sense."""
        return BackendError(Reason.BAD_ANSWER, text, outcome=self._manner.outcome)

    async def _say(self, frame: bytes, *, text: bool) -> None:
        self.sent = True
        try:
            await self._link.send(frame, text=text)
        except ConnectionClosed:
            # A peer may end before it has read everything; how it ended is what reading says.
            return

    async def _hear(self) -> tuple[bytes, bool]:
        """The next frame, and whether it is text. Raises EndOfMessages at a good end."""
        try:
            async with asyncio.timeout_at(self._due) as self._clock:
                frame = await self._link.recv()
        except TimeoutError as error:
            self._late(error)
        except ConnectionClosed as error:
            self._closed(error)
        return (frame.encode(), True) if isinstance(frame, str) else (frame, False)

    def _late(self, error: TimeoutError) -> NoReturn:
        reason = Reason.TIMED_OUT if self._manner.safe or not self.sent else Reason.UNKNOWN_OUTCOME
        raise BackendError(reason, "the backend did not answer in time") from error

    def _closed(self, error: ConnectionClosed) -> NoReturn:
        reason = closed(error, self._manner.outcome)
        if reason is None:
            raise EndOfMessages
        raise reason from error

    def _begun(self) -> None:
        """There is an answer: a stream may take its time from here on."""
        if not self._manner.one_reply:
            self._due = None

    def _reply(self, body: bytes, *, text: bool) -> Message:
        manner = self._manner
        if text != manner.text and manner.content_type != BYTES:
            raise self.bad(f"the backend answers in {'text' if text else 'binary'} frames, which is not the route's format")
        self._replies += 1
        if manner.one_reply and self._replies > 1:
            raise self.bad("the backend sent more than its one message")
        self._begun()
        return Message(body, manner.content_type)

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Give the peer a message."""

    @abstractmethod
    async def finish(self) -> None:
        """Tell it that there are no more, where that can be told."""

    @abstractmethod
    async def receive(self) -> Message:
        """Its next message. Raises EndOfMessages at its end."""


class Bare(Talk):
    """A frame is a message. That the caller has ended cannot be told, so from then on the peer's silence is taken for its end."""

    def __init__(self, link: Link, exchange: Exchange, manner: Manner, back: frozenset[str]) -> None:
        """`back`: headers of the handshake that go back to the caller."""
        super().__init__(link, exchange, manner)
        self._back = back
        self._ended = False

    async def run(self, due: float | None) -> None:
        if not self._manner.one_reply:
            await self._accept()
            due = None
        await super().run(due)

    async def _accept(self) -> None:
        response = self._link.response
        pairs = [] if response is None else [(name.lower(), value) for name, value in response.headers.raw_items()]
        await self._exchange.accept(Headers(pair for pair in pairs if pair[0] in self._back and pair[1].isascii()))

    async def send(self, message: Message) -> None:
        await self._say(message.body, text=self._manner.text)

    async def finish(self) -> None:
        if self._manner.many is Many.BOTH:
            self._ended = True
            self._await_silence()
            if self._clock is not None:
                self._clock.reschedule(self._due)

    def _await_silence(self) -> None:
        self._due = asyncio.get_running_loop().time() + self._manner.linger

    def _late(self, error: TimeoutError) -> NoReturn:
        if self._ended:
            raise EndOfMessages from error
        super()._late(error)

    async def receive(self) -> Message:
        if self._manner.one_reply and self._replies:
            raise EndOfMessages
        body, text = await self._hear()
        message = self._reply(body, text=text)
        if self._ended:
            self._await_silence()
        if self._manner.one_reply:
            await self._accept()
        return message


class Enveloped(Talk):
    """A frame is an envelope of polygate.v1, which says all that gRPC would."""

    def __init__(self, link: Link, exchange: Exchange, manner: Manner, headers: Headers) -> None:
        """`headers`: of the call."""
        super().__init__(link, exchange, manner)
        self._headers = headers
        self._trailers: Headers | None = None

    async def run(self, due: float | None) -> None:
        await self._tell(Envelope("headers", headers=self._headers))
        await super().run(due)

    async def _tell(self, envelope: Envelope) -> None:
        text = self._manner.text
        await self._say(write(envelope, text=text), text=text)

    async def send(self, message: Message) -> None:
        await self._tell(Envelope("message", message.body))

    async def finish(self) -> None:
        await self._tell(END)

    async def receive(self) -> Message:
        while True:
            frame, text = await self._hear()
            try:
                envelope = read(frame, text=text)
            except CallerError as error:
                raise self.bad("what the backend sends is no envelope of polygate.v1") from error
            if envelope.kind == "message":
                return self._reply(envelope.body, text=text)
            if envelope.kind == "error":
                raise self._failure(envelope.problem or {})
            if envelope.kind == "trailers":
                # They stand before the close, or before an error that they came with.
                self._trailers = envelope.headers
            elif envelope.kind == "headers":
                self._begun()
                await self._exchange.accept(envelope.headers.without(REQUEST_ID))
            else:
                raise self.bad(f"the backend sent {envelope.kind}, which is for callers to say")

    def _closed(self, error: ConnectionClosed) -> NoReturn:
        reason = closed(error, self._manner.outcome)
        if reason is not None:
            raise reason from error
        if self._trailers is None:
            raise self.bad("the backend closed before the end of its answer") from error
        if self._trailers:
            self._exchange.conclude(self._trailers)
        raise EndOfMessages

    def _failure(self, problem: Problem) -> BackendError:
        """The peer's error, with what came with it."""
        text, trailers = str(problem.get("detail", "")), self._trailers or NO_HEADERS
        try:
            details = base64.b64decode(trailers.get(DETAILS) or "", validate=True)
        except binascii.Error:
            details = b""
        code = Code.__members__.get(str(problem.get("code")), Code.UNKNOWN)
        status = RpcStatus(text, details, trailers.without(DETAILS, REQUEST_ID))
        outcome = _OUTCOMES.get(str(problem.get("outcome")))
        words = text or code.name.replace("_", " ").lower()
        return BackendError(reason_of_code(code), words, details=(status,), outcome=outcome)
