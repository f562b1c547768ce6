"""Our own queue in front of each partition of Kafka: a record can be withdrawn from it until it is handed over to the wire."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.partitioner import murmur2

from adapters.backend.kafka.record import headers_to, size_of
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.topic.log import Place

if TYPE_CHECKING:
    from adapters.backend.kafka.batch import Batch

SHORT_KEY = 64
# How many bytes one route may send before it is the next one's turn.
QUANTUM = 16 << 10
# A route may hold so many times what it leaves free: alone four fifths of all, and there is always room for another.
# Source: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches" (1998).
SHARE = 4
FEW = 64
ALL = 1 << 30
_POSITIVE = 0x7FFFFFFF

_hash_of_short = lru_cache(4096)(murmur2)


def chosen_by(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own default partitioner chooses it."""
    return int((_hash_of_short(key) if len(key) <= SHORT_KEY else murmur2(key)) & _POSITIVE) % partitions


def milliseconds() -> int:
    """The time that a record is of: our own to the millisecond, since 1970."""
    return int(time.time() * 1000)


class Identity(NamedTuple):
    """Who numbers the records of a partition, so that the broker knows one that it has already."""

    id: int
    epoch: int


class Sending:
    """One record on its way. It is withdrawn by ending `place` before it is `handed` over."""

    __slots__ = ("body", "handed", "headers", "key", "lane", "place", "route", "since", "size", "slot", "timestamp")

    def __init__(self, message: Message, route: str) -> None:
        self.body = message.body
        self.key = message.key
        self.headers = headers_to(message.headers)
        self.size = size_of(message, self.headers)
        """Bytes, and what stands around them in a batch at the most; 0 once they are given back to the budget."""
        self.route = route
        self.handed = False
        self.place: asyncio.Future[Place]
        self.lane: Lane
        self.since = 0.0
        self.timestamp = 0
        self.slot: set[Sending]
        """Those that share its deadline."""


