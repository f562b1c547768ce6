"""The embedded log as the event loop sees it: topics, their offsets, and readers that a commit wakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from gateway.embedded.commits import Commits, Written
from gateway.embedded.fault import StoreError
from gateway.embedded.row import OVERHEAD, Held, Row, offset_of
from gateway.embedded.topic import NAMES, Partition, Topic, is_name
from gateway.errors import BackendError, CallerError, Reason
from gateway.message import NO_HEADERS, Headers, Message
from gateway.port import Record
from gateway.topic.log import Offsets, Place, Post, gone, no_partition, not_compacted

READ_RECORDS = 256
READ_BYTES = 4 << 20
WAIT_S = 1.0

Fetch = Callable[[Partition, int], Awaitable[list[Row]]]
"""Rows of a partition from an offset on, read in another thread."""

Since = Callable[[Partition, int], Awaitable[int]]
"""The first offset of a partition whose record is not older than a timestamp, looked up in another thread."""


def size_of(record: Message | Record) -> int:
    """What a record takes, in memory or in the file, about."""
    size = OVERHEAD + len(record.body) + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value)
    return size


class LocalLog:
    """Every topic of one store. Implements `gateway.topic.log.Log`."""

    def __init__(self, *, declared: Mapping[str, int], create: bool, max_topics: int, max_record_bytes: int) -> None:
        self._declared = declared
        self._create = create
        self._max_topics = max_topics
        self._max_record_bytes = max_record_bytes
        self._topics: dict[str, Topic] = {}
        self._next_id = 1
        self._waiting: dict[str, list[asyncio.Future[Sequence[Record]]]] = {}
        self._commits: Commits
        self._fetch: Fetch
        self._since: Since

    def load(self, held: Sequence[Held]) -> None:
        """Take over what the file holds, and what is declared. BackendError(REFUSED) where the two do not agree."""
        for one in held:
            topic = self._topics.setdefault(one.topic, Topic(one.topic, [], stored=True))
            topic.partitions.append(Partition(one.id, topic, one.number, one.start, one.next, one.upto))
            self._next_id = max(self._next_id, one.id + 1)
        for name, count in self._declared.items():
            if name not in self._topics:
                self._made(name, count)
                continue
            topic = self._topics[name]
            if len(topic.partitions) > count:
                raise BackendError(
                    Reason.REFUSED, f"topic {name} has {len(topic.partitions)} partitions and cannot shrink to {count}"
                )
            self._grow(topic, count)

    def connect(self, commits: Commits, fetch: Fetch, since: Since) -> None:
        """Say who writes and who reads."""
        self._commits = commits
        self._fetch = fetch
        self._since = since

    def _made(self, name: str, count: int) -> Topic:
        topic = self._topics[name] = Topic(name, [])
        self._grow(topic, count)
        return topic

    def _grow(self, topic: Topic, count: int) -> None:
        while len(topic.partitions) < count:
            topic.stored = False
            topic.partitions.append(Partition(self._next_id, topic, len(topic.partitions)))
            self._next_id += 1

    def find(self, name: str) -> Topic | None:
        """A topic, or None for one that would be made by its first record. BackendError(REFUSED) where it would not."""
        topic = self._topics.get(name)
        if topic is None and not self._create:
            raise BackendError(Reason.REFUSED, "there is no such topic")
        if topic is None and not is_name(name):
            raise BackendError(Reason.REFUSED, f"this cannot be the name of a topic: {NAMES}")
        return topic

    def make(self, name: str) -> Topic:
        """A topic, made now where it is not there and may be."""
        topic = self.find(name)
        if topic is None and len(self._topics) >= self._max_topics:
            raise BackendError(Reason.REFUSED, f"there are {self._max_topics} topics already")
        return topic or self._made(name, 1)

    def all(self) -> list[Topic]:
        """Every topic."""
        return list(self._topics.values())

    def partitions(self) -> list[Partition]:
        """Every partition of every topic."""
        return [partition for topic in self._topics.values() for partition in topic.partitions]

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        return await (await self.admit(topic, message, deadline, partition=partition, route=route))

    async def admit(
        self,
        topic: str,
        message: Message,
        deadline: float,
        *,
        partition: int | None = None,
        route: str = "",
        ended: Callable[[bool], None] | None = None,
    ) -> asyncio.Future[Place]:
        del route
        size = self._check(topic, message, partition)
        return self._commits.admit(self._chosen(topic, message.key, partition), message, size, deadline, ended=ended)

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> Sequence[Place]:
        del route
        sizes = [self._check(post.topic, post.message, post.partition) for post in posts]
        placed = [
            (self._chosen(post.topic, post.message.key, post.partition), post.message, size)
            for post, size in zip(posts, sizes, strict=True)
        ]
        return await self._commits.append_all(placed, deadline) if placed else ()

    def _check(self, topic: str, message: Message, partition: int | None) -> int:
        """The size of a record. What cannot be written is refused before its topic is made, so that it leaves nothing behind."""
        size = size_of(message)
        if size > self._max_record_bytes + OVERHEAD:
            raise CallerError(Reason.TOO_LARGE, f"a record has {self._max_record_bytes} bytes at most")
        known = self.find(topic)
        count = len(known.partitions) if known is not None else 1
        if partition is not None and partition >= count:
            raise no_partition(count)
        return size

    def _chosen(self, topic: str, key: bytes | None, partition: int | None) -> Partition:
        found = self.make(topic)
        return found.choose(key) if partition is None else found.partitions[partition]

    async def starts(self, topic: str, *, named: Collection[int] = ()) -> Offsets:
        del named  # nobody else could know of more
        found = self.find(topic)
        return {partition.number: partition.start for partition in found.partitions} if found else {0: 0}

    async def ends(self, topic: str) -> Offsets:
        found = self.find(topic)
        return {partition.number: partition.next for partition in found.partitions} if found else {0: 0}

    async def at(self, topic: str, timestamp: int) -> Offsets:
        found = self.find(topic)
        if found is None:
            return {0: 0}
        try:
            return {partition.number: await self._since(partition, timestamp) for partition in found.partitions}
        except StoreError as error:
            raise BackendError(Reason.UNREACHABLE, f"the local log cannot be read: {error}") from error

    def make_compacted(self, topic: str) -> None:
        """See `Log.make_compacted`. Here nothing goes but what is forgotten."""
        # The gateway's own, so whether callers may make topics is no matter.
        found = self._topics.get(topic) or self._made(topic, 1)
        if len(found.partitions) > 1:
            raise not_compacted(f"it has {len(found.partitions)} partitions")
        found.compacted = True

    def forget(self, topic: str, offsets: Sequence[int]) -> None:
        """See `Log.forget`: they go with the next transaction, or a moment later."""
        found = self.find(topic)
        if found is None or not found.compacted:
            raise AssertionError(f"nothing is forgotten of {topic}: it is not compacted")
        self._commits.forget(found.partitions[0], offsets)

    @asynccontextmanager
    async def reading(self, topic: str, at: Offsets) -> AsyncIterator[LocalReader]:
        self.find(topic)
        yield LocalReader(self, topic, at)

    async def fetch(self, partition: Partition, at: int) -> list[Record]:
        """Records of a partition from an offset that has one. CallerError where retention was faster."""
        try:
            rows = await self._fetch(partition, at)
        except StoreError as error:
            raise BackendError(Reason.UNREACHABLE, f"the local log cannot be read: {error}") from error
        if (not rows or offset_of(rows[0][0]) != at) and not partition.topic.compacted:
            raise gone(partition.topic.name)
        return [_record(partition, row) for row in rows]

    async def written(self, topic: str) -> Sequence[Record]:
        """Wait for the next transaction with records of a topic, and return those; or nothing, after a second."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Sequence[Record]] = loop.create_future()
        self._waiting.setdefault(topic, []).append(waiting)
        timer = loop.call_later(WAIT_S, _resolve, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()
            others = self._waiting.get(topic, [])
            if waiting in others:
                others.remove(waiting)
                if not others:
                    del self._waiting[topic]

    def tell(self, written: Written) -> None:
        """Wake the readers of what was written."""
        if not self._waiting:
            return
        fresh: dict[str, list[Record]] = {}
        for message, place in written:
            if place.topic in self._waiting:
                fresh.setdefault(place.topic, []).append(
                    Record(
                        place.topic, place.partition, place.offset, place.timestamp, message.key, message.body, message.headers
                    )
                )
        for topic, records in fresh.items():
            for waiting in self._waiting.pop(topic):
                if not waiting.done():
                    waiting.set_result(records)


class LocalReader:
    """A place in a topic. Implements `gateway.topic.log.Reader`."""

    def __init__(self, source: LocalLog, topic: str, at: Offsets) -> None:
        self._log = source
        self._topic = topic
        self._at = dict(at)
        self._turn = 0

    @property
    def at(self) -> Offsets:
        return self._at

    async def read(self) -> Sequence[Record]:
        behind = self._behind()
        if behind is not None:
            end = behind.next
            records = await self._log.fetch(behind, self._at[behind.number])
            if not records:  # all of it is forgotten
                self._at[behind.number] = end
        else:
            # A transaction's records reach a waiting reader from memory; one that was busy reads them from the file.
            fresh = await self._log.written(self._topic)
            records = [record for record in fresh if record.partition in self._at and record.offset >= self._at[record.partition]]
        for record in records:
            self._at[record.partition] = record.offset + 1
        return records

    def _behind(self) -> Partition | None:
        """A partition that has more than was read, each in its turn. Raises `gone` where retention has overtaken the place."""
        topic = self._log.find(self._topic)
        if topic is None:
            return None
        count = len(topic.partitions)
        for step in range(count):
            number = (self._turn + step) % count
            partition = topic.partitions[number]
            at = self._at.get(number)
            if at is not None and at < partition.start:
                if not topic.compacted:
                    raise gone(self._topic)
                at = self._at[number] = partition.start
            if at is not None and at < partition.next:
                self._turn = number + 1
                return partition
        return None


def _record(partition: Partition, row: Row) -> Record:
    record, timestamp, _, key, body, headers = row
    return Record(
        partition.topic.name,
        partition.number,
        offset_of(record),
        timestamp,
        key,
        body,
        Headers((name, value) for name, value in json.loads(headers)) if headers else NO_HEADERS,
    )


def _resolve(waiting: asyncio.Future[Sequence[Record]]) -> None:
    if not waiting.done():
        waiting.set_result(())
