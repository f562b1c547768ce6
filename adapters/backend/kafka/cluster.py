"""Kafka's control side: which brokers answer, which topics there are, where each partition starts and ends.

It has connections of its own. The client library's wait out long time-outs one after the other, and a request of theirs stands
in a queue behind produce and fetch requests; so neither can say within a second whether a broker is there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Self
from weakref import WeakValueDictionary

from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from adapters.backend.kafka.wire import AWAY, BACKOFF_S, TROUBLES, Broker, Settings
from gateway.errors import BackendError, Reason
from gateway.task import Tasks

log = logging.getLogger("polygate")

PULSE_S = 0.5
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


class Cluster:
    """The brokers of one cluster: `here` holds the ids of those that answer now, `away` of those that do not; `up` is set while
    one does. `turned` is set, and replaced, whenever that changes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seeds = [Broker(host, port, settings.wire) for host, port in settings.seeds]
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._nodes: dict[int, Broker] = {}
        self._watching: dict[int, asyncio.Task[None]] = {}
        self._controller = -1
        self._known: dict[str, tuple[float, Leaders]] = {}
        self._absent: dict[str, float] = {}
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.away: set[int] = set()
        self.here: frozenset[int] = frozenset()
        self.turned = asyncio.Event()
        self._heard: dict[int, float] = {}
        self.up = asyncio.Event()
        self.tried = asyncio.Event()
        self.trouble = BackendError(Reason.UNREACHABLE, "the broker has not answered yet")

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        self._tasks.spawn(self._find(), "looking for a Kafka broker")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()
        for broker in (*self._seeds, *self._nodes.values()):
            await broker.close()

    async def _find(self) -> None:
        """Ask the brokers of the config whenever none of the cluster's is up: they may all have moved."""
        pause = BACKOFF_S[0]
        while True:
            for seed in self._seeds:
                try:
                    self._learn(await seed.pulse(self._settings.away_s))
                    pause = BACKOFF_S[0]
                    break
                except AWAY as error:
                    self._note(error)
                finally:
                    await seed.close()
            self.tried.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S[1])
            while self.up.is_set():
                await asyncio.sleep(PULSE_S)
                pause = BACKOFF_S[0]

    def _note(self, error: BaseException) -> None:
        """Keep why the brokers are away; tell when it changes."""
        for kinds, reason, message in TROUBLES:
            if isinstance(error, kinds):
                if self.up.is_set() or self.trouble.reason != reason or self.trouble.__cause__ is None:
                    log.warning("kafka %s: %s (%r)", self._settings.seeds, message, error)
                self.trouble = BackendError(reason, message)
                self.trouble.__cause__ = error
                return

    def _learn(self, metadata: Any) -> None:
        """Watch the brokers that the cluster says it has, and no others."""
        found = {node: (host, port) for node, host, port, *_ in metadata.brokers}
        self._controller = getattr(metadata, "controller_id", -1)
        if not found:
            return
        for node in [node for node, broker in self._nodes.items() if found.get(node) != broker.where]:
            self._watching.pop(node).cancel()
            self._tasks.spawn(self._nodes.pop(node).close(), f"leaving broker {node}")
            self.away.discard(node)
            self._heard.pop(node, None)
        for node, (host, port) in found.items():
            if node not in self._nodes:
                self._nodes[node] = Broker(host, port, self._settings.wire)
                self._watching[node] = self._tasks.spawn(self._watch(node, self._nodes[node]), f"pulse of broker {node}")
        self._judge()

    def _judge(self) -> None:
        here = frozenset(self._nodes) - self.away
        if here != self.here:
            self.here = here
            self.turned.set()
            self.turned = asyncio.Event()
        if here:
            if not self.up.is_set():
                log.info("kafka %s answers", self._settings.seeds)
            self.up.set()
        else:
            self.up.clear()

    async def _watch(self, node: int, broker: Broker) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                metadata = await broker.pulse(self._settings.away_s)
            except AWAY as error:
                self.away.add(node)
                self._note(error)
                self._judge()
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_S[1])
            else:
                pause = BACKOFF_S[0]
                self._heard[node] = asyncio.get_running_loop().time()
                self.away.discard(node)
                self._learn(metadata)
                await broker.quiet(PULSE_S)

    def silent(self, node: int, since: float) -> None:
        """A record of `since` was not acknowledged by its deadline. Where the broker has not answered the pulses that it has owed
        since then either, it is away from now on, and not only once a pulse's own time is up.
        """
        now = asyncio.get_running_loop().time()
        if node in self._nodes and self._heard.get(node, 0.0) < since and now - since > 2 * PULSE_S:
            self.away.add(node)
            self._note(TimeoutError("no answer in time"))
            self._judge()

    def refuse(self) -> None:
        """Raise the BackendError of a cluster of which no broker answers."""
        if not self.up.is_set():
            raise BackendError(self.trouble.reason, self.trouble.message) from self.trouble.__cause__

    def broker(self, node: int) -> Broker:
        """One that is `here`."""
        return self._nodes[node]

    async def ask(self, request: object, node: int | None = None) -> Any:
        """One broker's response; any that is up, unless told which."""
        self.refuse()
        if node is None or node not in self._nodes:
            node = next(one for one in self._nodes if one not in self.away)
        answer = await self._answer(node, request)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _answer(self, node: int, request: object) -> Any:
        """A broker's response or what went wrong; waited for no longer than the broker counts as there: a connection that it
        takes and never answers on is open for as long as one request may take.
        """
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_asked(self._nodes[node], request))
            while node not in self.away and not asking.done():
                turning = group.create_task(self.turned.wait())
                await asyncio.wait((asking, turning), return_when=asyncio.FIRST_COMPLETED)
                turning.cancel()
            asking.cancel()
        if asking.cancelled():
            return BackendError(Reason.UNREACHABLE, "the broker of this partition cannot be reached")
        return asking.result()

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
        metadata = await self.ask(MetadataRequest([topic], allow_auto_topic_creation=False))
        ((code, _, *_, partitions),) = metadata.topics
        error = errors.for_code(code)
        if error is errors.UnknownTopicOrPartitionError:
            return None
        if error is not errors.NoError and error is not errors.LeaderNotAvailableError:
            raise error(topic)
        return {partition: leader for _, partition, leader, *_ in sorted(partitions, key=lambda one: one[1])}

    @property
    def size(self) -> int:
        """How many brokers it has."""
        return len(self._nodes)

    async def has(self, topic: str) -> bool:
        """Whether a topic is there now. Makes none."""
        return await self._topic(topic) is not None

    async def config(self, topic: str) -> Mapping[str, str | None]:
        """A topic's settings, the cluster's own among them."""
        ((code, _, _, _, entries),) = (await self.ask(DescribeConfigsRequest([(_A_TOPIC, topic, None)]))).resources
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
            ((_, code, *_),) = (await self.ask(request, self._controller)).topic_errors
            error = errors.for_code(code)
            if error in (errors.NoError, errors.TopicAlreadyExistsError):
                log.info("kafka: made topic %s with %d partitions", topic, partitions)
                return
            if error is not errors.NotControllerError:
                raise BackendError(Reason.REFUSED, "the broker does not make this topic") from error(topic)
            self._learn(await self.ask(MetadataRequest([])))
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
            offsets.update(_offsets_of((await self.ask(request, leader)).topics))
        return dict(sorted(offsets.items()))


async def _asked(broker: Broker, request: object) -> Any:
    try:
        return await broker.ask(request)
    except AWAY as error:
        return error


def _offsets_of(topics: Sequence[Any]) -> dict[int, int]:
    offsets = {}
    for topic, partitions in topics:
        for partition, code, _, offset in partitions:
            error = errors.for_code(code)
            if error is not errors.NoError:
                raise error(topic)
            offsets[partition] = offset
    return offsets
