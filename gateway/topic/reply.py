"""Replies find those who wait for them, by the correlation id; one reader for each reply topic, from the first question on.

A gateway reads all of a reply topic and passes over what is another's (`share: header`), or only the partition of it that is its
own (`share: partition`). Nobody commits a place: who is started anew has nobody who waits for what came before. Replies to
questions whose answer is fetched later are kept by `gateway.topic.later`, which reads on from where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self

from gateway.errors import BackendError, GatewayError, Reason
from gateway.message import Headers, value
from gateway.metric import Counter
from gateway.port import Record
from gateway.task import Tasks
from gateway.topic.correlation import Life, Whose
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from gateway.topic.log import REPLY_PARTITION, Log, said
from gateway.topic.seat import Seat

log = logging.getLogger("polygate")

MAX_WAITING = 10_000
PAUSE_S = 0.5

LATE = Counter("polygate_replies_late", "Replies that came once their question was answered, or its time was over.", "backend")
UNMATCHED = Counter("polygate_replies_unmatched", "Replies to no question that any gateway asked.", "backend")
FOREIGN = Counter("polygate_replies_foreign", "Replies to questions of other gateways, and of lives before this one.", "backend")


@value
class Way:
    """How the replies to a target's questions come back."""

    backend: str
    topic: str
    correlation: str
    """The name of the header with the correlation id."""
    reply_to: str
    """The name of the header with the topic."""
    seat: Seat | None = None
    """The partition that they come back on, where they do not come back on all."""

    def asked(self, headers: Headers, correlation: str) -> Headers:
        """The headers of a question."""
        own = (self.correlation, self.reply_to)
        pairs = [(self.correlation, correlation), (self.reply_to, self.topic)]
        if self.seat is not None and self.seat.partition is not None:
            pairs.append((REPLY_PARTITION, str(self.seat.partition)))
        return headers.without(*own, *map(str.lower, own)).plus(*pairs)

    def answers(self, record: Record) -> str:
        """The correlation id of a reply; "" where it has none."""
        return said(record.headers, self.correlation)


class Replies:
    """Who waits for which reply."""

    def __init__(self, log: Log, feeds: Feeds) -> None:
        self.log = log
        self.life = Life()
        self._feeds = feeds
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._waiting: dict[str, asyncio.Future[Record]] = {}
        self._listening: dict[tuple[str, Seat | None], asyncio.Future[None]] = {}
        self._names: dict[str, dict[str, None]] = {}
        self._seats: dict[tuple[str, int | None], Seat] = {}

    def way(self, backend: str, topic: str, names: tuple[str, str], seat: Seat | None = None) -> Way:
        """How replies come back to one target. `names`: of the headers with the correlation id and with the topic. Targets whose
        replies come back on one topic share a partition of it.
        """
        self._names.setdefault(topic, {})[names[0]] = None
        shared = None if seat is None else self._seats.setdefault((topic, seat.partition), seat)
        return Way(backend, topic, *names, shared)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def listen(self, way: Way) -> None:
        """Read a reply topic from its present end on; a no-op once it is read."""
        key = (way.topic, way.seat)
        started = self._listening.get(key)
        if started is None:
            started = self._listening[key] = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._listen(way, started), f"replies on {way.topic}")
        if not started.done():
            # Others wait for it too: one of them who leaves must not end it.
            await asyncio.shield(started)

    async def _listen(self, way: Way, started: asyncio.Future[None]) -> None:
        try:
            await (self._whole if way.seat is None else self._part)(way, started)
        except GatewayError as error:
            if started.done():
                log.warning("replies on %s are read anew with the next question: %s", way.topic, error.message)
            else:
                started.set_exception(error)
        finally:
            del self._listening[way.topic, way.seat]
            if not started.done():
                started.set_exception(BackendError(Reason.UNREACHABLE, "the gateway is about to stop"))

    async def _whole(self, way: Way, started: asyncio.Future[None]) -> None:
        async with self._feeds.following(way.topic) as feed:
            follower = Follower(feed, await self.log.ends(way.topic))
            started.set_result(None)
            while True:
                self._match(way, await follower.read())

    async def _part(self, way: Way, started: asyncio.Future[None]) -> None:
        """The partition that is our own alone. While it cannot be read, those who wait go on waiting."""
        assert way.seat is not None  # noqa: S101  see `_listen`
        ends = await self.log.ends(way.topic)
        mine = await way.seat.take(len(ends), self.life.name, self._tasks)
        if mine not in ends:
            raise BackendError(Reason.REFUSED, f"{way.topic} has no partition {mine} for replies to come back on")
        at = {mine: ends[mine]}
        started.set_result(None)
        while True:
            try:
                async with self.log.reading(way.topic, at) as reader:
                    while True:
                        self._match(way, await reader.read())
                        at = dict(reader.at)
            except BackendError as error:
                log.warning("replies on %s wait %.1f s: %s", way.topic, PAUSE_S, error.message)
                await asyncio.sleep(PAUSE_S)

    def _match(self, way: Way, records: Sequence[Record]) -> None:
        names = self._names[way.topic]
        for record in records:
            correlation = next((found for name in names if (found := said(record.headers, name))), "")
            waiting = self._waiting.get(correlation)
            if waiting is not None and not waiting.done():
                waiting.set_result(record)
                continue
            match self.life.whose(correlation):
                case Whose.OURS:
                    LATE.add(1, way.backend)
                case Whose.FOREIGN:
                    FOREIGN.add(1, way.backend)
                case Whose.NOBODYS:
                    UNMATCHED.add(1, way.backend)
                case Whose.LATER:
                    pass  # counted where it is kept

    async def reply(self, send: Callable[[str], Awaitable[object]], deadline: float) -> Record:
        """Ask and wait: `send` writes the question under a correlation id. Raises what it does, and UNKNOWN_OUTCOME without a
        reply.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise BackendError(Reason.OVERLOADED, "too many questions are waiting for their replies")
        correlation = self.life.next()
        waiting: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = waiting
        try:
            await send(correlation)
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError as error:
            raise BackendError(Reason.UNKNOWN_OUTCOME, "the question was sent, and no reply came in time") from error
        finally:
            del self._waiting[correlation]
