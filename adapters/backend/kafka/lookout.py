"""Where records go: which partitions a topic has, and who leads each of them now."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from typing import Self

from aiokafka import errors

from adapters.backend.kafka.catalog import Leaders
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.courier import Couriers
from adapters.backend.kafka.sending import Budget, Door, Lane, Lanes, chosen_by
from adapters.backend.kafka.wire import BACKOFF_S, TROUBLES, Settings
from gateway.backoff import pause
from gateway.errors import BackendError, Reason, translating
from gateway.task import Tasks
from gateway.topic.log import no_partition

# How long what is known of a topic's partitions is believed: there may be more of them.
KNOWN_S = 30.0


class Lookout:
    """Keeps the lanes of each topic with the couriers of the brokers that lead them. Entering does not wait."""

    def __init__(self, settings: Settings, cluster: Cluster, budget: Budget) -> None:
        self._settings = settings
        self._cluster = cluster
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._stale: set[str] = set()
        self._asked = asyncio.Event()
        self.lanes: dict[str, Lanes] = {}
        """Of each topic that is known."""
        self.doors: dict[str, Door] = {}
        """Of each topic that somebody waits for."""
        self.couriers = Couriers(settings, cluster, budget, self.doubt)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.couriers)
        await self._stack.enter_async_context(self._tasks)
        self._tasks.spawn(self._look_on(), "who leads Kafka's partitions")
        self._tasks.spawn(self._follow(), "which Kafka brokers answer")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def doubt(self, topic: str) -> None:
        """What is known of a topic's partitions may be wrong."""
        self._stale.add(topic)
        self._asked.set()

    async def _follow(self) -> None:
        """When a broker goes, others come to lead what it led."""
        while True:
            turned = self._cluster.turned
            here = self._cluster.here
            for topic, lanes in self.lanes.items():
                lanes.open = None
                if any(lane.leader not in here for lane in lanes.all):
                    self.doubt(topic)
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
                    self.doubt(topic)
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
            if error.reason is not Reason.REFUSED or topic not in self.lanes or not self._cluster.up.is_set():
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
        lanes = self.lanes.get(topic)
        if lanes is not None and len(leaders) < len(lanes.all):
            self._drop(topic, BackendError(Reason.UNREACHABLE, "the topic was made anew"))
            lanes = None
        if lanes is None:
            lanes = self.lanes[topic] = Lanes()
            self.doubt(topic)
        for partition, leader in leaders.items():
            if partition == len(lanes.all):
                lanes.all.append(Lane(topic, partition, leader, self._settings.batch))
            elif lanes.all[partition].leader != leader:
                self.couriers.move(lanes.all[partition], leader)
        lanes.open = None
        lanes.until = asyncio.get_running_loop().time() + KNOWN_S
        return lanes

    def _drop(self, topic: str, error: BackendError) -> None:
        """A topic is not there any more, or not the one that it was."""
        for lane in self.lanes.pop(topic).all:
            self.couriers.close(lane, error)

    async def open(self, topic: str, deadline: float) -> Lanes:
        """The partitions of a topic that is not known yet; to all who ask, in the order they came."""
        door = self.doors.setdefault(topic, Door())
        door.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._cluster.tried.wait()
                async with door.turn:
                    lanes = self.lanes.get(topic)
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
                del self.doors[topic]

    def lane(self, lanes: Lanes, key: bytes | None, told: int | None) -> Lane:
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
                await self.couriers.identified()
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker has not answered yet") from error
