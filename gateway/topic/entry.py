"""What the records of the gateway's state say, as a bounded map. No I/O here.

Nothing is decided but by the order of the records and the times that stand in them, so that all who read the topic come to the
same: of two claims the first has the key, whoever wrote it.

How long something is kept counts by its record's timestamp and by the clock of whoever asks. While clocks agree within a minute
nobody is given a key that another holds. One that is set forward ends what is kept earlier by as much; one set back, later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from gateway.errors import BackendError, Reason
from gateway.metric import Counter
from gateway.port import Record

GRACE_MS = 60_000
"""An entry is held for so long after its time, so that gateways whose clocks differ by less judge a claim alike."""
OVERHEAD = 300
LEAST = 1024
"""What an entry counts in bytes at the least, so that a receipt finds room where its claim was."""
SPARE = 8
"""One part in so many is for what is there and grows, as a question does by its answer: were new ones let into the last of the
room, they would take all that comes free, and nobody be answered any more.
"""
SLACK = 1000

KIND = "polygate-state"
SECONDS = "polygate-seconds"
OVER = "polygate-over"
"""The offset of the entry that a claim or a drop is for."""
BY = "polygate-by"
"""Which claim it is: for its writer, to know it where it is met."""
PUT, CLAIM, DROP = "put", "claim", "drop"

_FULL = Counter("polygate_state_full", "Things that were not kept, since too much is kept already.")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key has. `until` is in milliseconds since 1970."""

    value: bytes
    offset: int
    until: float
    size: int


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a record."""

    key: str
    by: str | None
    taken: bool
    there: bytes | None
    """Of a claim that came too late: what the key has."""


class Entries:
    """The map. Sizes are in bytes."""

    def __init__(self, max_bytes: int, clock: Callable[[], float]) -> None:
        """`clock`: seconds since 1970."""
        self._max_bytes = max_bytes
        self._clock = clock
        self._held: dict[str, Entry] = {}
        self._due: list[tuple[float, int, str]] = []
        self._reserved = 0
        self.size = 0
        self.dead: list[int] = []
        """Offsets of records that say nothing any more."""

    def __len__(self) -> int:
        return len(self._held)

    def live(self, key: str) -> Entry | None:
        """What a key has whose time is not over."""
        entry = self._held.get(key)
        return entry if entry is not None and entry.until > self._clock() * 1000 else None

    def under(self, prefix: str) -> dict[str, bytes]:
        """Every key that begins so and whose time is not over, with its value."""
        now = self._clock() * 1000
        return {key: entry.value for key, entry in self._held.items() if key.startswith(prefix) and entry.until > now}

    def left(self, entry: Entry) -> float:
        """For how many seconds an entry lives yet."""
        return max(0.0, entry.until / 1000 - self._clock())

    @contextmanager
    def room(self, key: str, value: bytes) -> Iterator[None]:
        """Room for a value while its record is on its way. BackendError(OVERLOADED) where there is none."""
        entry = self._held.get(key)
        more = max(0, _size(key, value) - (0 if entry is None else entry.size))
        most = self._max_bytes - (self._max_bytes // SPARE if entry is None else 0)
        if more and self.size + self._reserved + more > most:
            _FULL.add()
            raise BackendError(Reason.OVERLOADED, "too much is kept already")
        self._reserved += more
        try:
            yield
        finally:
            self._reserved -= more

    def apply(self, record: Record) -> Told | None:
        """Take in one record; None for one that is not of the state."""
        headers = record.headers
        kind, over = headers.get(KIND), headers.get(OVER)
        if kind not in {PUT, CLAIM, DROP} or record.key is None:
            return None
        key = record.key.decode()
        entry = self._held.get(key)
        same = entry is not None and over == str(entry.offset)
        free = entry is None or entry.until <= record.timestamp
        taken = same or free if kind == CLAIM else same or over is None
        if taken:
            self._remove(key)
        if taken and kind != DROP:
            self._enter(key, record)
        else:
            self.dead.append(record.offset)
        return Told(key, headers.get(BY), taken, None if taken or entry is None else entry.value)

    def _enter(self, key: str, record: Record) -> None:
        until = record.timestamp + float(record.headers.get(SECONDS) or 0) * 1000
        entry = self._held[key] = Entry(record.body, record.offset, until, _size(key, record.body))
        self.size += entry.size
        heappush(self._due, (until + GRACE_MS, entry.offset, key))
        if len(self._due) > 2 * len(self._held) + SLACK:  # most are of entries that others have taken the place of
            self._due = [(one.until + GRACE_MS, one.offset, name) for name, one in self._held.items()]
            heapify(self._due)

    def _remove(self, key: str) -> None:
        entry = self._held.pop(key, None)
        if entry is not None:
            self.size -= entry.size
            self.dead.append(entry.offset)

    def sweep(self) -> None:
        """Let go of what has been over for long enough."""
        now = self._clock() * 1000
        while self._due and self._due[0][0] <= now:
            _, offset, key = heappop(self._due)
            entry = self._held.get(key)
            if entry is not None and entry.offset == offset:
                self._remove(key)

    def clear(self) -> None:
        """Forget it all."""
        self._held.clear()
        self._due.clear()
        self.dead.clear()
        self.size = 0


def _size(key: str, value: bytes) -> int:
    return max(LEAST, len(key) + len(value) + OVERHEAD)
