"""The exchange: messages in, messages out, until the handler returns. Everything the gateway carries is an instance of it."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

from gateway.message import NO_HEADERS, Headers, Many, Message, value


class EndOfMessages(Exception):  # noqa: N818  it is an end, not an error
    """The other side has finished: there is no further message."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, once a policy has found out."""

    name: str
    claims: Mapping[str, str] = field(default_factory=dict)


MARGIN_S = 0.05

_NOTHING: Mapping[str, str] = MappingProxyType({})
_PREFIX = f"{random.SystemRandom().getrandbits(48):012x}"
_COUNT = count(1)


def new_id() -> str:
    """An id for an exchange: unique across processes by a random start, cheap by counting on from there."""
    return f"{_PREFIX}-{next(_COUNT):x}"


def early(due: float) -> float:
    """A little before a time, a quarter of what is left before a near one: so that who waits until then still hears of it."""
    return due - min(MARGIN_S, (due - asyncio.get_running_loop().time()) / 4)


@value
class Call:
    """What the caller asked for, before any message is read."""

    id: str
    protocol: str
    """"rest", "grpc", "websocket", "topic": belongs to the exchange, not to the listener."""
    target: str
    """"POST /orders/7", "/shop.v1.Orders/Place", "/feed/eu"."""
    headers: Headers = NO_HEADERS
    params: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Path variables, decoded."""
    query: tuple[tuple[str, str], ...] = ()
    """Query parameters, decoded, in order."""
    many: Many = Many.NEITHER
    deadline: float | None = None
    """Event-loop time by which the first reply is due."""
    principal: Principal | None = None
    peer: str = ""
    """The caller's address, without the port."""
    accepts: str = ""
    """The media type that replies are wanted in; "" means the one that requests come in."""
    snapshot: bool = False
    """The caller wants what there is now, not what will come (a JSON array has an end)."""
    each: bool = False
    """Every message of it is an exchange of its own, counted and answered by itself (see `pipeline.each`)."""
    expires: float | None = None
    """Event-loop time at which the caller itself gives the whole of it up (`grpc-timeout`), a stream too."""
    record: str = ""
    """What it was made of, by a name that is the same for every try of it: a record's place. "" for a caller's own call."""
    number: int = 0
    """Which message of a conversation it is, from 1 on, where each is an exchange of its own."""

    def but(self, *, headers: Headers | None = None, deadline: float | None = None) -> Call:
        """The same call with other headers or another deadline: `dataclasses.replace` at a sixth of its price, for policies."""
        return Call(
            self.id,
            self.protocol,
            self.target,
            self.headers if headers is None else headers,
            self.params,
            self.query,
            self.many,
            self.deadline if deadline is None else deadline,
            self.principal,
            self.peer,
            self.accepts,
            self.snapshot,
            self.each,
            self.expires,
            self.record,
            self.number,
        )

    def due(self, otherwise: float) -> float:
        """By when a backend has ended its own waits (event-loop time): a little before the deadline. `otherwise`: how many
        seconds a call has that has no deadline.
        """
        deadline = self.deadline
        return asyncio.get_running_loop().time() + otherwise if deadline is None else early(deadline)

    def part(self, number: int) -> Call:
        """One message of it as a call of its own, without a deadline yet but the caller's."""
        return Call(
            f"{self.id}.{number}",
            self.protocol,
            self.target,
            self.headers,
            self.params,
            self.query,
            principal=self.principal,
            peer=self.peer,
            accepts=self.accepts,
            snapshot=self.snapshot,
            deadline=self.expires,
            expires=self.expires,
            record=self.record,
            number=number,
        )


class Exchange(ABC):
    """One conversation. One task may receive while another sends; neither side may be used by two.

    If the caller goes away, the handler is cancelled.
    """

    __slots__ = ()
    call: Call

    @abstractmethod
    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        """Say yes. Implied by the first send, and on a WebSocket by the first receive. Refusing is raising before."""

    @abstractmethod
    async def receive(self) -> Message:
        """The next message. Raises EndOfMessages when the caller has finished."""

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Answer. Waits while the caller is slow."""

    def conclude(self, headers: Headers) -> None:  # noqa: B027  most wires have no place for it
        """Say what goes with the end: trailing metadata. At most once, by a handler that is about to return; a wire whose
        answer has one head has it there, one without a place for it drops it. What goes with an error is in its details.
        """

    def settle(self, fate: asyncio.Future[Any]) -> None:  # noqa: B027  only who counts wants to know
        """Say that the answer is no outcome yet: what was asked for is done once `fate` ends well, and is dropped where it ends
        otherwise. At most once, by a handler that is about to answer.
        """


Handler = Callable[[Exchange], Awaitable[None]]


class Wrapper(Exchange):
    """Delegates everything; a policy that looks at messages overrides `receive` or `send`."""

    __slots__ = ("call", "inner")

    def __init__(self, inner: Exchange, call: Call | None = None) -> None:
        """`call` where the policy adds to it: a principal, a deadline."""
        self.inner = inner
        self.call = call or inner.call

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        await self.inner.accept(headers)

    async def receive(self) -> Message:
        return await self.inner.receive()

    async def send(self, message: Message) -> None:
        await self.inner.send(message)

    def conclude(self, headers: Headers) -> None:
        self.inner.conclude(headers)

    def settle(self, fate: asyncio.Future[Any]) -> None:
        self.inner.settle(fate)


class Memory(Exchange):
    """An exchange with no wire: the requests given, then the end; what is sent is kept in `replies`.

    For tests and for internal calls. `headers` are those of `accept`, or None while nothing has said yes; `trailers` those that
    went with the end.
    """

    def __init__(self, *requests: Message, call: Call | None = None) -> None:
        self.call = call or Call(new_id(), "memory", "")
        self._requests = iter(requests)
        self.replies: list[Message] = []
        self.headers: Headers | None = None
        self.trailers = NO_HEADERS

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        if self.headers is None:
            self.headers = headers

    async def receive(self) -> Message:
        for message in self._requests:
            return message
        raise EndOfMessages

    async def send(self, message: Message) -> None:
        if self.headers is None:
            self.headers = NO_HEADERS
        self.replies.append(message)

    def conclude(self, headers: Headers) -> None:
        self.trailers = headers


async def relay(
    exchange: Exchange,
    send: Callable[[Message], Awaitable[None]],
    receive: Callable[[], Awaitable[Message]],
    finish: Callable[[], Awaitable[None]],
) -> None:
    """Pump both ways between an exchange and a peer until the peer ends.

    `send` gives the peer a message, `finish` tells it that there are no more, `receive` raises EndOfMessages at its end.
    The first error of either way ends both and is raised alone, out of the group that TaskGroup makes of it.
    """

    async def forward() -> None:
        try:
            while True:
                await send(await exchange.receive())
        except EndOfMessages:
            await finish()

    try:
        async with asyncio.TaskGroup() as group:
            forwarding = group.create_task(forward())
            try:
                while True:
                    await exchange.send(await receive())
            except EndOfMessages:
                forwarding.cancel()
    except BaseExceptionGroup as errors:
        raise first(errors) from errors


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single exception in a group, however deep."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
