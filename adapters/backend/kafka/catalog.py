"""The topics of a cluster: which there are, who leads their partitions, where each of these starts and ends."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol
from weakref import WeakValueDictionary

from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from adapters.backend.kafka.wire import BACKOFF_S, Settings
from gateway.errors import BackendError, Reason

log = logging.getLogger("polygate")

KNOWN_S = 30.0
ABSENT_S = 2.0
ABSENT_TOPICS = 1000
ABSENT_TRIES = 3
MADE_TRIES = 50
EARLIEST, LATEST = -2, -1
NONE = -1
"""Where a partition has no record of a time or later."""
READ_COMMITTED = 1
NO_LEADER = -1
_A_TOPIC = 2

NOTHING: Mapping[str, str] = MappingProxyType({})
_TOPIC = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._-]{1,249}\Z")

Leaders = Mapping[int, int]
"""The broker that leads each partition; NO_LEADER where none does now."""


class Brokers(Protocol):
    """Who is asked. Each of these raises the BackendError of a cluster of which no broker answers."""

    async def ask(self, request: object, node: int | None = None) -> Any:
        """One broker's response; any that is up, unless told which."""

    async def decide(self, request: object) -> Any:
        """The response of the one that decides for all (the controller), as far as is known which that is."""

    async def look(self) -> None:
        """Find out anew which that is."""


class Catalog:
    """What is known of topics. That somebody leads a partition is believed for a while, unless it has proved wrong."""

    def __init__(self, settings: Settings, brokers: Brokers) -> None:
        self._settings = settings
        self._brokers = brokers
        self._known: dict[str, tuple[float, Leaders]] = {}
        self._absent: dict[str, float] = {}
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def leaders(self, topic: str) -> Leaders:
        """The partitions of a topic. BackendError(REFUSED) for one that is not there and is not to be made."""
        loop = asyncio.get_running_loop()
        known = self._known.get(topic)
        if known is not None and known[0] > loop.time():
            return known[1]
        if self._absent.get(topic, 0) > loop.time() or not _TOPIC.match(topic):
            raise BackendError(Reason.REFUSED, "there is no such topic")
        lock = self._looking.setdefault(topic, asyncio.Lock())
        async with lock:
            known = self._known.get(topic)
            if known is not None and known[0] > loop.time():
                return known[1]
            if self._absent.get(topic, 0) > loop.time():
                raise BackendError(Reason.REFUSED, "there is no such topic")
            return await self._look(topic)

    async def _look(self, topic: str) -> Leaders:
        loop = asyncio.get_running_loop()
        found = await self._topic(topic)
        if found is None and self._settings.create is not None:
            await self.make(topic, *self._settings.create)
            found = {}
        # Made a moment ago, by us or by others, a topic is known to each broker a little later.
        for _ in range(ABSENT_TRIES if found is None else MADE_TRIES):
            if found:
                break
            await asyncio.sleep(BACKOFF_S[0])
            found = await self._topic(topic)
        if found is None:
            while len(self._absent) >= ABSENT_TOPICS:
                del self._absent[next(iter(self._absent))]
            self._absent[topic] = loop.time() + ABSENT_S
            self._known.pop(topic, None)
            raise BackendError(Reason.REFUSED, "there is no such topic")
        self._absent.pop(topic, None)
        self._known[topic] = (loop.time() + KNOWN_S, found)
        return found

    async def _topic(self, topic: str) -> Leaders | None:
        """Ask for one topic; None where there is none. Never lets the broker make it: that is `create`'s business."""
        metadata = await self._brokers.ask(MetadataRequest([topic], allow_auto_topic_creation=False))
        ((code, _, *_, partitions),) = metadata.topics
        error = errors.for_code(code)
        if error is errors.UnknownTopicOrPartitionError:
            return None
        if error is not errors.NoError and error is not errors.LeaderNotAvailableError:
            raise error(topic)
        return {partition: leader for _, partition, leader, *_ in sorted(partitions, key=lambda one: one[1])}

    async def has(self, topic: str) -> bool:
        """Whether a topic is there now. Makes none."""
        return await self._topic(topic) is not None

    async def config(self, topic: str) -> Mapping[str, str | None]:
        """A topic's settings, the cluster's own among them."""
        ((code, _, _, _, entries),) = (await self._brokers.ask(DescribeConfigsRequest([(_A_TOPIC, topic, None)]))).resources
        error = errors.for_code(code)
        if error is not errors.NoError:
            raise error(topic)
        return {entry[0]: entry[1] for entry in entries}

    async def make(self, topic: str, partitions: int, replication: int, settings: Mapping[str, str] = NOTHING) -> None:
        """Make a topic; a no-op where it is there. BackendError(REFUSED) where the broker does not."""
        request = CreateTopicsRequest(
            [(topic, partitions, replication, [], list(settings.items()))],
            int(self._settings.request_s * 1000),
            validate_only=False,
        )
        self._absent.pop(topic, None)
        for _ in range(2):
            ((_, code, *_),) = (await self._brokers.decide(request)).topic_errors
            error = errors.for_code(code)
            if error in (errors.NoError, errors.TopicAlreadyExistsError):
                log.info("kafka: made topic %s with %d partitions", topic, partitions)
                return
            if error is not errors.NotControllerError:
                raise BackendError(Reason.REFUSED, "the broker does not make this topic") from error(topic)
            await self._brokers.look()
        raise BackendError(Reason.UNREACHABLE, "the cluster is choosing who leads it")

    def forget(self, topic: str) -> None:
        """What is known of a topic's leaders has proved wrong."""
        self._known.pop(topic, None)

    async def offsets(self, topic: str, when: int) -> dict[int, int]:
        """The offset at EARLIEST, LATEST or a time (milliseconds since 1970) of every partition. LATEST is the first open
        transaction's, if there is one; for a time it is that of the first record not older, NONE where there is none.
        """
        while True:
            leaders = await self.leaders(topic)
            try:
                return await self._offsets(topic, leaders, when)
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
                self.forget(topic)
                await asyncio.sleep(BACKOFF_S[0])

    async def _offsets(self, topic: str, leaders: Leaders, when: int) -> dict[int, int]:
        by_leader: dict[int, list[tuple[int, int]]] = {}
        for partition, leader in leaders.items():
            if leader == NO_LEADER:
                raise errors.LeaderNotAvailableError(topic)
            by_leader.setdefault(leader, []).append((partition, when))
        offsets: dict[int, int] = {}
        for leader, wanted in by_leader.items():
            request = OffsetRequest(-1, READ_COMMITTED, [(topic, wanted)])
            offsets.update(_offsets_of((await self._brokers.ask(request, leader)).topics))
        return dict(sorted(offsets.items()))


def _offsets_of(topics: Sequence[Any]) -> dict[int, int]:
    offsets = {}
    for topic, partitions in topics:
        for partition, code, _, offset in partitions:
            error = errors.for_code(code)
            if error is not errors.NoError:
                raise error(topic)
            offsets[partition] = offset
    return offsets
