"""Kafka's write side: a queue of our own for each partition, a deadline for every record, and a budget for what is held.

A record waits in our queue until its request goes out. By its deadline it is withdrawn from there, and certainly not written;
once it has gone out its outcome is unknown until a broker tells, and is counted when one does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack, suppress
from typing import Self

from aiokafka import errors

from adapters.backend.kafka.catalog import Leaders
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.courier import Couriers
from adapters.backend.kafka.record import HEADER_OVERHEAD, RECORD_OVERHEAD
from adapters.backend.kafka.sending import Budget, Door, Lane, Lanes, Sending, chosen_by, milliseconds
from adapters.backend.kafka.wire import BACKOFF_S, TROUBLES, Settings
from gateway.backoff import pause
from gateway.errors import BackendError, CallerError, Reason, translating
from gateway.message import Message
from gateway.metric import Gauge
from gateway.task import Tasks
from gateway.topic.log import Place, no_partition

log = logging.getLogger("polygate")

TICK_S = 0.02
FAR_S = 60.0
# How long what is known of a topic's partitions is believed: there may be more of them.
KNOWN_S = 30.0

QUEUED = Gauge("polygate_records_queued", "Records that wait to be sent, and can be withdrawn.", "backend")
FLYING = Gauge("polygate_records_in_flight", "Records that were sent and are not answered.", "backend")
HELD = Gauge("polygate_records_held_bytes", "Bytes of records that wait to be sent, or for an answer.", "backend")


class Writer:
    """Appends records. Entering does not wait; leaving waits for what was taken, but no longer than it is told."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._lanes: dict[str, Lanes] = {}
        self._doors: dict[str, Door] = {}
        self._slots: dict[float, set[Sending]] = {}
        self._stale: set[str] = set()
        self._asked = asyncio.Event()
        self._leaving = False
        self._loop: asyncio.AbstractEventLoop
        self.budget = Budget(settings.buffer)
        self._couriers = Couriers(settings, cluster, self.budget, self._doubt)

    async def __aenter__(self) -> Self:
        # Kept, for asking for the running loop costs a system call each time.
        self._loop = asyncio.get_running_loop()
        name, budget = self._settings.name, self.budget
        self._stack.callback(QUEUED.watch(lambda: budget.records - budget.flying, name))
        self._stack.callback(FLYING.watch(lambda: budget.flying, name))
        self._stack.callback(HELD.watch(lambda: budget.held, name))
        await self._stack.enter_async_context(self._couriers)
        await self._stack.enter_async_context(self._tasks)
        self._tasks.spawn(self._look_on(), "who leads Kafka's partitions")
        self._tasks.spawn(self._follow(), "which Kafka brokers answer")
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

    # Where records go

    def _doubt(self, topic: str) -> None:
        """What is known of a topic's partitions may be wrong."""
        self._stale.add(topic)
        self._asked.set()

    async def _follow(self) -> None:
        """When a broker goes, others come to lead what it led."""
        while True:
            turned = self._cluster.turned
            here = self._cluster.here
            for topic, lanes in self._lanes.items():
                lanes.open = None
                if any(lane.leader not in here for lane in lanes.all):
                    self._doubt(topic)
            await turned.wait()

    async def _look_on(self) -> None:
        """Find out who leads what is in doubt, until all of it has a leader that is there."""
        tries = 0
        while True:
            await self._asked.wait()
            self._asked.clear()
            topics, self._stale = self._stale, set()
            for topic in topics:
                if not await self._look(topic):
                    self._doubt(topic)
            tries = tries + 1 if self._stale else 0
            await asyncio.sleep(min(pause(tries + 1, BACKOFF_S), 2 * self._settings.away_s))

    async def _look(self, topic: str) -> bool:
        """See where a topic's partitions are; whether each of them can be written now."""
        self._cluster.topics.forget(topic)
        try:
            with translating(*TROUBLES):
                async with asyncio.timeout(self._settings.request_s):
                    lanes = self._lead(topic, await self._cluster.topics.leaders(topic))
                    await self._measure(topic, lanes)
        except BackendError as error:
            if error.reason is not Reason.REFUSED or topic not in self._lanes or not self._cluster.up.is_set():
                return False
            self._drop(topic, error)
            return True
        return all(lane.leader in self._cluster.here for lane in lanes.all)

    async def _measure(self, topic: str, lanes: Lanes) -> None:
        """Find out how large a record of a topic may be. Compressed, one that is larger may fit."""
        if self._settings.compression is None:
            with suppress(errors.KafkaError):  # who may not ask is told by the broker once that has the record
                told = (await self._cluster.topics.config(topic)).get("max.message.bytes")
                lanes.largest = int(told) if told else None

    def _lead(self, topic: str, leaders: Leaders) -> Lanes:
        """Take over who leads each partition of a topic. There may be more of them; fewer are another topic of the same name."""
        lanes = self._lanes.get(topic)
        if lanes is not None and len(leaders) < len(lanes.all):
            self._drop(topic, BackendError(Reason.UNREACHABLE, "the topic was made anew"))
            lanes = None
        if lanes is None:
            lanes = self._lanes[topic] = Lanes()
            self._doubt(topic)
        for partition, leader in leaders.items():
            if partition == len(lanes.all):
                lanes.all.append(Lane(topic, partition, leader, self._settings.batch))
            elif lanes.all[partition].leader != leader:
                self._couriers.move(lanes.all[partition], leader)
        lanes.open = None
        lanes.until = self._loop.time() + KNOWN_S
        return lanes

    def _drop(self, topic: str, error: BackendError) -> None:
        """A topic is not there any more, or not the one that it was."""
        for lane in self._lanes.pop(topic).all:
            self._couriers.close(lane, error)

    async def _open(self, topic: str, deadline: float) -> Lanes:
        """The partitions of a topic that is not known yet; to all who ask, in the order they came."""
        door = self._doors.setdefault(topic, Door())
        door.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._cluster.tried.wait()
                async with door.turn:
                    lanes = self._lanes.get(topic)
                    if lanes is None:
                        self._cluster.refuse()
                        with translating(*TROUBLES):
                            lanes = self._lead(topic, await self._cluster.topics.leaders(topic))
                    return lanes
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker did not say in time where to write") from error
        finally:
            door.waiting -= 1
            if not door.waiting:
                del self._doors[topic]

    def _lane(self, lanes: Lanes, key: bytes | None, told: int | None) -> Lane:
        """Where a record goes. BackendError where there is no such partition, or its broker is known to be away."""
        here = self._cluster.here
        if told is not None and told >= len(lanes.all):
            raise no_partition(len(lanes.all))
        if told is not None or key is not None:
            lane = lanes.all[told if told is not None else chosen_by(key or b"", len(lanes.all))]
            if lane.leader in here:
                return lane
        else:
            if lanes.open is None:
                lanes.open = [lane for lane in lanes.all if lane.leader in here]
            if lanes.open:
                return random.choice(lanes.open)  # noqa: S311  spreads load, keeps no secret
        self._cluster.refuse()
        raise BackendError(Reason.UNREACHABLE, "the broker of this partition cannot be reached")

    async def check(self, within: float) -> None:
        """Raise the BackendError that a record would be answered with now; wait a little for what has only begun to connect."""
        try:
            async with asyncio.timeout(within):
                await self._cluster.tried.wait()
                self._cluster.refuse()
                await self._couriers.identified()
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker has not answered yet") from error

    # Sending

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        """See `Log.append`."""
        one = Sending(message, route)
        lanes = self._lanes.get(topic)
        if lanes is None or topic in self._doors:
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
        lanes = self._lanes.get(topic)
        if lanes is None or topic in self._doors:
            lanes = await self._wait(one, topic, deadline)
        self._put(one, lanes, partition, deadline)
        return one.place

    async def _wait(self, one: Sending, topic: str, deadline: float) -> Lanes:
        """Wait, within the budget, until it is known where a record can go."""
        self._fits(one)
        size = one.size
        self.budget.take(one)
        try:
            return await self._open(topic, deadline)
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
        lane = self._lane(lanes, one.key, partition)
        now = self._loop.time()
        if deadline - now < TICK_S:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the record could be sent")
        if self._leaving:
            raise BackendError(Reason.OVERLOADED, "the gateway is about to stop")
        self.budget.take(one)
        if now > lanes.until:
            lanes.until = now + KNOWN_S
            self._doubt(lane.topic)
        one.lane = lane
        one.since = now
        one.timestamp = milliseconds()
        one.place = self._loop.create_future()
        one.slot = self._slot(deadline, now)
        one.slot.add(one)
        lane.put(one)
        if not lane.busy:
            self._couriers.offer(lane)

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
