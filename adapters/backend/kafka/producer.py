"""Kafka's write side: a queue of our own for each partition, a deadline for every record, and a budget for what is held.

A record waits in our queue until its request goes out. By its deadline it is withdrawn from there, and certainly not written;
once it has gone out its outcome is unknown until a broker tells, and is counted when one does.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Self

from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.lookout import KNOWN_S, Lookout
from adapters.backend.kafka.record import HEADER_OVERHEAD, RECORD_OVERHEAD
from adapters.backend.kafka.sending import Budget, Lanes, Sending, milliseconds
from adapters.backend.kafka.wire import Settings
from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Message
from gateway.metric import Gauge
from gateway.topic.log import Place

log = logging.getLogger("polygate")

TICK_S = 0.02
FAR_S = 60.0

QUEUED = Gauge("polygate_records_queued", "Records that wait to be sent, and can be withdrawn.", "backend")
FLYING = Gauge("polygate_records_in_flight", "Records that were sent and are not answered.", "backend")
HELD = Gauge("polygate_records_held_bytes", "Bytes of records that wait to be sent, or for an answer.", "backend")


class Writer:
    """Appends records. Entering does not wait; leaving waits for what was taken, but no longer than it is told."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._stack = AsyncExitStack()
        self._slots: dict[float, set[Sending]] = {}
        self._leaving = False
        self._loop: asyncio.AbstractEventLoop
        self.budget = Budget(settings.buffer)
        self._lookout = Lookout(settings, cluster, self.budget)

    async def __aenter__(self) -> Self:
        # Kept, for asking for the running loop costs a system call each time.
        self._loop = asyncio.get_running_loop()
        name, budget = self._settings.name, self.budget
        self._stack.callback(QUEUED.watch(lambda: budget.records - budget.flying, name))
        self._stack.callback(FLYING.watch(lambda: budget.flying, name))
        self._stack.callback(HELD.watch(lambda: budget.held, name))
        await self._stack.enter_async_context(self._lookout)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._leaving = True
        try:
            async with asyncio.timeout(self._settings.stop_s):
                await self.budget.empty.wait()
        except TimeoutError:
            log.warning("kafka %s: %d records are not acknowledged at the end", self._settings.name, self.budget.records)
        await self._stack.aclose()
        for slot in list(self._slots):
            self._fire(slot)

    async def check(self, within: float) -> None:
        """See `Lookout.check`."""
        await self._lookout.check(within)

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        """See `Log.append`."""
        one = Sending(message, route)
        lanes = self._lookout.lanes.get(topic)
        if lanes is None or topic in self._lookout.doors:
            lanes = await self._wait(one, topic, deadline)
        self._put(one, lanes, partition, deadline)
        try:
            return await one.place
        except asyncio.CancelledError:
            self._withdraw(one)
            raise

    async def admit(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> asyncio.Future[Place]:
        """See `Log.admit`."""
        one = Sending(message, route)
        lanes = self._lookout.lanes.get(topic)
        if lanes is None or topic in self._lookout.doors:
            lanes = await self._wait(one, topic, deadline)
        self._put(one, lanes, partition, deadline)
        return one.place

    async def _wait(self, one: Sending, topic: str, deadline: float) -> Lanes:
        """Wait, within the budget, until it is known where a record can go."""
        self._fits(one)
        size = one.size
        self.budget.take(one)
        try:
            return await self._lookout.open(topic, deadline)
        finally:
            self.budget.release(one)
            one.size = size

    def _fits(self, one: Sending, largest: int | None = None) -> None:
        if one.size > self._settings.record:
            raise CallerError(Reason.TOO_LARGE, f"a record of this topic holds at most {self._settings.record} bytes")
        # What stands around it is not known to the byte: what may just fit is for the broker to judge.
        if largest is not None and one.size - RECORD_OVERHEAD - HEADER_OVERHEAD * len(one.headers) > largest:
            raise CallerError(Reason.TOO_LARGE, f"a record of this topic holds at most {largest} bytes")

    def _put(self, one: Sending, lanes: Lanes, partition: int | None, deadline: float) -> None:
        """Let a record wait for its turn. Raises what can be told at once."""
        self._fits(one, lanes.largest)
        lane = self._lookout.lane(lanes, one.key, partition)
        now = self._loop.time()
        if deadline - now < TICK_S:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the record could be sent")
        if self._leaving:
            raise BackendError(Reason.OVERLOADED, "the gateway is about to stop")
        self.budget.take(one)
        if now > lanes.until:
            lanes.until = now + KNOWN_S
            self._lookout.doubt(lane.topic)
        one.lane = lane
        one.since = now
        one.timestamp = milliseconds()
        one.place = self._loop.create_future()
        one.slot = self._slot(deadline, now)
        one.slot.add(one)
        lane.put(one)
        if not lane.busy:
            self._lookout.couriers.offer(lane)

    def _slot(self, deadline: float, now: float) -> set[Sending]:
        """Those that share a deadline, to TICK_S (a timer for each record would cost a third of sending it)."""
        when = deadline // TICK_S * TICK_S if deadline - now < FAR_S else deadline // 1
        slot = self._slots.get(when)
        if slot is None:
            slot = self._slots[when] = set()
            self._loop.call_at(when, self._fire, when)
        return slot

    def _fire(self, when: float) -> None:
        """A deadline has come."""
        for one in self._slots.pop(when, ()):
            if one.handed:
                if not one.place.done():
                    one.place.set_exception(
                        BackendError(Reason.UNKNOWN_OUTCOME, "the record was sent, and the broker did not acknowledge it in time")
                    )
                    self._cluster.silent(one.lane.leader, one.since)
                continue
            if not one.place.done():
                one.place.set_exception(BackendError(Reason.UNREACHABLE, "the broker takes no more records now"))
            self._let_go(one)

    def _withdraw(self, one: Sending) -> None:
        """Nobody waits for a record any more: if it was not handed over it never will be."""
        one.slot.discard(one)
        if not one.handed:
            self._let_go(one)

    def _let_go(self, one: Sending) -> None:
        if one.size:
            self.budget.release(one)
            one.lane.withdrawn()
