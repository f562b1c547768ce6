"""Group commit: what is appended while one transaction is being fsynced makes the next one.

All state lives on the event loop, and the writing thread has one transaction at a time. So a record that was not handed over
can still be withdrawn, nobody lingers while the disk is idle, and an offset is given only to what is being written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.embedded.append import Append
from gateway.embedded.batch import Round
from gateway.embedded.fault import InDoubtError, StoreError
from gateway.embedded.store import Store
from gateway.embedded.topic import Partition
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.topic.log import Place

log = logging.getLogger("polygate")

BATCH_RECORDS = 512
BATCH_BYTES = 8 << 20
# Progress alone waits so long for a record to ride with: it costs an fsync, and losing it a second delivery.
LINGER_S = 0.05

# How long what could not be noted on a full disk waits to be tried again.
RETRY_S = 0.5

Blocking = Callable[..., Awaitable[Any]]
"""Run a function in the writing thread."""

Written = Sequence[tuple[Message, Place]]
"""The records of one transaction, in the order of their offsets."""


class Commits:
    """The queue in front of the writing thread, bounded in bytes."""

    def __init__(self, store: Store, blocking: Blocking, told: Callable[[Written], None], max_bytes: int) -> None:
        """`told` hears of the records of each transaction once they are on the disk."""
        self._store = store
        self._blocking = blocking
        self._told = told
        self._max_bytes = max_bytes
        self._pending: deque[Append] = deque()
        self._progress: dict[tuple[str, Partition], int] = {}
        self._forgotten: dict[Partition, list[int]] = {}
        self._ripe = False
        self._alone = False
        self._flushing: list[asyncio.Future[None]] = []
        self._queued = 0
        self._now = 0
        self._due = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self.trouble: str | None = None
        """Why the latest transaction failed. The next one may succeed: a full disk may be given room."""
        self.broken: str | None = None
        """Why nothing is taken any more."""

    async def append(self, partition: Partition, message: Message, size: int, deadline: float) -> Place:
        """See `Log.append`."""
        return await self.admit(partition, message, size, deadline)

    def admit(
        self,
        partition: Partition,
        message: Message,
        size: int,
        deadline: float,
        *,
        ended: Callable[[bool], None] | None = None,
    ) -> asyncio.Future[Place]:
        """See `Log.admit`. `ended` is told once it is known whether the record is written; never, where nobody will know."""
        return self._admitted(((partition, message, size),), size, deadline, ended=ended)

    async def append_all(self, posts: Sequence[tuple[Partition, Message, int]], deadline: float) -> Sequence[Place]:
        """See `Log.append_all`; each record with its size."""
        places: Sequence[Place] = await self._admitted(posts, sum(size for _, _, size in posts), deadline, several=True)
        return places

    def _admitted(
        self,
        posts: Sequence[tuple[Partition, Message, int]],
        size: int,
        deadline: float,
        *,
        several: bool = False,
        ended: Callable[[bool], None] | None = None,
    ) -> asyncio.Future[Any]:
        if self.broken is not None:
            raise BackendError(Reason.UNREACHABLE, self.broken)
        loop = asyncio.get_running_loop()
        if deadline <= loop.time():
            raise BackendError(Reason.UNREACHABLE, "the deadline had passed before the record was written")
        if self._queued + size > self._max_bytes:
            raise BackendError(Reason.OVERLOADED, "the disk does not keep up: too much waits to be written")
        waiting = Append(posts, size, loop.create_future(), several, ended)
        self._pending.append(waiting)
        self._queued += size
        self._due.set()
        timer = loop.call_at(deadline, waiting.expire)
        waiting.done.add_done_callback(lambda _: timer.cancel())
        if ended is not None:
            waiting.done.add_done_callback(waiting.withdrawn)
        return waiting.done

    def progress(self, consumer: str, partition: Partition, at: int) -> None:
        """Note where a consumer goes on; on the disk with the next record, or a moment later."""
        self._progress[consumer, partition] = at
        self._linger(LINGER_S)

    def forget(self, partition: Partition, offsets: Sequence[int]) -> None:
        """Let records go; from the disk with the next record, or a moment later."""
        self._forgotten.setdefault(partition, []).extend(offsets)
        self._linger(LINGER_S)

    def _linger(self, seconds: float) -> None:
        if self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(seconds, self._ripen)

    def _ripen(self) -> None:
        self._ripe = True
        self._due.set()

    async def flush(self) -> None:
        """Wait until all that was given is on the disk. BackendError where it cannot be."""
        if self.broken is not None:
            raise BackendError(Reason.UNREACHABLE, self.broken)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushing.append(done)
        self._due.set()
        await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._pending or self._flushing or self._ripe:
                await self._write()

    async def _write(self) -> None:
        work = self._taken()
        try:
            starts = await self._blocking(self._store.commit, work.batch) if work.batch else {}
        except StoreError as error:
            self._failed(work, error)
            return
        except Exception:
            self._failed(work, InDoubtError("a defect of ours", fatal=True))
            raise
        self._succeeded(work, starts)
        await self.checkpoint()

    def _taken(self) -> Round:
        work = Round()
        # A clock that is set back must not turn the order of a partition's timestamps: retention relies on it.
        now = self._now = max(self._now, time.time_ns() // 1_000_000)
        # What could not be noted beside records goes by itself: it may be what makes room for them.
        alone, self._alone = self._alone, False
        while self._pending and not alone and len(work.written) < BATCH_RECORDS and work.size < BATCH_BYTES:
            waiting = self._pending.popleft()
            if waiting.done.done():  # withdrawn: its deadline came or its caller left
                self._queued -= waiting.size
            else:
                work.take(waiting, now)
        progress, self._progress = self._progress, {}
        forgotten, self._forgotten = self._forgotten, {}
        work.note(progress, forgotten)
        self._ripe = False
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if not self._pending:
            work.flushed, self._flushing = self._flushing, []
        return work

    def _succeeded(self, work: Round, starts: Mapping[int, int]) -> None:
        self.trouble = None
        self._queued -= work.size
        work.succeed(starts)
        self._told(work.written)
        for done in work.flushed:
            if not done.done():
                done.set_result(None)

    def _failed(self, work: Round, error: StoreError) -> None:
        doubt = isinstance(error, InDoubtError)
        reason = Reason.UNKNOWN_OUTCOME if doubt else Reason.UNREACHABLE
        message = f"the local log cannot be written: {error}"
        if self.trouble is None:
            log.error("%s (%d records %s)", message, len(work.written), "in doubt" if doubt else "refused", exc_info=error)
        self.trouble = message
        self._refuse(work.appends, work.flushed, reason, message)
        if error.fatal:
            self.stop(message)
            return
        # What was noted is true all the same: it is tried again, and nobody waits for it.
        self._progress = work.progress | self._progress
        for partition, offsets in work.forgotten.items():
            self._forgotten.setdefault(partition, []).extend(offsets)
        if (self._progress or self._forgotten) and work.written:
            self._alone = self._ripe = True
        elif self._progress or self._forgotten:
            self._linger(RETRY_S)

    def _refuse(self, appends: Sequence[Append], flushed: Sequence[asyncio.Future[None]], reason: Reason, message: str) -> None:
        for waiting in appends:
            self._queued -= waiting.size
            if reason is not Reason.UNKNOWN_OUTCOME:
                waiting.settle(written=False)
            if not waiting.done.done():
                waiting.done.set_exception(BackendError(reason, message))
        for done in flushed:
            if not done.done():
                done.set_exception(BackendError(reason, message))

    def stop(self, reason: str) -> None:
        """Take nothing any more, for the reason given; what was not handed over is refused."""
        self.broken = self.broken or reason
        self._refuse(self._pending, self._flushing, Reason.UNREACHABLE, self.broken)
        self._pending.clear()
        self._flushing = []
        self._progress.clear()
        self._forgotten.clear()
        self._ripe = False

    async def check(self) -> None:
        """Raise BackendError where nothing can be written now; finds out by writing where the latest attempt failed."""
        if self.broken is None and self.trouble is not None:
            try:
                await self._blocking(self._store.probe)
                self.trouble = None
            except StoreError as error:
                self._failed(Round(), error)
        if self.broken is not None or self.trouble is not None:
            raise BackendError(Reason.UNREACHABLE, self.broken or self.trouble or "")

    async def checkpoint(self) -> None:
        """Keep the write-ahead log short."""
        if not self._store.checkpoint_due:
            return
        try:
            await self._blocking(self._store.checkpoint)
        except StoreError as error:
            log.exception("the local log stops")
            self.stop(f"the local log cannot be written: {error}")
