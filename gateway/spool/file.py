"""One file of the spool, open: a queue for each backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from gateway.embedded import Embedded, Settings
from gateway.spool.queue import Queue
from gateway.spool.record import WAITING, kept_for
from gateway.task import Tasks
from gateway.topic.log import Log

log = logging.getLogger("polygate")

MAX_RECORD_BYTES = 128 << 20
"""More than any listener takes."""


def settings(path: str) -> Settings:
    """The log that a file is."""
    return Settings(path, retention=None, max_record_bytes=MAX_RECORD_BYTES)


class File:
    """It forwards what it holds while entered."""

    def __init__(self, path: str, targets: Mapping[str, Log], max_age: float) -> None:
        self.path = path
        self._log = Embedded(settings(path))
        self.queues = {name: Queue(self._log, name, target, max_age) for name, target in targets.items()}
        self._stack = AsyncExitStack()
        self._touched = -1
        self._strange = 0

    async def __aenter__(self) -> Self:
        """Open it. BackendError(REFUSED) where it cannot be."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._log)
            tasks = await stack.enter_async_context(Tasks())
            for queue in self.queues.values():
                await queue.begin(tasks)
            await self.look()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    @property
    def bytes(self) -> int:
        """What waits in it or was set aside, about."""
        return self._strange + sum(queue.bytes + queue.aside for queue in self.queues.values())

    @property
    def broken(self) -> str | None:
        """Why it takes nothing any more."""
        return self._log.broken

    async def check(self) -> None:
        """Raise the BackendError that a record would be answered with now."""
        await self._log.check()

    async def look(self) -> None:
        """See what another process has changed: the commands of the spool let records go that were set aside."""
        touched = await self._log.touched()
        if touched == self._touched:
            return
        self._touched = touched
        for queue in self.queues.values():
            await queue.look()
        self._strange = 0
        for topic in self._log.topics():
            state, backend = kept_for(topic)
            if backend in self.queues:
                continue
            records, size = await self._log.weigh(topic)
            self._strange += size
            if records and state == WAITING:
                log.warning("spool: %d records in %s wait for %s, no backend of topics here", records, self.path, backend)

    async def leave(self, seconds: float) -> None:
        """Wait until nothing waits in it for a backend that takes records, but no longer than told."""
        try:
            async with asyncio.timeout(seconds):
                for queue in self.queues.values():
                    if not queue.away:
                        await queue.empty()
        except TimeoutError:
            log.info("spool: %d records wait in %s", sum(queue.records for queue in self.queues.values()), self.path)

    def remove(self) -> None:
        """Delete it once it is left: nothing is in it."""
        self._log.remove()
