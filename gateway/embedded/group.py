"""Consumer groups: every partition of a subscription is read by a task of its own, as far ahead as it may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from gateway.backoff import Backoff
from gateway.delivery import DROPPED, LAG, Delivery
from gateway.embedded.commits import Commits
from gateway.embedded.log import LocalLog
from gateway.embedded.topic import Partition
from gateway.errors import BackendError, GatewayError, Reason
from gateway.port import Deliver, Subscription
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
            consumers = [self._begun(subscription, partition, known.get(partition.id), deliver) for partition in partitions]
            try:
                async with Tasks() as reading:
                    for consumer in consumers:
                        reading.spawn(consumer.run(), f"{group} on {consumer.name}")
                    yield
            finally:
                await self._left(consumers)
        finally:
            self._claimed -= claims

    def _begun(self, subscription: Subscription, partition: Partition, at: int | None, deliver: Deliver) -> _Consumer:
        if at is None:
            at = partition.start
            if subscription.start == "latest":
                at = partition.next
                # Noted at once: what comes before the first delivery is not lost to a restart.
                self._commits.progress(subscription.group, partition, at)
        return _Consumer(self._log, self._commits, subscription, partition, min(at, partition.next), deliver)

    async def _left(self, consumers: Sequence[_Consumer]) -> None:
        await asyncio.gather(*(consumer.leave() for consumer in consumers))
        try:
            await self._commits.flush()
        except GatewayError as error:
            log.warning("what was delivered last may be delivered again: %s", error.message)


class _Consumer:
    """One partition for one group."""

    def __init__(
        self, source: LocalLog, commits: Commits, subscription: Subscription, partition: Partition, at: int, deliver: Deliver
    ) -> None:
        self._log = source
        self._partition = partition
        self._listener = subscription.listener
        self._at = at
        self.name = f"{partition.topic.name}/{partition.number}"
        self._noted = at
        self._note = partial(commits.progress, subscription.group, partition)
        self._delivery = Delivery(subscription, deliver, self.name, self._progress)
        self._unwatch = LAG.watch(self._lag, subscription.listener, partition.topic.name, str(partition.number))

    def _progress(self) -> None:
        if self._delivery.at != self._noted:
            self._noted = self._delivery.at
            self._note(self._noted)

    def _lag(self) -> int:
        first = self._delivery.first
        return self._partition.next - (self._at if first is None else first)

    async def run(self) -> None:
        """Read until cancelled. What cannot be read now is tried again, more and more slowly."""
        backoff = Backoff(BACKOFF_S)
        while True:
            at = self._at
            try:
                await self._follow()
            except Exception as error:
                if self._at < self._partition.start:
                    DROPPED.add(self._partition.start - self._at, self._listener, self._partition.topic.name)
                    log.warning("%s: %d to %d were dropped undelivered", self.name, self._at, self._partition.start - 1)
                    self._at = self._partition.start
                    continue
                if at != self._at:
                    backoff.reset()
                log.warning("%s: %d is read again in %.1f s", self.name, self._at, backoff.seconds, exc_info=error)
                await backoff.wait()

    async def _follow(self) -> None:
        number = self._partition.number
        async with self._log.reading(self._partition.topic.name, {number: self._at}) as reader:
            while True:
                await self._delivery.room()
                self._delivery.take(await reader.read())
                self._at = reader.at[number]

    async def leave(self) -> None:
        """Deliver nothing more, and wait for what is being tried."""
        try:
            await self._delivery.leave(None)
        finally:
            self._unwatch()
