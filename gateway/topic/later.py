"""Questions whose answers are fetched later: each is put into the gateway's state before it is asked, and its reply is kept there
by whichever gateway reads it.

Every gateway that shares the state reads the whole reply topic and keeps each answer that no other has kept before, so that one
of them may end at any time. Where none is left, nobody keeps it, so a question also says where in the reply topic
it was asked; a gateway that starts reads on from the first such place of the questions without an answer. A committed place (a
consumer group) was rejected: gateways that share a reply topic but not their state would take each other's replies away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from gateway.backoff import Backoff
from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.metric import Counter
from gateway.port import Record
from gateway.state import State
from gateway.task import Tasks
from gateway.topic.answer import UNKEPT, Answer, Pending, answer_of, name_of, read
from gateway.topic.callback import Callbacks
from gateway.topic.correlation import Life, Whose
from gateway.topic.event import cursor_of, offsets_of
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from gateway.topic.log import Log, Offsets, said
from gateway.topic.reply import LATE, Way

log = logging.getLogger("polygate")

BACKOFF_S = (0.1, 5.0)
KEPT = Counter("polygate_replies_kept", "Replies that were kept for whoever asked, to be fetched.", "backend")
_ANYBODYS = Life()


class Later:
    """The reply topics of one backend that are read for answers to keep."""

    def __init__(self, log: Log, feeds: Feeds) -> None:
        self._log = log
        self._feeds = feeds
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._keepers: dict[str, Keeper] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._callbacks: Callbacks | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def keeper(self, way: Way, state: State) -> Keeper:
        """Who keeps the answers that come back on a topic, reading from now on."""
        keeper = self._keepers.get(way.topic)
        if keeper is None or keeper.state is not state:
            if keeper is not None:
                self._running.pop(way.topic).cancel()
            keeper = self._keepers[way.topic] = Keeper(self._log, self._feeds, way, state, self._calling(way.backend, state))
            self._running[way.topic] = self._tasks.spawn(keeper.run(), f"answers on {way.topic}")
        keeper.names[way.correlation] = None
        return keeper

    def _calling(self, backend: str, state: State) -> Callbacks:
        """Who calls those back who asked through the backend."""
        if self._callbacks is None or self._callbacks.state is not state:
            self._callbacks = Callbacks(backend, state, self._tasks)
        return self._callbacks


class Keeper:
    """Reads one reply topic and keeps the answers of it."""

    def __init__(self, log: Log, feeds: Feeds, way: Way, state: State, callbacks: Callbacks) -> None:
        self.names: dict[str, None] = {}
        self.callbacks = callbacks
        self._log = log
        self._feeds = feeds
        self._backend = way.backend
        self._topic = way.topic
        self.state = state
        self._at: Offsets | None = None
        self._reading = asyncio.Event()

    # For those who ask and those who fetch

    async def pending(self, key: str, asked: str, keep: float) -> None:
        """Put a question into the state, before it is asked. BackendError, if so nothing stands there."""
        if self._at is None:
            try:
                async with asyncio.timeout(BACKOFF_S[1]):
                    await self._reading.wait()
            except TimeoutError as error:
                raise BackendError(Reason.UNREACHABLE, "the topic of the replies cannot be read at present") from error
        kept = Pending(asked, self._topic, cursor_of(self._at or {}), keep).written()
        await self.state.put(self._name(key), kept, keep)

    async def withdrawn(self, key: str) -> None:
        """The question was not asked."""
        try:
            await self.state.drop(self._name(key))
        except GatewayError as error:
            log.warning("a question that was not asked stays pending until its time is over: %s", error.message)

    async def answered(self, key: str, until: float) -> Answer | None:
        """The answer, if it comes before a time of the event loop, and before the gateway stops: another one can then be asked
        for it. Raises nothing: the question has been asked.
        """
        name = self._name(key)
        try:
            async with asyncio.timeout_at(until):
                kept = await self.state.get(name)
                if kept is not None and isinstance(read(kept), Pending):
                    kept = await self.state.changed(name, kept)
        except TimeoutError:
            return None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or Reason.OVERLOADED not in error.args:
                raise
            task.uncancel()
            return None
        except GatewayError as error:
            log.warning("an answer cannot be waited for: %s", error.message)
            return None
        found = None if kept is None else read(kept)
        return found if isinstance(found, Answer) else None

    def _name(self, key: str) -> str:
        return name_of(self._backend, key)

    # Reading

    async def run(self) -> None:
        """Read until cancelled: from where the first question without an answer was asked, and then on."""
        backoff, begin = Backoff(BACKOFF_S), self._first
        while True:
            try:
                async with self._feeds.following(self._topic) as feed:
                    if self._at is None:
                        self._at = await begin()
                    follower = Follower(feed, self._at)
                    self._reading.set()
                    while True:
                        records = await follower.read()
                        await self._keep(records)
                        self._at = dict(follower.at)
                        backoff.reset()
            except CallerError:
                log.warning("%s no longer holds all replies that may have come: what it holds is read", self._topic)
                self._reading.clear()
                # No place in a topic that was made anew can be told from one in the topic before.
                self._at, begin = None, self._starts
            except BackendError as error:
                log.warning("answers on %s wait %.1f s: %s", self._topic, backoff.seconds, error.message)
            except Exception:
                log.exception("answers on %s wait %.1f s", self._topic, backoff.seconds)
            await backoff.wait()

    async def _starts(self) -> Offsets:
        return dict(await self._log.starts(self._topic))

    async def _first(self) -> Offsets:
        """The place of the first question without an answer; the end where there is none."""
        # In this order: whoever asks after we have looked is answered behind the end.
        starts, ends = await self._log.starts(self._topic), await self._log.ends(self._topic)
        kept = await self.state.all(name_of(self._backend, ""))
        places = [
            offsets_of(one.place)
            for one in map(read, kept.values())
            if isinstance(one, Pending) and one.reply_to == self._topic and one.place
        ]
        # A place beyond the end is one of a topic that was made anew since.
        return {partition: _earliest(places, partition, starts[partition], end) for partition, end in ends.items()}

    async def _keep(self, records: Sequence[Record]) -> None:
        """Keep what is an answer, the answers to one question in their order."""
        answers: dict[str, list[Record]] = {}
        for record in records:
            correlation = next((found for name in self.names if (found := said(record.headers, name))), "")
            if _ANYBODYS.whose(correlation) is Whose.LATER:
                answers.setdefault(correlation, []).append(record)
        if answers:
            async with asyncio.TaskGroup() as group:
                for key, replies in answers.items():
                    group.create_task(self._keep_all(key, replies))

    async def _keep_all(self, key: str, replies: Sequence[Record]) -> None:
        for record in replies:
            backoff = Backoff(BACKOFF_S)
            while True:
                try:
                    await self._keep_one(key, answer_of(record))
                    break
                except BackendError as error:
                    log.warning("an answer on %s waits %.1f s: %s", self._topic, backoff.seconds, error.message)
                await backoff.wait()

    async def _keep_one(self, key: str, answer: Answer) -> None:
        name = self._name(key)
        known = await self.state.get(name)
        question = None if known is None else read(known)
        if isinstance(question, Pending):
            # Not claimed: a claim that failed half-way is let go again, with the question that it took the place of. Gateways
            # that read the same reply at the same time put the same.
            try:
                await self.state.put(name, answer.written(), question.keep)
            except CallerError:
                unkept = Answer(answer.partition, answer.offset, answer.timestamp, b"", error=UNKEPT)
                await self.state.put(name, unkept.written(), question.keep)
            KEPT.add(1, self._backend)
            self.callbacks.answered(key)
        elif question is None or (question.partition, question.offset) != (answer.partition, answer.offset):
            LATE.add(1, self._backend)


def _earliest(places: Sequence[Mapping[int, int]], partition: int, start: int, end: int) -> int:
    """The first of some places in a partition that holds the records from `start` to `end`."""
    offsets = [min(place.get(partition, start), end) if place.get(partition, start) <= end else start for place in places]
    return max(start, min(offsets, default=end))
