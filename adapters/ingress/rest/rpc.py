"""A gRPC method called over HTTP/1.1: what Connect and gRPC-Web have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from adapters.grpc.detail import PLAIN, reason_of, said
from adapters.grpc.metadata import REQUEST_ID
from adapters.ingress.rest.answer import Answer
from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.envelope import COMPRESSED, Decode, envelope, gzipped
from adapters.ingress.rest.exchange import LINGER_S, HttpExchange
from adapters.ingress.rest.inflow import Inflow
from adapters.ingress.rest.outflow import Outflow
from gateway.errors import CallerError, GatewayError, Outcome, Reason
from gateway.exchange import Call, EndOfMessages
from gateway.message import NO_HEADERS, STARTS, Headers, Many, Message
from gateway.status import Failure, marks

HOLD_BYTES = 1 << 20
"""How much is held for one caller who has not ended its requests yet."""
HOLD_ALL_BYTES = 64 << 20
"""And for all of them together."""
BARE = PLAIN | {Reason.HALF_DUPLEX, Reason.PROTOCOL, Reason.TOO_LARGE, Reason.UNSUPPORTED_ENCODING}
"""Refusals of these protocols themselves have no details: the code is all there is to say, and their suite takes no more."""


def lines(headers: Headers) -> Iterator[tuple[str, str]]:
    """What a backend says, as HTTP can carry it: names that start with ":" are ours, the exchange's id has its place. Binary
    values go out without padding (PROTOCOL-HTTP2.md).
    """
    return (
        (name, value.rstrip("=") if name.endswith("-bin") else value)
        for name, value in headers
        if not name.startswith(":") and name != REQUEST_ID and "\r" not in value and "\n" not in value
    )


def trailers_of(error: GatewayError) -> Headers:
    """The trailing metadata of an error: a backend's own or, where no detail says it, our reason."""
    status = said(error)
    if status is not None:
        return status.trailers
    return reason_of(error) if error.reason in BARE else NO_HEADERS


@dataclass(frozen=True, slots=True)
class Speech:
    """How one request speaks an enveloped protocol."""

    content_type: str
    """Of the response, and of the request."""
    codec: str
    """Of the messages: JSON or PROTOBUF."""
    many: Many
    """Which sides of the method stream."""
    unpack: bool
    """Requests may be compressed."""
    pack: bool
    """Replies may be."""
    decode: Decode
    """Text to bytes, where the protocol has a text form."""


