"""The latest records of a topic in memory, bounded in number and in bytes, and numbered on without end (*sequence*)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from gateway.message import value
from gateway.port import Record
from gateway.topic.history import SLICE_BYTES

RING_RECORDS = 4096
RING_BYTES = 16 << 20
BATCH = 256


@value
class Lag:
    """How far a place is behind the live end: in records, in bytes of bodies, and in seconds since the first of them came."""

    records: int
    bytes: int
    seconds: float


class Ring:
    """The records, and what is known of each: when it came, and how many bytes had come with it."""

    def __init__(self) -> None:
        self.first = 0
        """The sequence number of the first record."""
        self.total = 0
        """Bytes of all records that ever came."""
        self._records: list[Record] = []
        self._upto: list[int] = []
        self._before = 0
        self._came: list[float] = []
        self._latest: dict[bytes, int] | None = None

    def __len__(self) -> int:
        return len(self._records)

    @property
    def end(self) -> int:
        """The sequence number of the next record."""
        return self.first + len(self._records)

    def add(self, records: Sequence[Record], now: float) -> Sequence[Record]:
        """New records. Returns those that are let go of for them, the oldest."""
        if self._latest is not None:
            self._index(self._latest, records, self.end)
        upto, total = self._upto, self.total
        for record in records:
            total += len(record.body)
            upto.append(total)
        self.total = total
        self._records += records
        self._came += [now] * len(records)
        # Cut to half when full: shifting a list costs by its length, so it must not happen for each record.
        if len(upto) > RING_RECORDS or total - self._before > RING_BYTES:
            return self._cut(max(len(upto) - RING_RECORDS // 2, bisect_right(upto, total - RING_BYTES // 2)))
        return ()

    def _cut(self, count: int) -> Sequence[Record]:
        gone = self._records[:count]
        self._before = self._upto[count - 1]
        del self._records[:count], self._upto[:count], self._came[:count]
        self.first += count
        latest = self._latest
        if latest is not None:
            for record in gone:
                if record.key is not None and latest.get(record.key, self.first) < self.first:
                    del latest[record.key]
        return gone

    def clear(self) -> None:
        """Hold nothing. One more than was held is passed, so that whoever has read all of it looks again as well."""
        self.first = self.end + 1
        for held in (self._records, self._upto, self._came):
            held.clear()
        self._before = self.total
        self._latest = None

    def after(self, sequence: int) -> Sequence[Record]:
        """What one caller may hold of the records from a sequence number on, which is not before `first`."""
        at = sequence - self.first
        if at >= len(self._records):
            return ()
        upto = self._upto
        start = upto[at - 1] if at else self._before
        end = bisect_right(upto, start + SLICE_BYTES, at, min(len(upto), at + BATCH))
        return self._records[at : max(end, at + 1)]

    def upto(self, sequence: int) -> int:
        """Bytes of all records that came before one."""
        at = sequence - self.first
        return self._upto[at - 1] if at else self._before

    def lag(self, sequence: int, now: float) -> Lag:
        """How far a sequence number is behind."""
        at = sequence - self.first
        if at >= len(self._records):
            return Lag(0, 0, 0.0)
        return Lag(len(self._records) - at, self.total - self.upto(sequence), now - self._came[at])

    def within(self, lag: Lag, now: float) -> int:
        """The first sequence number that is not further behind than so much."""
        held = len(self._records)
        by_bytes = bisect_left([self._before, *self._upto], self.total - lag.bytes)
        by_time = bisect_left(self._came, now - lag.seconds)
        return self.first + min(held, max(0, held - lag.records, by_bytes, by_time))

    def span(self, start: int, end: int) -> Sequence[Record]:
        """The records from one sequence number up to another, as far as they are held."""
        return self._records[max(0, start - self.first) : max(0, end - self.first)]

    def superseded(self, record: Record) -> bool:
        """Whether a newer record of the same key is held. One without a key has none."""
        if record.key is None:
            return False
        if self._latest is None:
            # From now on it is kept up to date with every record.
            self._latest = {}
            self._index(self._latest, self._records, self.first)
        sequence = self._latest.get(record.key)
        if sequence is None:
            return False
        newest = self._records[sequence - self.first]
        return newest.partition == record.partition and newest.offset > record.offset

    @staticmethod
    def _index(latest: dict[bytes, int], records: Sequence[Record], sequence: int) -> None:
        for number, record in enumerate(records, sequence):
            if record.key is not None:
                latest[record.key] = number
