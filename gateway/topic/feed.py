"""One reader a topic, whatever the number of callers that tail it.

A *feed* reads on from where it was opened and keeps the latest records in a bounded ring. A *follower* is one caller's place in
it: it pulls, so a slow caller holds no queue of its own, only a slice. One that has fallen out of the ring, or starts before
it, reads the log itself until it has caught up; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from gateway.errors import BackendError, CallerError, Reason
from gateway.port import Record
from gateway.task import Tasks
from gateway.topic.history import SLICE_BYTES, Batch, Kept
from gateway.topic.log import Log, Offsets

log = logging.getLogger("polygate")

RING_RECORDS = 4096
RING_BYTES = 16 << 20
FEEDS = 1000
BATCH = 256
BACKOFF_S = (0.1, 5.0)


class Feed:
    """The live end of one topic: `base` is the place before the ring's first record, `end` the place after its last."""

    def __init__(self, topic: str, source: Log, kept: Kept) -> None:
        self.topic = topic
        self.log = source
        self.kept = kept
        self.users = 0
        self.first = 0
        self.era = 0
        self.base: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self._ring: list[Record] = []
        # Bytes of all records ever added, up to each of the ring, and before its first.
        self._upto: list[int] = []
        self._before = 0
        self._changed: asyncio.Future[None] | None = None

    def start(self, at: Offsets) -> None:
        """Take the live end as the place to read on from."""
        self.base = dict(at)
        self.end = dict(at)

    def covers(self, at: Offsets) -> bool:
        """Whether all that comes after a place is in the ring or still to come."""
        return all(at.get(partition, 0) >= offset for partition, offset in self.base.items())

    def after(self, sequence: int) -> Sequence[Record]:
        """What one caller may hold of the records from a sequence number on, which is not before `first`."""
        at = sequence - self.first
        if at >= len(self._ring):
            return ()
        upto = self._upto
        start = upto[at - 1] if at else self._before
        end = bisect_right(upto, start + SLICE_BYTES, at, min(len(upto), at + BATCH))
        return self._ring[at : max(end, at + 1)]

    async def changed(self) -> None:
        """Wait for the next record."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def add(self, records: Sequence[Record], at: Offsets) -> None:
        """New records, in order per partition, and the place after them; wakes every follower that waits."""
        upto, total = self._upto, self._upto[-1] if self._upto else self._before
        for record in records:
            total += len(record.body)
            upto.append(total)
        self._ring += records
        self.end.update(at)
        # Cut to half when full: shifting a list costs by its length, so it must not happen for each record.
        if len(upto) > RING_RECORDS or total - self._before > RING_BYTES:
            self._cut(max(len(upto) - RING_RECORDS // 2, bisect_right(upto, total - RING_BYTES // 2)))
        self._wake()

    def _cut(self, count: int) -> None:
        """Let go of the oldest records."""
        for record in self._ring[:count]:
            self.base[record.partition] = record.offset + 1
        self._before = self._upto[count - 1]
        del self._ring[:count], self._upto[:count]
        self.first += count

    def restart(self, at: Offsets) -> None:
        """Read on from a later place, over a gap. Whoever stands before it finds that its place is gone, by reading the log."""
        # One more than the ring held, so that whoever has read all of it looks again as well.
        self.first += len(self._ring) + 1
        self._ring.clear()
        self._upto.clear()
        self.start({**self.end, **at})
        self._wake()

    def begin_anew(self, ends: Offsets) -> None:
        """The topic was made anew: places in the old one say nothing in this one, so all who followed that are told."""
        self.era += 1
        self.first += len(self._ring) + 1
        self._ring.clear()
        self._upto.clear()
        self.kept.forget(self.topic)
        self.start(ends)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def run(self) -> None:
        """Read until cancelled. While the topic cannot be read, its followers wait, and then go on where they stood."""
        pause = BACKOFF_S[0]
        while True:
            try:
                async with self.log.reading(self.topic, self.end) as reader:
                    while True:
                        records = await reader.read()
                        pause = BACKOFF_S[0]
                        if reader.at != self.end:
                            self.add(records, reader.at)
            except CallerError:
                await self._overtaken()
            except BackendError as error:
                log.warning("feed of %s waits %.1f s: %s", self.topic, pause, error.message)
            except Exception:
                log.exception("feed of %s waits %.1f s", self.topic, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S[1])

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


class Follower:
    """One caller's place in a feed. `at` is the place after what `read` has returned."""

    def __init__(self, feed: Feed, at: Offsets) -> None:
        self._feed = feed
        self._era = feed.era
        self._sequence: int | None = None
        self.at = dict(at)

    async def read(self) -> Sequence[Record]:
        """The next records; waits until there is one. May return none where only the place has moved."""
        feed = self._feed
        while True:
            if self._era != feed.era:
                raise gone(feed.topic)
            if self._sequence is not None and self._sequence < feed.first:
                self._sequence = None
            if self._sequence is None:
                if not feed.covers(self.at):
                    return await self._history()
                self._sequence = feed.first
            records = feed.after(self._sequence)
            if records:
                self._sequence += len(records)
                fresh = [record for record in records if record.offset >= self.at.get(record.partition, 0)]
                if fresh:
                    return self._moved(fresh)
            elif any(self.at.get(partition, 0) < offset for partition, offset in feed.end.items()):
                # The log's end moves without a record too: a transaction's marker has an offset.
                self.at = {**self.at, **{partition: max(self.at.get(partition, 0), end) for partition, end in feed.end.items()}}
                return ()
            else:
                await feed.changed()

    async def _history(self) -> Sequence[Record]:
        feed = self._feed
        batch = feed.kept.take(feed.topic, self.at)
        if batch is None:
            async with feed.log.reading(feed.topic, self.at) as reader:
                batch = Batch(await reader.read(), reader.at)
        records, rest = batch.cut()
        self._moved(records)
        if rest is not None:
            feed.kept.put(feed.topic, self.at, rest)
        else:
            self.at.update(batch.end)
        return records

    def _moved(self, records: Sequence[Record]) -> Sequence[Record]:
        for record in records:
            self.at[record.partition] = record.offset + 1
        return records


class Feeds:
    """The feeds of one log, each open while somebody follows it."""

    def __init__(self, source: Log) -> None:
        self._log = source
        self._feeds: dict[str, Feed] = {}
        self._kept = Kept()
        self._tasks = Tasks()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.__aexit__(*error)

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
        self._running[topic] = self._tasks.spawn(feed.run(), f"feed of {topic}")
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


def gone(topic: str) -> CallerError:
    """For a place that a topic no longer has: retention was faster, or the topic was made anew. Never skipped in silence."""
    return CallerError(Reason.INVALID, f"{topic} no longer holds the records after this cursor; start at earliest or latest")
