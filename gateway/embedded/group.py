"""Consumer groups: every partition of a subscription by a task of its own, its records one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from gateway.embedded.commits import Commits
from gateway.embedded.log import LocalLog
from gateway.embedded.topic import Partition
from gateway.errors import BackendError, GatewayError, Reason
from gateway.port import Deliver, Record, Subscription
from gateway.task import Tasks

log = logging.getLogger("polygate")

BACKOFF_S = (0.1, 5.0)

Progress = Callable[[str], Awaitable[dict[int, int]]]
"""Where a group goes on, by partition's id."""


class Groups:
    """Which group consumes which topic here. A topic has one consumer a group: there is one process."""

    def __init__(self, source: LocalLog, commits: Commits, progress: Progress) -> None:
        self._log = source
        self._commits = commits
        self._progress = progress
        self._claimed: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def consuming(self, subscription: Subscription, deliver: Deliver) -> AsyncIterator[None]:
        """See `Source.consuming`."""
        group = subscription.group
        claims = {(group, topic) for topic in subscription.topics}
        for _, topic in sorted(claims & self._claimed):
            raise BackendError(Reason.REFUSED, f"the group {group} consumes {topic} already")
        partitions = [partition for _, topic in sorted(claims) for partition in self._log.make(topic).partitions]
        self._claimed |= claims
        try:
            known = await self._progress(group)
            async with Tasks() as tasks:
                consumers = [self._begun(subscription, partition, known.get(partition.id), deliver) for partition in partitions]
                running = [tasks.spawn(consumer.run(), f"{group} on {consumer.name}") for consumer in consumers]
                try:
                    yield
                finally:
                    await self._left(consumers, running)
        finally:
            self._claimed -= claims

    def _begun(self, subscription: Subscription, partition: Partition, at: int | None, deliver: Deliver) -> _Consumer:
        if at is None:
            at = partition.start
            if subscription.start == "latest":
                at = partition.next
                # Noted at once: what comes before the first delivery is not lost to a restart.
                self._commits.progress(subscription.group, partition, at)
        return _Consumer(self._log, self._commits, subscription.group, partition, min(at, partition.next), deliver)

    async def _left(self, consumers: Sequence[_Consumer], running: Sequence[asyncio.Task[None]]) -> None:
        for consumer, task in zip(consumers, running, strict=True):
            consumer.leaving = True
            if not consumer.delivering:
                task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        try:
            await self._commits.flush()
        except GatewayError as error:
            log.warning("what was delivered last may be delivered again: %s", error.message)


class _Consumer:
    """One partition for one group."""

    def __init__(self, source: LocalLog, commits: Commits, group: str, partition: Partition, at: int, deliver: Deliver) -> None:
        self._log = source
        self._commits = commits
        self._group = group
        self._partition = partition
        self._at = at
        self._deliver = deliver
        self.name = f"{partition.topic.name}/{partition.number}"
        self.leaving = False
        self.delivering = False

    async def run(self) -> None:
        """Deliver until told to leave. What cannot be read or delivered now is tried again, more and more slowly."""
        tries = 0
        while not self.leaving:
            at = self._at
            try:
                await self._follow()
            except Exception as error:
                if self._at < self._partition.start:
                    log.warning("%s: %d to %d were dropped undelivered", self.name, self._at, self._partition.start - 1)
                    self._at = self._partition.start
                    continue
                tries = tries + 1 if at == self._at else 1
                pause = min(BACKOFF_S[0] * 2 ** (tries - 1), BACKOFF_S[1])
                log.warning("%s: %d is delivered again in %.1f s", self.name, self._at, pause, exc_info=error)
                await asyncio.sleep(pause)

    async def _follow(self) -> None:
        async with self._log.reading(self._partition.topic.name, {self._partition.number: self._at}) as reader:
            while not self.leaving:
                for record in await reader.read():
                    if self.leaving:
                        return
                    await self._delivered(record)

    async def _delivered(self, record: Record) -> None:
        self.delivering = True
        try:
            await self._deliver(record)
        finally:
            self.delivering = False
        self._at = record.offset + 1
        self._commits.progress(self._group, self._partition, self._at)
