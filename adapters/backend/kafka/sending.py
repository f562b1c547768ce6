"""One record on its way to Kafka: its partition, its turn, its deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import lru_cache
from typing import Any

from aiokafka.partitioner import murmur2

SHORT_KEY = 64
_POSITIVE = 0x7FFFFFFF

_hash_of_short = lru_cache(4096)(murmur2)


def chosen_by(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own default partitioner chooses it."""
    return int((_hash_of_short(key) if len(key) <= SHORT_KEY else murmur2(key)) & _POSITIVE) % partitions


class Given(Exception):  # noqa: N818  not an error of anybody
    """The deadline of a record has passed."""


class Sending:
    """One record on its way: not yet taken by the library while `future` is None, withdrawn once `task` is None."""

    __slots__ = ("future", "since", "size", "task")

    def __init__(self, size: int) -> None:
        self.size = size
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  append() is a coroutine of an exchange, which always has one
        self.since = task.get_loop().time()
        self.task: asyncio.Task[Any] | None = task
        self.future: asyncio.Future[Any] | None = None

    def expire(self) -> None:
        """Wake the one who waits: as `asyncio.timeout` does while the record can be withdrawn."""
        if self.future is None:
            task, self.task = self.task, None
            if task is not None:
                task.cancel()
        elif not self.future.done():
            self.future.set_exception(Given())


class Turn:
    """A lock that costs nothing while it is free: hands over records to one partition one by one, in the order they came."""

    __slots__ = ("_queue", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._queue: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when it is ours."""
        ours = asyncio.get_running_loop().create_future()
        self._queue.append(ours)
        try:
            await ours
        except asyncio.CancelledError:
            if ours.done() and not ours.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give it to the next who still waits; it stays taken in between, so that nobody slips in."""
        while self._queue:
            following = self._queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.taken = False


class Lanes:
    """The partitions of one topic: who leads each, and whose turn it is to hand over a record."""

    def __init__(self, leaders: list[int]) -> None:
        self.leaders = leaders
        self.turns = [Turn() for _ in leaders]


class Door:
    """Where the records of a topic wait that has no lanes yet."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0
