"""How the contract suite of ingresses (`tests.contract.ingress`) speaks to one: what each listener kind has to supply."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

from gateway.errors import GatewayError, Reason
from gateway.exchange import Exchange, Handler
from gateway.listener import View
from gateway.message import BYTES, NO_HEADERS, Headers, Many
from gateway.pipeline import answerable
from gateway.route import Endpoint, Found

PATIENCE_S = 20
SENT = ("x-shop", "tea")
"""The header that a driver's client adds to every call."""


@dataclass(frozen=True)
class Answer:
    """What a caller was told in the end."""

    clean: bool = True
    """It looks like a success. An error, and a wire that just breaks off, is not clean."""
    status: int | None = None
    """The wire's own number for an error before acceptance, as `Driver.status` gives it."""
    reason: str = ""
    """As the error itself says it; "" where the wire just breaks off."""
    id: str = ""
    """The exchange's id, as the answer carries it."""
    text: str = ""
    """Everything of an error that the caller can read."""
    headers: Headers = NO_HEADERS
    """Of the answer (HTTP head, 101, initial metadata)."""
    bodies: tuple[bytes, ...] = ()


class EndedError(Exception):
    """The conversation is over."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


class Conversation(ABC):
    """The caller's end of one exchange."""

    @abstractmethod
    async def send(self, body: bytes) -> None:
        """One message. Where a request is one body, it may wait for `finish`."""

    @abstractmethod
    async def finish(self) -> None:
        """Say that no further message will come; a no-op where the wire cannot."""

    @abstractmethod
    async def receive(self) -> bytes:
        """The next message. Raises EndedError at the end, good or bad; that answer has no bodies."""

    @abstractmethod
    async def leave(self) -> None:
        """Be gone without a word: reset or drop the connection."""


class Driver(ABC):
    """One ingress, and a client of its wire."""

    protocol: ClassVar[str]
    target: ClassVar[str]
    """`Call.target` of what `conversing` opens."""
    wire: ClassVar[Many]
    """Which sides of the wire may carry more than one message."""
    least: ClassVar[Many] = Many.NEITHER
    """Which sides a call says may carry many where the route has one in and one out."""
    half_close: ClassVar[bool] = True
    """The caller can say that it has finished and go on listening."""
    content_type: ClassVar[str] = BYTES
    """Of the messages that handlers send."""

    @abstractmethod
    def listening(self, view: View) -> AbstractAsyncContextManager[object]:
        """Serve `view` on a free port, with a client ready. Leaving leaves `Ingress.serving` first, then closes the client."""

    @abstractmethod
    def conversing(self) -> AbstractAsyncContextManager[Conversation]:
        """Open one, with the header SENT. A refusal comes by `receive`, whenever the wire says it. Leaving ends what is left."""

    @abstractmethod
    def status(self, reason: Reason) -> int:
        """What the wire says for a reason before anything was accepted, by `gateway.status.TABLE`."""

    async def ask(self, body: bytes = b"{}") -> Answer:
        """One message in, and everything that comes out."""
        bodies: list[bytes] = []
        async with asyncio.timeout(PATIENCE_S), self.conversing() as talk:
            try:
                await talk.send(body)
                await talk.finish()
                while True:
                    bodies.append(await talk.receive())
            except EndedError as end:
                return replace(end.answer, bodies=tuple(bodies))


def serving(handler: Handler, many: Many = Many.NEITHER, *, each: bool = False) -> View:
    """A view in which every target is `handler`."""
    endpoint = Endpoint("route", answerable(handler), many, each=each)
    return View(find=lambda *_asked: Found(endpoint))


def missing(error: GatewayError) -> View:
    """A view in which no target has a route, as `Table` makes one."""

    async def refuse(_exchange: Exchange) -> None:
        raise error

    return View(find=lambda *_asked: Found(Endpoint("", refuse), error=error))