class EnvelopedExchange(HttpExchange):
    """Any method, its messages in envelopes. A single reply is kept until the handler returns, and goes out with the end.

    HTTP/1.1 answers once it has been asked: replies that come before the caller has ended its requests are held, up to
    HOLD_BYTES of them. A caller that waits for one before it goes on (full duplex) is refused.
    """

    held_for_all: ClassVar[int] = 0

    def __init__(self, call: Call, asked: Asked, speech: Speech) -> None:
        self.call = call
        self._speech = speech
        limits = asked.limits
        self._in = Inflow(asked.request, speech.decode, limit=limits.body, seconds=limits.seconds, gzip=speech.unpack)
        self._out = Outflow(asked.request)
        self._compress_from = limits.compress_from
        self._many_requests = speech.many is Many.REQUESTS or speech.many is Many.BOTH
        self.streams = speech.many is Many.REPLIES or speech.many is Many.BOTH
        """It may have many replies: a drain ends it."""
        self._ended = False
        self._headers: Headers | None = None
        self._trailers = NO_HEADERS
        self._held: list[bytes] = []
        self._size = 0

    @property
    def uploads(self) -> bool:
        return self._many_requests

    @abstractmethod
    def fields(self) -> str:
        """The lines of the head that this protocol has beside Content-Type."""

    @abstractmethod
    def end(self, error: GatewayError | None, trailers: Headers) -> bytes:
        """The last frame."""

    def encode(self, frame: bytes) -> bytes:
        """A frame as it goes into the body."""
        return frame

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self._headers is None:
            self._headers = headers
            self.cursor = headers.get(STARTS)
        if self.streams and not self._holding():
            self._open()

    def _holding(self) -> bool:
        return self._many_requests and not self._in.ended

    def _open(self) -> None:
        """Write the head, and what has been held."""
        out = self._out
        if out.opened:
            return
        fields = f"content-type: {self._speech.content_type}\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
        headers = (self._headers or NO_HEADERS).without("cache-control", "x-accel-buffering", REQUEST_ID)
        out.open(self.call.id, fields + self.fields(), headers)
        for frame in self._held:
            out.write(frame)
        self._let_go()

    def _hold(self, frame: bytes) -> None:
        self._held.append(frame)
        if not self.streams:
            return
        self._size += len(frame)
        EnvelopedExchange.held_for_all += len(frame)
        if self._size > HOLD_BYTES:
            raise self._full_duplex()
        if EnvelopedExchange.held_for_all > HOLD_ALL_BYTES:
            text = "too much is held for callers who have not ended their requests"
            raise CallerError(Reason.OVERLOADED, text, outcome=Outcome.UNKNOWN)

    def _let_go(self) -> None:
        EnvelopedExchange.held_for_all -= self._size
        self._size = 0
        self._held.clear()

    async def receive(self) -> Message:
        if self._ended:
            raise EndOfMessages
        body = await self._next()
        if self._many_requests:
            if body is None:
                self._ended = True
                if self.streams and self._headers is not None:
                    self._open()
                raise EndOfMessages
        else:
            self._ended = True
            # gRPC's status codes, "cardinality violation".
            if body is None:
                raise CallerError(Reason.NOT_IMPLEMENTED, "the call ended without its message")
            if await self._next() is not None:
                raise CallerError(Reason.NOT_IMPLEMENTED, "this method takes one message")
        return Message(body, self._speech.codec)

    async def _next(self) -> bytes | None:
        try:
            return await self._in.receive()
        except CallerError as error:
            if error.reason is Reason.SLOW_REQUEST and self._held:
                raise self._full_duplex() from error
            raise

    @staticmethod
    def _full_duplex() -> CallerError:
        return CallerError(
            Reason.HALF_DUPLEX, "replies before the end of the requests need HTTP/2: call this method by gRPC, or half-duplex"
        )

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure) and message.error is not None:
            raise message.error
        frame = self._framed(message.body)
        out = self._out
        if self.streams and not self._holding():
            self._open()
            out.write(frame)
            await out.pace()
            self.cursor = message.cursor
            return
        if self._headers is None:
            self._headers = NO_HEADERS
        self._hold(frame)

    def _framed(self, body: bytes) -> bytes:
        if self._speech.pack and len(body) >= self._compress_from:
            return self.encode(envelope(COMPRESSED, gzipped(body)))
        return self.encode(envelope(0, body))

    def conclude(self, headers: Headers) -> None:
        self._trailers = headers

    def answer(self) -> Answer:
        """The response of a method with one reply, once the handler has returned."""
        return self._whole(None, self._trailers)

    def _whole(self, error: GatewayError | None, trailers: Headers) -> Answer:
        body = b"".join((*self._held, self.encode(self.end(error, trailers))))
        headers = Headers((*lines(self._headers or NO_HEADERS), *self._fields()))
        return Answer(200, body, self._speech.content_type, self.call.id, headers)

    def _fields(self) -> Iterator[tuple[str, str]]:
        for line in self.fields().splitlines():
            name, _, value = line.partition(": ")
            yield name, value

    async def finish(self) -> Outflow:
        """The end of a stream of replies, once the handler has returned."""
        self._open()
        self._out.write(self.encode(self.end(None, self._trailers)))
        await self._out.drained()
        return self._out

    def failure(self, error: GatewayError) -> Answer | Outflow:
        """Before the head: the error is all of the answer. After it: in the last frame."""
        trailers = trailers_of(error)
        if self._out.opened:
            self._out.write(self.encode(self.end(error, trailers)))
            self._out.flush()
            if error.reason is Reason.SLOW_CALLER:
                self._out.let_go(LINGER_S)
            return self._out
        if not self.streams:
            self._held.clear()  # one reply and an error: the error is what counts
        self._headers = (self._headers or NO_HEADERS).plus(*marks(error))
        answer = self._whole(error, trailers)
        if not self._in.ended:
            answer.force_close()
        return answer

    def close(self) -> None:
        """What is not written yet is dropped with the caller."""
        self._let_go()
        self._out.close()
