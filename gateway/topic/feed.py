"""One reader a topic, whatever the number of callers that tail it: a *feed* reads on from where it was opened, and keeps the
latest records in a bounded ring. Each caller is a follower of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from gateway.backoff import Backoff
from gateway.errors import BackendError, CallerError, Reason
from gateway.port import Record
from gateway.task import Tasks
from gateway.topic.history import Kept
from gateway.topic.log import Log, Offsets
from gateway.topic.ring import Ring
from gateway.topic.slow import Watch

log = logging.getLogger("polygate")

FEEDS = 1000
BACKOFF_S = (0.1, 5.0)
WIDER_S = 30.0
"""How often a feed looks whether its topic has more partitions than before."""


class Feed:
    """The live end of one topic: `base` is the place before the ring's first record, `end` the place after its last."""

    def __init__(self, topic: str, source: Log, kept: Kept) -> None:
        self.topic = topic
        self.log = source
        self.kept = kept
        self.users = 0
        self.era = 0
        self.base: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.added: dict[int, int] = {}
        """Where partitions begin that the topic did not have when the feed was opened."""
        self.ring = Ring()
        self._loop = asyncio.get_running_loop()
        self._look = self._loop.time() + WIDER_S
        self._waiting: list[asyncio.Future[None]] = []

    def start(self, at: Offsets) -> None:
        """Take the live end as the place to read on from."""
        self.base = dict(at)
        self.end = dict(at)

    def covers(self, at: Offsets) -> bool:
        """Whether all that comes after a place is in the ring or still to come."""
        return all(at.get(partition, 0) >= offset for partition, offset in self.base.items())

    async def changed(self) -> None:
        """Wait for the next record."""
        # A future for each: to share one, each would have to shield it, which costs two more.
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def add(self, records: Sequence[Record], at: Offsets) -> None:
        """New records, in order per partition, and the place after them; wakes every follower that waits."""
        self.end.update(at)
        for record in self.ring.add(records, self._loop.time()):
            self.base[record.partition] = record.offset + 1
        self._wake()

    def restart(self, at: Offsets) -> None:
        """Read on from a later place, over a gap. Whoever stands before it finds that its place is gone, by reading the log."""
        self.ring.clear()
        self._begin({partition: offset for partition, offset in at.items() if partition not in self.end})
        self.start({**self.end, **at})
        self._wake()

    def begin_anew(self, ends: Offsets) -> None:
        """The topic was made anew: places in the old one say nothing in this one, so all who followed that are told."""
        self.era += 1
        self.ring.clear()
        self.added.clear()
        self.kept.forget(self.topic)
        self.start(ends)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():  # else its follower has left
                one.set_result(None)

    async def run(self) -> None:
        """Read until cancelled. While the topic cannot be read, its followers wait, and then go on where they stood."""
        backoff = Backoff(BACKOFF_S)
        while True:
            try:
                async with self.log.reading(self.topic, self.end) as reader:
                    while not await self._widened():
                        records = await reader.read()
                        backoff.reset()
                        if reader.at != self.end:
                            self.add(records, reader.at)
                continue
            except CallerError:
                await self._overtaken()
            except BackendError as error:
                log.warning("feed of %s waits %.1f s: %s", self.topic, backoff.seconds, error.message)
            except Exception:
                log.exception("feed of %s waits %.1f s", self.topic, backoff.seconds)
            await backoff.wait()

    async def _widened(self) -> bool:
        """Whether the topic has more partitions than are read: from now on those are too, from their start."""
        if self._loop.time() < self._look:
            return False
        starts = await self.log.starts(self.topic)
        self._look = self._loop.time() + WIDER_S
        added = {partition: start for partition, start in starts.items() if partition not in self.end}
        self._begin(added)
        return bool(added)

    def _begin(self, added: Offsets) -> None:
        """Read partitions that the topic did not have before."""
        if added:
            log.info("feed of %s: partitions were added to the topic: %d", self.topic, len(added))
        for places in (self.added, self.base, self.end):
            places.update(added)

    def look(self, at: Offsets) -> None:
        """Look at once, where a place has partitions that are not read."""
        if not at.keys() <= self.end.keys():
            self._look = self._loop.time()

    async def _overtaken(self) -> None:
        """Retention was faster than our reading: go on with what is left. Or the log does not reach our place any more."""
        try:
            starts, ends = await self.log.starts(self.topic), await self.log.ends(self.topic)
        except BackendError as error:
            log.warning("feed of %s: %s", self.topic, error.message)
            return
        if any(offset > ends.get(partition, 0) for partition, offset in self.end.items()):
            log.warning("feed of %s: the topic ends before its reader's place, so it was made anew", self.topic)
            self.begin_anew(ends)
            return
        log.warning("feed of %s: retention has overtaken its reader", self.topic)
        self.restart({partition: max(start, self.end.get(partition, 0)) for partition, start in starts.items()})


class Feeds:
    """The feeds of one log, each open while somebody follows it."""

    def __init__(self, source: Log) -> None:
        self._log = source
        self._feeds: dict[str, Feed] = {}
        self._kept = Kept()
        self.tasks = Tasks()
        """What goes on as long as the log is connected."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self.watch = Watch(self.tasks)

    async def __aenter__(self) -> Self:
        await self.tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.tasks.__aexit__(*error)

    @property
    def open(self) -> int:
        """How many topics are read now."""
        return len(self._feeds)

    def _opened(self, topic: str, ends: Offsets) -> Feed:
        if len(self._feeds) >= FEEDS:
            raise BackendError(Reason.OVERLOADED, "too many topics are tailed at once")
        feed = Feed(topic, self._log, self._kept)
        feed.start(ends)
        self._feeds[topic] = feed
        self._running[topic] = self.tasks.spawn(feed.run(), f"feed of {topic}")
        return feed

    @asynccontextmanager
    async def following(self, topic: str) -> AsyncIterator[Feed]:
        """The feed of a topic, reading. BackendError where the topic is not there or cannot be asked."""
        feed = self._feeds.get(topic)
        if feed is None:
            ends = await self._log.ends(topic)
            # Another caller may have opened it while we asked.
            feed = self._feeds.get(topic) or self._opened(topic, ends)
        feed.users += 1
        try:
            yield feed
        finally:
            feed.users -= 1
            if feed.users == 0:
                del self._feeds[topic]
                self._running.pop(topic).cancel()
