"""What was read of a log's past and not yet sent, kept for whoever goes on from there, up to a bound that all share.

A log is read in batches as large as it likes to give, but a caller holds a slice of one only: a thousand callers that stop
reading would otherwise hold a thousand batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.port import Record
from gateway.topic.log import Offsets

SLICE_BYTES = 64 << 10
"""What one caller holds at a time, or one record where that is larger."""
KEPT_BYTES = 32 << 20

_Place = tuple[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of a topic, and the place after them."""

    records: Sequence[Record]
    end: Offsets

    def cut(self) -> tuple[Sequence[Record], Batch | None]:
        """A slice for one caller, and what is left of the batch after it."""
        size = 0
        for count, record in enumerate(self.records):
            size += len(record.body)
            if count and size > SLICE_BYTES:
                return self.records[:count], Batch(self.records[count:], self.end)
        return self.records, None


class Kept:
    """The rests of batches, by the place that they start at. When there are too many, the ones that nobody asked for go first."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._batches: OrderedDict[_Place, tuple[Batch, int]] = OrderedDict()
        self.size = 0

    def put(self, topic: str, at: Offsets, batch: Batch) -> None:
        """Keep a rest; a no-op where there is one for this place already."""
        place = _place(topic, at)
        if place in self._batches:
            return
        size = sum(len(record.body) for record in batch.records)
        self._batches[place] = (batch, size)
        self.size += size
        while self.size > self._limit:
            _, (_, gone) = self._batches.popitem(last=False)
            self.size -= gone

    def take(self, topic: str, at: Offsets) -> Batch | None:
        """The rest that starts at a place; it is then the caller's."""
        found = self._batches.pop(_place(topic, at), None)
        if found is None:
            return None
        batch, size = found
        self.size -= size
        return batch

    def forget(self, topic: str) -> None:
        """Keep nothing of a topic: it was made anew."""
        for place in [place for place in self._batches if place[0] == topic]:
            _, size = self._batches.pop(place)
            self.size -= size


def _place(topic: str, at: Offsets) -> _Place:
    return topic, tuple(sorted(at.items()))
