"""The gateway's state in a topic: a log of one partition, read from its start on into a bounded map.

A gateway learns that its own claim came first by meeting its record where it reads, so several that share a topic agree.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from itertools import count
from typing import Self

from gateway.backoff import Backoff
from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason, translating
from gateway.exchange import new_id
from gateway.message import Headers, Message
from gateway.metric import Gauge
from gateway.status import outcome_of
from gateway.task import Tasks
from gateway.topic.entry import BY, CLAIM, DROP, GRACE_MS, KIND, OVER, PUT, SECONDS, Entries, Told
from gateway.topic.log import Log

log = logging.getLogger("polygate")

WRITE_S = 10.0
SWEEP_S = 1.0
BACKOFF_S = (0.1, 5.0)
CLAIMS = 10_000

_HELD = Gauge("polygate_state_bytes", "Bytes that count as kept in the gateway's state.")
_ENTRIES = Gauge("polygate_state_entries", "Keys that the gateway's state holds.")


class _Place:
    """Where the reader is, and who waits for it to come so far."""

    def __init__(self) -> None:
        self.at: int | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def reached(self, at: int) -> None:
        self.at = at
        while self._waiting and self._waiting[0][0] <= at:
            _end(heappop(self._waiting)[2])

    async def upto(self, offset: int) -> None:
        if self.at is None or self.at < offset:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (offset, next(self._numbers), waiting))
            await waiting


class Shelf:
    """Implements `gateway.state.State` over any log. Enter it once the log is connected; it need not be reachable yet."""

    def __init__(
        self,
        source: Log,
        topic: str,
        *,
        max_bytes: int,
        max_age: float,
        shared: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes`: what is held at the most; `max_age`: for how many seconds anything is kept at the most; `shared`: see
        `State.shared`; `clock`: seconds since 1970.
        """
        self.shared = shared
        self._log = source
        self._topic = topic
        self._max_age = max_age
        self._entries = Entries(max_bytes, clock)
        self._tasks = Tasks()
        self._place = _Place()
        self._watched: dict[str, set[asyncio.Future[None]]] = {}
        self._claims: dict[str, asyncio.Future[bytes | None]] = {}
        """Our claims that were not met yet. Where nobody waits any more, so that the future is done, they are let go once met."""
        self._tried = asyncio.Event()
        self._readable = False
        self._trouble = BackendError(Reason.UNREACHABLE, "the gateway's state cannot be read yet")
        self._unwatch: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._unwatch = [_HELD.watch(lambda: self._entries.size), _ENTRIES.watch(lambda: len(self._entries))]
        self._tasks.spawn(self._run(), "reading the gateway's state")
        self._tasks.spawn(self._sweep(), "sweeping the gateway's state")
        return self

    async def __aexit__(self, *error: object) -> None:
        for stop in self._unwatch:
            stop()
        await self._tasks.__aexit__(*error)

    async def tried(self) -> None:
        """Wait until everything was read for the first time, or could not be."""
        await self._tried.wait()

    # State

    async def get(self, key: str) -> bytes | None:
        await self._current()
        return self._value(key)

    async def all(self, prefix: str) -> Mapping[str, bytes]:
        await self._current()
        return self._entries.under(prefix)

    async def _current(self) -> None:
        """Wait until everything was read that is there now."""
        await self._ready()
        with _in_time():
            async with asyncio.timeout(WRITE_S):
                await self._place.upto((await self._log.ends(self._topic))[0])

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        await self._ready()
        with self._entries.room(key, value):
            await self._append(PUT, key, value, seconds)

    async def claim(self, key: str, value: bytes, seconds: float, *, over: bytes | None = None) -> bytes | None:
        await self._ready()
        entry = self._entries.live(key)
        if entry is not None and entry.value != over:
            return entry.value
        with self._entries.room(key, value):
            return await self._claimed(key, value, seconds, None if entry is None else entry.offset)

    async def _claimed(self, key: str, value: bytes, seconds: float, over: int | None) -> bytes | None:
        """Append a claim and wait until it is met."""
        by = new_id()
        met: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._claims[by] = met
        headers = ((BY, by),) if over is None else ((BY, by), (OVER, str(over)))
        lost = True
        try:
            await self._append(CLAIM, key, value, seconds, *headers)
            async with asyncio.timeout(WRITE_S):
                there = await met
            lost = False
        except GatewayError as error:
            lost = outcome_of(error) is not Outcome.FAILED
            if lost:
                raise BackendError(Reason.UNREACHABLE, "the key could not be claimed in time") from error
            raise
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the key could not be claimed in time") from error
        finally:
            if not lost:
                self._claims.pop(by, None)
            elif by not in self._claims and not met.cancelled() and met.result() is None:
                self._let_go(key, value)
            elif len(self._claims) > CLAIMS:
                self._claims.pop(by, None)  # it keeps its key until its time is over
            else:
                met.cancel()
        return there

    async def changed(self, key: str, known: bytes | None) -> bytes | None:
        while True:
            value = self._value(key)
            if self._readable and value != known:
                return value
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            watching = self._watched.setdefault(key, set())
            watching.add(waiting)
            entry = self._entries.live(key)
            try:
                # In steps: what ends an entry is the clock, and a timer does not hear of it when that is set.
                await asyncio.wait((waiting,), timeout=None if entry is None else min(SWEEP_S, self._entries.left(entry)))
            finally:
                watching.discard(waiting)
                if not watching and self._watched.get(key) is watching:
                    del self._watched[key]

    async def drop(self, key: str, *, known: bytes | None = None) -> None:
        await self._ready()
        entry = self._entries.live(key)
        if known is None:
            await self._append(DROP, key, b"", 0)
        elif entry is not None and entry.value == known:
            await self._append(DROP, key, b"", 0, (OVER, str(entry.offset)))

    def _value(self, key: str) -> bytes | None:
        entry = self._entries.live(key)
        return None if entry is None else entry.value

    async def _ready(self) -> None:
        """Wait until everything that was there has been read, or could not be."""
        if not self._readable:
            with _in_time():
                async with asyncio.timeout(WRITE_S):
                    await self._tried.wait()
        if not self._readable:
            raise BackendError(self._trouble.reason, self._trouble.message) from self._trouble

    # The log

    async def _append(self, kind: str, key: str, value: bytes, seconds: float, *headers: tuple[str, str]) -> None:
        if seconds > self._max_age:
            raise BackendError(Reason.REFUSED, f"the gateway's state keeps nothing for longer than {self._max_age:g} s")
        told = Headers(((KIND, kind), (SECONDS, f"{seconds:g}"), *headers))
        deadline = asyncio.get_running_loop().time() + WRITE_S
        await self._log.append(self._topic, Message(value, key=key.encode(), headers=told), deadline, partition=0)

    async def _run(self) -> None:
        backoff = Backoff(BACKOFF_S)
        while True:
            try:
                await self._log.make_compacted(self._topic, self._max_age + GRACE_MS / 1000)
                await self._follow()
            except CallerError as error:
                log.warning("the gateway's state is read anew: %s", error.message)
                self._readable = False
                self._place.at = None
                self._entries.clear()
            except BackendError as error:
                log.warning("the gateway's state cannot be read: %s", error.message)
                self._trouble = error
            except Exception:
                log.exception("the gateway's state cannot be read")
            self._tried.set()
            await backoff.wait()
            if self._readable:
                backoff.reset()

    async def _follow(self) -> None:
        """Read on from where it was, until that fails."""
        if self._place.at is None:
            self._place.at = (await self._log.starts(self._topic))[0]
        end = (await self._log.ends(self._topic))[0]
        async with self._log.reading(self._topic, {0: self._place.at}) as reader:
            while True:
                if not self._readable and self._place.at >= end:
                    self._readable = True
                    self._tried.set()
                    for key in list(self._watched):
                        self._wake(key)
                for record in await reader.read():
                    told = self._entries.apply(record)
                    if told is not None:
                        self._tell(told, record.body)
                self._place.reached(reader.at[0])

    def _tell(self, told: Told, value: bytes) -> None:
        """Let those know who wait for what a record has said."""
        if told.taken:
            self._wake(told.key)
        if told.by is None:
            return
        met = self._claims.pop(told.by, None)
        if met is not None and not met.done():
            met.set_result(told.there)
        elif met is not None and told.taken:
            self._let_go(told.key, value)

    def _wake(self, key: str) -> None:
        for waiting in self._watched.pop(key, ()):
            _end(waiting)

    def _let_go(self, key: str, value: bytes) -> None:
        """Of a claim that nobody waits for any more."""

        async def drop() -> None:
            try:
                await self.drop(key, known=value)
            except GatewayError as error:
                log.warning("a claim that nobody waits for stays until its time is over: %s", error.message)

        self._tasks.spawn(drop(), "letting go of a claim")

    async def _sweep(self) -> None:
        """Let go of what is over, here and in the topic."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._entries.sweep()
            dead, self._entries.dead = self._entries.dead, []
            if not dead:
                continue
            try:
                await self._log.forget(self._topic, sorted(dead))
            except BackendError as error:
                log.warning("what is over in the gateway's state cannot be let go yet: %s", error.message)
                self._entries.dead += dead


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _in_time() -> AbstractContextManager[None]:
    """A wait that took too long was for the log."""
    return translating((TimeoutError, Reason.UNREACHABLE, "the gateway's state could not be read in time"))
