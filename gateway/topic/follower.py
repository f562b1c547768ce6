"""A *follower* is one caller's place in a feed. It pulls, so a slow caller holds no queue of its own, only a slice. One that has
fallen out of the feed's ring, or starts before it, reads the log itself until it has caught up; nothing is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.errors import CallerError, Reason
from gateway.port import Record
from gateway.topic.feed import Feed
from gateway.topic.gap import between
from gateway.topic.history import Batch
from gateway.topic.log import Offsets
from gateway.topic.opening import forward
from gateway.topic.ring import Lag


class Follower:
    """One caller's place in a feed. `at` is the place after what `read` has returned."""

    def __init__(self, feed: Feed, at: Offsets) -> None:
        self.feed = feed
        self._era = feed.era
        self._sequence: int | None = None
        self._passed: int | None = None
        """Bytes of the feed's records up to its place, once it has been at the live end."""
        self._fell = 0.0
        """When it was first seen to have fallen out of what is held in memory."""
        self.at = dict(at)
        feed.look(at)

    async def read(self) -> Sequence[Record]:
        """The next records; waits until there is one. May return none where only the place has moved."""
        feed = self.feed
        ring = feed.ring
        while True:
            self._look()
            if self._sequence is None:
                if not feed.covers(self.at):
                    return await self._history()
                self._sequence = ring.first
            records = ring.after(self._sequence)
            if records:
                self._sequence += len(records)
                if self._passed is not None:
                    self._passed = ring.upto(self._sequence)
                fresh = [record for record in records if record.offset >= self.at.get(record.partition, 0)]
                if fresh:
                    return self._moved(fresh)
            elif any(self.at.get(partition, 0) < offset for partition, offset in feed.end.items()):
                # The log's end moves without a record too: a transaction's marker has an offset.
                self.at = {**self.at, **{partition: max(self.at.get(partition, 0), end) for partition, end in feed.end.items()}}
                return ()
            else:
                self._passed = ring.total
                await feed.changed()

    def _look(self) -> None:
        """See what has become of the feed since."""
        feed = self.feed
        if self._era != feed.era:
            raise _remade(feed.topic)
        if feed.added:
            self.at = {**feed.added, **self.at}
        if self._sequence is not None and self._sequence < feed.ring.first:
            self._fall()

    def _fall(self) -> None:
        self._sequence = None
        self._fell = asyncio.get_running_loop().time()

    async def _history(self) -> Sequence[Record]:
        feed = self.feed
        batch = feed.kept.take(feed.topic, self.at)
        if batch is None:
            async with feed.log.reading(feed.topic, self.at) as reader:
                batch = Batch(await reader.read(), reader.at)
        records, rest = batch.cut()
        self._moved(records)
        if self._passed is not None:
            self._passed += sum(len(record.body) for record in records)
        if rest is not None:
            feed.kept.put(feed.topic, self.at, rest)
        else:
            self.at.update(batch.end)
        return records

    def _moved(self, records: Sequence[Record]) -> Sequence[Record]:
        for record in records:
            self.at[record.partition] = record.offset + 1
        return records

    def lag(self) -> Lag | None:
        """How far it is behind the live end; None for one that has never been there: it reads the past, and is not slow.

        Out of what is held in memory, the seconds count from when that was first seen.
        """
        if self._passed is None:
            return None
        ring, now = self.feed.ring, asyncio.get_running_loop().time()
        if self._sequence is not None and self._sequence < ring.first:
            self._fall()
        if self._sequence is not None:
            return ring.lag(self._sequence, now)
        return Lag(between(self.at, self.feed.end), max(0, ring.total - self._passed), now - self._fell)

    def skip(self, lag: Lag) -> None:
        """Go on where it is no further behind than so much, and at the most by what is held in memory."""
        feed = self.feed
        sequence = feed.ring.within(lag, asyncio.get_running_loop().time())
        start = self._sequence
        if start is None or start < feed.ring.first:
            start = feed.ring.first
            self.at = forward(self.at, feed.base)
        if sequence > start:
            for record in feed.ring.span(start, sequence):
                self.at[record.partition] = max(self.at.get(record.partition, 0), record.offset + 1)
        self._sequence = max(start, sequence)
        self._passed = feed.ring.upto(self._sequence)

    def go(self, at: Offsets) -> None:
        """Go on at another place."""
        self.at = dict(at)
        self._sequence = None


def _remade(topic: str) -> CallerError:
    """For a place in a topic that was made anew."""
    return CallerError(Reason.INVALID, f"{topic} was made anew, and this cursor is of the old one; start at earliest or latest")
