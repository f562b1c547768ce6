"""The records of one partition in delivery: in which order they run, how many at once, how far ahead, how far they are done.

A consumer group's offset says that everything before it is done with. So what a source commits is how far that is so without a
gap, however many behind it are done with too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.backoff import pause
from gateway.metric import Counter, Gauge
from gateway.port import Deliver, Record, Subscription
from gateway.task import Tasks

log = logging.getLogger("polygate")

LAG = Gauge(
    "polygate_topic_lag", "Records of a partition that its listener is not done with yet.", "listener", "topic", "partition"
)
DROPPED = Counter("polygate_topic_dropped", "Records that retention took before they were delivered.", "listener", "topic")

# A delivery that raises is a defect or an end: what a listener knows how to try again, it tries again itself.
AGAIN_S = (0.1, 5.0)
# What a record costs beside its bytes, about.
OVERHEAD = 500


@dataclass(slots=True, eq=False)
class _Held:
    """A record that was taken, until everything before it is done with too."""

    offset: int
    size: int
    done: bool = False


class _Lane:
    """Records that are delivered one after the other. Entered while one is tried: see `Turn`."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.records: deque[tuple[Record, _Held]] = deque()
        self.trying = False
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> None:
        await self._delivery.slots.acquire()
        self.trying = True

    async def __aexit__(self, *error: object) -> None:
        self.trying = False
        self._delivery.slots.release()
        self._delivery.tried.set()


class Delivery:
    """Delivers the records of one partition, from when it is ours until it is not."""

    def __init__(
        self,
        subscription: Subscription,
        deliver: Deliver,
        name: str,
        progress: Callable[[], None],
        finished: Collection[int] = (),
    ) -> None:
        """`progress` is called whenever `at` or `beyond` is another. `finished` are offsets of records that were done with the
        last time already.
        """
        self._subscription = subscription
        self._deliver = deliver
        self._name = name
        self._progress = progress
        self._finished = frozenset(finished)
        self._tasks = Tasks()
        self._lanes: dict[Hashable, _Lane] = {}
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._end = 0
        self._leaving = False
        self._room = asyncio.Event()
        self._room.set()
        # Without order between records, it is their number that is bounded; with one order for all, one runs at a time anyway.
        self.slots = asyncio.Semaphore(subscription.parallel)
        self.tried = asyncio.Event()

    @property
    def first(self) -> int | None:
        """The offset of the first record that is not done with; None where all that were taken are."""
        return self._held[0].offset if self._held else None

    @property
    def at(self) -> int:
        """The offset that the group would go on at. Only once there was progress."""
        return self._held[0].offset if self._held else self._end

    @property
    def beyond(self) -> Sequence[int]:
        """The offsets of the records behind that which are done with all the same."""
        return [held.offset for held in self._held if held.done]

    @property
    def full(self) -> bool:
        """Whether no more should be taken at present."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until more may be taken."""
        await self._room.wait()

    def take(self, records: Sequence[Record]) -> None:
        """Deliver these, the next of the partition."""
        for record in records:
            held = _Held(record.offset, _size(record))
            self._held.append(held)
            self._bytes += held.size
            self._end = record.offset + 1
            if record.offset in self._finished:
                self._done(held)
                continue
            key = self._order(record)
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = _Lane(self)
                lane.task = self._tasks.spawn(self._run(key, lane), f"delivering {self._name}")
            lane.records.append((record, held))
        ahead = self._subscription.ahead
        if len(self._held) >= ahead.records or self._bytes >= ahead.bytes:
            self._room.clear()

    def _order(self, record: Record) -> Hashable:
        """What a record shares with those that it must not overtake; an offset is shared by none."""
        order = self._subscription.order
        if order == "partition":
            return None
        return record.offset if order == "none" or record.key is None else record.key

    async def _run(self, key: Hashable, lane: _Lane) -> None:
        while lane.records and not self._leaving:
            record, held = lane.records[0]
            await self._delivered(record, lane)
            lane.records.popleft()
            self._done(held)
        del self._lanes[key]

    async def _delivered(self, record: Record, lane: _Lane) -> None:
        tries = 0
        while True:
            try:
                await self._deliver(record, lane)
            except Exception as error:
                tries += 1
                wait = pause(tries, AGAIN_S)
                if not self._leaving:
                    log.warning("%s: %d is delivered again in %.1f s", self._name, record.offset, wait, exc_info=error)
            else:
                return
            await asyncio.sleep(wait)

    def _done(self, held: _Held) -> None:
        held.done = True
        self._bytes -= held.size
        while self._held and self._held[0].done:
            self._held.popleft()
        self._progress()
        ahead = self._subscription.ahead
        # Half of it: that sources need not be stopped and started for every record.
        if self.full and len(self._held) <= ahead.records // 2 and self._bytes <= ahead.bytes // 2:
            self._room.set()

    async def leave(self, grace: float | None) -> None:
        """Begin no other record, let those that are being tried end within `grace` seconds (None: as they like), and let go of
        all others at once: they are for whoever has the partition next.
        """
        self._leaving = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._settled()
        finally:
            await self._tasks.__aexit__()

    async def _settled(self) -> None:
        while True:
            self.tried.clear()
            for lane in self._lanes.values():
                if not lane.trying:
                    lane.task.cancel()
            if not any(lane.trying for lane in self._lanes.values()):
                return
            await self.tried.wait()


def _size(record: Record) -> int:
    headers = sum(len(name) + len(text) for name, text in record.headers)
    return len(record.body) + len(record.key or b"") + headers + OVERHEAD
