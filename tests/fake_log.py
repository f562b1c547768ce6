"""A log in memory that passes the contract of logs, and that a test can break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from gateway.embedded.topic import murmur2
from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.message import Message
from gateway.port import Record
from gateway.topic.log import Offsets, Place, Post, gone, no_partition, not_compacted

MAX_BYTES = 1 << 20
BATCH = 500
WAIT_S = 0.05


class FakeLog:
    """Topics are given; whoever names another is refused.

    `broken` is raised by every method while it is set. `reads` counts the readers that were opened.
    """

    def __init__(self, topics: Mapping[str, int], clock: Iterable[int] | None = None) -> None:
        self.topics: dict[str, list[list[Record]]] = {name: [[] for _ in range(many)] for name, many in topics.items()}
        self.dropped: dict[tuple[str, int], int] = {}
        self.extra: dict[tuple[str, int], int] = {}
        self.remade: set[str] = set()
        self.compacted: set[str] = set()
        self.broken: Exception | None = None
        self.reads = 0
        self.held: list[asyncio.Future[Place]] | None = None
        self._clock = iter(clock if clock is not None else count(1_700_000_000_000))
        self._more = asyncio.Event()

    async def check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _partitions(self, topic: str) -> list[list[Record]]:
        if self.broken is not None:
            raise self.broken
        if topic not in self.topics:
            raise BackendError(Reason.REFUSED, "there is no such topic")
        return self.topics[topic]

    def put(self, topic: str, message: Message, partition: int | None = None) -> Place:
        """Append at once, whatever is broken."""
        partitions = self.topics[topic]
        if partition is not None and partition >= len(partitions):
            raise no_partition(len(partitions))
        number = 0 if message.key is None else (murmur2(message.key) & 0x7FFFFFFF) % len(partitions)
        number = number if partition is None else partition
        place = Place(topic, number, self._end(topic, number), next(self._clock))
        record = Record(topic, number, place.offset, place.timestamp, message.key, message.body, message.headers)
        partitions[number].append(record)
        self.wake()
        return place

    def wake(self) -> None:
        """Let every reader look again."""
        self._more.set()
        self._more = asyncio.Event()

    def drop(self, topic: str, to: int, partition: int = 0) -> None:
        """Let retention overtake the records before an offset."""
        self.topics[topic][partition] = [one for one in self.topics[topic][partition] if one.offset >= to]
        self.dropped[topic, partition] = to

    def remake(self, topic: str) -> None:
        """Delete a topic and make it anew."""
        self.topics[topic] = [[] for _ in self.topics[topic]]
        self.remade.add(topic)
        self.dropped.clear()
        self.extra.clear()
        self.wake()

    def mark(self, topic: str, partition: int = 0) -> None:
        """Use up an offset without a record, as the end of a transaction does in Kafka."""
        self.extra[topic, partition] = self._end(topic, partition) + 1
        self.wake()

    def _end(self, topic: str, partition: int) -> int:
        records = self.topics[topic][partition]
        last = records[-1].offset + 1 if records else 0
        return max(last, self.dropped.get((topic, partition), 0), self.extra.get((topic, partition), 0))

    def _check(self, topic: str, message: Message, deadline: float, partition: int | None) -> None:
        count = len(self._partitions(topic))
        if partition is not None and partition >= count:
            raise no_partition(count)
        if len(message.body) > MAX_BYTES:
            raise CallerError(Reason.TOO_LARGE, f"a record may have {MAX_BYTES} bytes")
        if deadline <= asyncio.get_running_loop().time():
            raise BackendError(Reason.UNREACHABLE, "too late")

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        del route
        self._check(topic, message, deadline, partition)
        return self.put(topic, message, partition)

    async def admit(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> asyncio.Future[Place]:
        """Written at once, unless `held` is set: it is then left to the test."""
        admitted: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        if self.held is None:
            admitted.set_result(await self.append(topic, message, deadline, partition=partition, route=route))
        else:
            self._check(topic, message, deadline, partition)
            self.held.append(admitted)
        return admitted

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> Sequence[Place]:
        del route
        for post in posts:
            self._check(post.topic, post.message, deadline, post.partition)
        return [self.put(post.topic, post.message, post.partition) for post in posts]

    async def starts(self, topic: str, *, named: Collection[int] = ()) -> Offsets:
        del named
        return {number: self.dropped.get((topic, number), 0) for number, _ in enumerate(self._partitions(topic))}

    async def ends(self, topic: str) -> Offsets:
        return {number: self._end(topic, number) for number, _ in enumerate(self._partitions(topic))}

    async def at(self, topic: str, timestamp: int) -> Offsets:
        return {
            number: next((one.offset for one in records if one.timestamp >= timestamp), self._end(topic, number))
            for number, records in enumerate(self._partitions(topic))
        }

    async def make_compacted(self, topic: str, seconds: float) -> None:
        del seconds
        if self.broken is not None:
            raise self.broken
        if topic in self.topics and topic not in self.compacted:
            raise not_compacted("it is not compacted")
        self.topics.setdefault(topic, [[]])
        self.compacted.add(topic)

    async def forget(self, topic: str, offsets: Sequence[int]) -> None:
        (records,) = self._partitions(topic)
        self.extra[topic, 0] = self._end(topic, 0)
        self.topics[topic][0] = [one for one in records if one.offset not in set(offsets)]

    @asynccontextmanager
    async def reading(self, topic: str, at: Offsets) -> AsyncIterator[FakeReader]:
        self._partitions(topic)
        self.reads += 1
        yield FakeReader(self, topic, at)

    async def changed(self) -> None:
        """Wait for `put`, `mark` or `wake`, but not for ever."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._more.wait()
        except TimeoutError:
            return

    def after(self, topic: str, at: dict[int, int]) -> Sequence[Record]:
        """Records from a place on; moves the place."""
        fresh: list[Record] = []
        for number, records in enumerate(self._partitions(topic)):
            if number not in at:
                continue
            beyond = topic in self.remade and at[number] > self._end(topic, number)
            if beyond or at[number] < self.dropped.get((topic, number), 0):
                raise gone(topic)
            mine = [record for record in records if record.offset >= at[number]][: BATCH - len(fresh)]
            fresh.extend(mine)
            if mine:
                at[number] = mine[-1].offset + 1
            if not [record for record in records if record.offset >= at[number]]:
                at[number] = max(at[number], self._end(topic, number))
        return fresh


class FakeReader:
    """A place in a fake log."""

    def __init__(self, source: FakeLog, topic: str, at: Offsets) -> None:
        self._log = source
        self._topic = topic
        self.at = dict(at)

    async def read(self) -> Sequence[Record]:
        before = dict(self.at)
        fresh = self._log.after(self._topic, self.at)
        if fresh or before != self.at:
            return fresh
        await self._log.changed()
        return self._log.after(self._topic, self.at)


def unreachable() -> GatewayError:
    """What a log raises while it is away."""
    return BackendError(Reason.UNREACHABLE, "the log is away")
