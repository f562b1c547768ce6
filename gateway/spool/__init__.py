"""The spool: records that were acknowledged with `stored` wait in a file of the gateway's own until their broker has them.

Every process has a file that it writes to: the first of `spool.db`, `spool.1.db`, ... that no other has. What a process leaves
behind that does not come back is forwarded by another, which then deletes the file. So any number of workers, and a gateway that
takes the place of another that still drains, need not know of each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

from gateway.embedded.fault import StoreError
from gateway.errors import BackendError, CallerError, GatewayError, Reason, RetryAfter
from gateway.exchange import new_id
from gateway.file import SpoolConfig
from gateway.message import Message
from gateway.metric import Counter, Gauge
from gateway.spool.file import File
from gateway.spool.older import Older, left, older
from gateway.spool.path import existing, first_free, in_use
from gateway.spool.queue import Queue
from gateway.spool.record import Stored
from gateway.task import Tasks
from gateway.topic.log import Log

log = logging.getLogger("polygate")

STORED = Counter("polygate_spool_stored", "Records that were stored in the spool.", "backend")
RECORDS = Gauge("polygate_spool_records", "Records that wait in the spool for their backend.", "backend")
BYTES = Gauge("polygate_spool_bytes", "About how many bytes the records that wait in the spool take.", "backend")
OLDEST = Gauge("polygate_spool_oldest_seconds", "The age of the oldest record that waits in the spool, in seconds.", "backend")
ASIDE = Gauge("polygate_spool_aside_bytes", "About how many bytes of records were set aside.", "backend")
BROKEN = Gauge("polygate_spool_broken", "1 once the disk has failed: the spool takes nothing until the gateway is started anew.")

LOOK_S = 5.0
LEAVE_S = 2.0
TURN_S = 0.2
FULL_S = 5.0
# How many files one process has open: each has two threads.
MOST_OPEN = 16


class Spools:
    """The spools of a process's backends. Enter it once these are; leave it before they are."""

    def __init__(self, config: SpoolConfig, targets: Mapping[str, Log]) -> None:
        """`targets`: every backend that records may go to."""
        self._config = config
        self._path = str(Path(config.path).absolute())
        self._targets = targets
        self._files: list[File] = []
        self._given: dict[str, BackendSpool] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open a file of our own. BackendError(REFUSED) where none can be."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            await first_free(self._path, self._open)
            stack.push_async_callback(self._leave)
            self._watch(stack)
            tasks = await stack.enter_async_context(Tasks())
            tasks.spawn(self._look(), "spools of others")
            await self._queue_up(tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def of(self, backend: str) -> BackendSpool:
        """The spool of a backend."""
        return self._given.setdefault(backend, BackendSpool(self, backend, self._files[0].queues[backend]))

    def admit(self, size: int) -> None:
        """Refuse a record that there is no room for."""
        if size > self._config.max_bytes:
            raise CallerError(Reason.TOO_LARGE, f"the spool holds {self._config.max_bytes} bytes at most")
        if self._used() + size > self._config.max_bytes:
            raise BackendError(Reason.OVERLOADED, "the spool is full", details=(RetryAfter(FULL_S),))

    def _used(self) -> int:
        return sum(file.bytes for file in self._files)

    async def check(self) -> None:
        """Raise BackendError where nothing can be stored now, for the disk fails. That it is full is no reason: it is the
        backends then that are not ready.
        """
        await self._files[0].check()

    async def _open(self, path: str) -> None:
        """Open a file and begin to forward what it holds."""
        file = File(path, self._targets, self._config.max_age)
        await file.__aenter__()
        self._files.append(file)

    async def _queue_up(self, tasks: Tasks) -> None:
        """Go behind what waits in other files."""
        own = self._files[0]
        try:
            before = await asyncio.to_thread(older, self._path, own.path)
        except StoreError as error:
            raise BackendError(Reason.REFUSED, str(error)) from error
        for name, queue in own.queues.items():
            if mine := [one for one in before if one.backend == name]:
                log.info("spool: records for %s go behind those in %s", name, ", ".join(one.file for one in mine))
                queue.hold()
                tasks.spawn(self._release(queue, mine), f"records for {name} in other files")

    async def _release(self, queue: Queue, before: Sequence[Older]) -> None:
        while before:
            await asyncio.sleep(TURN_S)
            try:
                before = await asyncio.to_thread(left, before)
            except StoreError as error:
                log.warning("spool: %s", error)
        queue.release()

    async def _look(self) -> None:
        """Now and then: take over what others left behind, delete what is empty by then, see what was taken from outside."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._seen()
            except (GatewayError, StoreError) as error:
                log.warning("spool: %s", error)

    async def _seen(self) -> None:
        for file in self._files:
            await file.look()
        for file in [file for file in self._files[1:] if not file.bytes]:
            self._files.remove(file)
            file.remove()
            await file.__aexit__()
        ours = {file.path for file in self._files}
        for path in existing(self._path):
            if path in ours or len(self._files) == MOST_OPEN:
                continue
            try:
                await self._open(path)
            except BackendError as error:
                # One that cannot be read is left to the operator, and is no reason to leave the others behind.
                if not in_use(error):
                    log.warning("spool: %s cannot be taken over: %s", path, error.message)
            else:
                log.info("spool: taking over %s", path)

    def _watch(self, stack: AsyncExitStack) -> None:
        def watch(gauge: Gauge, told: Callable[[Iterable[float]], float], what: Callable[[Queue], float]) -> None:
            for name in self._targets:
                stack.callback(gauge.watch(partial(self._told, told, what, name), name))

        watch(RECORDS, sum, lambda queue: queue.records)
        watch(BYTES, sum, lambda queue: queue.bytes)
        watch(ASIDE, sum, lambda queue: queue.aside)
        watch(OLDEST, max, lambda queue: queue.oldest)
        stack.callback(BROKEN.watch(lambda: float(any(file.broken is not None for file in self._files))))

    def _told(self, told: Callable[[Iterable[float]], float], what: Callable[[Queue], float], backend: str) -> float:
        return told([what(file.queues[backend]) for file in self._files])

    async def _leave(self) -> None:
        await asyncio.gather(*(file.leave(LEAVE_S) for file in self._files))

    async def _close(self) -> None:
        for file in self._files:
            await file.__aexit__()


class BackendSpool:
    """See `gateway.target.Spool`."""

    def __init__(self, spools: Spools, backend: str, queue: Queue) -> None:
        self._spools = spools
        self._backend = backend
        self._queue = queue

    async def put(self, topic: str, message: Message, deadline: float, *, partition: int | None = None) -> str:
        record = Stored(new_id(), topic, partition, message)
        size = record.size
        self._spools.admit(size)
        await self._queue.put(record, size, deadline)
        STORED.add(1, self._backend)
        return record.id

    def holds(self, topic: str, message: Message, *, partition: int | None = None) -> bool:
        return self._queue.holds(Stored("", topic, partition, message))

    @property
    def waits(self) -> bool:
        return self._queue.waits