class Budget:
    """The bytes that are held for all routes together, and how many records those are."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._routes: dict[str, int] = {}
        self.held = 0
        self.records = 0
        self.flying = 0
        """Records that are handed over and not answered."""
        self.empty = asyncio.Event()
        self.empty.set()

    def take(self, one: Sending) -> None:
        """Find room for a record. BackendError(OVERLOADED) where there is none, or none for its route."""
        held = self.held + one.size
        mine = self._routes.get(one.route, 0)
        if held > self._limit or (mine and mine + one.size > SHARE * (self._limit - held)):
            raise BackendError(Reason.OVERLOADED, "too many records are waiting for the broker")
        self.held = held
        self._routes[one.route] = mine + one.size
        self.records += 1
        self.empty.clear()

    def release(self, one: Sending) -> None:
        """A record is done with; a second time is none."""
        size, one.size = one.size, 0
        if not size:
            return
        self.held -= size
        self.records -= 1
        left = self._routes[one.route] - size
        if left:
            self._routes[one.route] = left
        else:
            del self._routes[one.route]
        if not self.records:
            self.empty.set()


class Line:
    """What waits in the name of one route."""

    __slots__ = ("credit", "records")

    def __init__(self) -> None:
        self.records: deque[Sending] = deque()
        self.credit = 0


class Lane:
    """One partition: what waits for it, route by route, and the batch that is on its way.

    Routes take turns, a quantum of bytes each (deficit round robin: Shreedhar and Varghese, 1995); within one the order is kept.
    """

    __slots__ = (
        "_lines",
        "_turns",
        "_waiting",
        "_withdrawn",
        "batch",
        "busy",
        "identity",
        "leader",
        "limit",
        "most",
        "partition",
        "returned",
        "sequence",
        "topic",
        "tries",
        "trouble",
    )

    def __init__(self, topic: str, partition: int, leader: int, limit: int) -> None:
        self.topic = topic
        self.partition = partition
        self.leader = leader
        self.limit = limit
        """Bytes of a batch, about."""
        self.most = ALL
        """Records of a batch."""
        self.identity: Identity | None = None
        self.sequence = 0
        self.batch: Batch | None = None
        """The one that was sent and is not settled: while there is one, nothing else is sent."""
        self.busy = False
        """It is with a courier, or will be after a pause."""
        self.tries = 0
        self.trouble: BackendError | None = None
        """Why nothing will be written to it any more."""
        self.returned: deque[Sending] = deque()
        """What was refused as a whole, and goes before all that waits."""
        self._lines: dict[str, Line] = {}
        self._turns: deque[Line] = deque()
        self._waiting = 0
        self._withdrawn = 0

    def put(self, one: Sending) -> None:
        """Let a record wait."""
        line = self._lines.get(one.route)
        if line is None:
            line = self._lines[one.route] = Line()
        if not line.records:
            self._turns.append(line)
        line.records.append(one)
        self._waiting += 1

    def give_back(self, records: list[Sending]) -> None:
        """Let records wait that were handed over and are certainly not written: before all others, and to be withdrawn again."""
        for one in records:
            one.handed = False
        self.returned.extendleft(reversed(records))
        self._waiting += len(records)

    def cut(self, count: int) -> None:
        """One of so many records, taken together, is not taken: find out which by halves."""
        self.most = max(count // 2, 1)

    def recover(self) -> None:
        """Records are taken again, or one alone is not: send twice as many together as now."""
        self.most = min(self.most * 2, ALL)

    def take(self) -> list[Sending]:
        """Hand over the next records, one batch of them; none where nothing waits."""
        taken: list[Sending] = []
        used, full = self._from(self.returned, self.limit, self.limit, taken)
        room = self.limit - used
        while self._turns and room > 0 and not full:
            line = self._turns[0]
            alone = len(self._turns) == 1
            line.credit = room if alone else line.credit + QUANTUM
            used, full = self._from(line.records, room, line.credit, taken)
            room -= used
            # Who was stopped for want of room goes on with the next batch, on the same turn.
            line.credit = 0 if alone or not line.records else line.credit - used - (QUANTUM if full else 0)
            if not line.records:
                self._turns.popleft()
            elif not full:
                self._turns.rotate(-1)
        for one in taken:
            one.handed = True
        return taken

    def _from(self, records: deque[Sending], room: int, credit: int, taken: list[Sending]) -> tuple[int, bool]:
        """Move records while there is room and credit: the bytes of those, and whether the next one does not fit."""
        used = 0
        while records and credit > used:
            one = records[0]
            if one.place.done():
                self._withdrawn -= 1
            elif taken and (one.size > room - used or len(taken) >= self.most):
                return used, True
            else:
                taken.append(one)
                used += one.size
            records.popleft()
            self._waiting -= 1
        return used, False

    def withdrawn(self) -> None:
        """One of those that wait is ended. It goes when its turn comes; before that where few others are left beside such."""
        self._withdrawn += 1
        if self._withdrawn < FEW or self._withdrawn * 2 < self._waiting:
            return
        for queue in (self.returned, *(line.records for line in self._lines.values())):
            left = [one for one in queue if not one.place.done()]
            queue.clear()
            queue.extend(left)
        self._turns = deque(line for line in self._turns if line.records)
        self._waiting = len(self.returned) + sum(len(line.records) for line in self._turns)
        self._withdrawn = 0

    def emptied(self) -> list[Sending]:
        """Everything that waits, which then waits no more."""
        queues = (self.returned, *(line.records for line in self._lines.values()))
        records = [one for queue in queues for one in queue if not one.place.done()]
        for queue in queues:
            queue.clear()
        self._turns.clear()
        self._waiting = self._withdrawn = 0
        return records

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""
        return self.batch is not None or self._waiting > 0


class Lanes:
    """The partitions of one topic."""

    __slots__ = ("all", "largest", "open", "until")

    def __init__(self) -> None:
        self.all: list[Lane] = []
        self.open: list[Lane] | None = None
        """Those whose broker is there, for records without a key; None where that is to be found out anew."""
        self.largest: int | None = None
        """Bytes of key, headers and body that the topic takes at the most, where that is known."""
        self.until = 0.0
        """When to look again how many there are, and who leads them."""


class Door:
    """Where the records of a topic wait, in their order, whose partitions are not known yet."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0
