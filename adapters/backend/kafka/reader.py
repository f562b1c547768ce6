"""Kafka's read side without a group: readers for tails, over a few consumers that are used again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.record import record_of
from adapters.backend.kafka.wire import TROUBLES, Settings, end
from gateway.errors import BackendError, Reason, translating
from gateway.port import Record
from gateway.task import Tasks
from gateway.topic.log import Offsets, gone

log = logging.getLogger("polygate")

CONSUMERS = 4
BATCH = 500
WAIT_MS = 1000
FETCH_BYTES = 8 << 20
PARTITION_BYTES = 1 << 20

UNREADABLE = (errors.CorruptRecordException, errors.UnsupportedCodecError, errors.RecordTooLargeError)


class Lease:
    """A consumer on loan: one of a few at first, one of its own from the second read on."""

    def __init__(self, consumer: AIOKafkaConsumer, few: asyncio.Semaphore) -> None:
        self.consumer = consumer
        self.sound = True
        self._few: asyncio.Semaphore | None = few

    def release(self) -> None:
        """Stand no longer in the way of those who only take a step into history."""
        few, self._few = self._few, None
        if few is not None:
            few.release()


class KafkaReader:
    """See `gateway.topic.log.Reader`."""

    def __init__(self, lease: Lease, cluster: Cluster, topic: str, at: Offsets) -> None:
        self._lease = lease
        self._cluster = cluster
        self._topic = topic
        self._at = dict(at)
        self._partitions = [TopicPartition(topic, partition) for partition in at]
        self._resting = False

    @property
    def at(self) -> Offsets:
        return dict(self._at)

    async def read(self) -> Sequence[Record]:
        consumer = self._lease.consumer
        first = not self._resting
        if self._resting:
            self._lease.release()
            consumer.resume(*self._partitions)
        try:
            with translating((UNREADABLE, Reason.BAD_ANSWER, "a record of this topic cannot be read"), *TROUBLES):
                found = await consumer.getmany(timeout_ms=WAIT_MS, max_records=BATCH)
                if not found:
                    await self._living(consumer)
        except BackendError as error:
            self._lease.sound = False
            if isinstance(error.__cause__, errors.OffsetOutOfRangeError):
                raise gone(self._topic) from error.__cause__
            raise
        if first and not self._resting:
            # Whoever reads once leaves no request behind: the broker would answer the next reader's only after it.
            consumer.pause(*self._partitions)
            self._resting = True
        # A place moves without a record too: over a transaction's marker, over what was compacted away.
        for one in found or self._partitions:
            self._at[one.partition] = await consumer.position(one)
        return [record_of(record) for records in found.values() for record in records]

    async def _living(self, consumer: AIOKafkaConsumer) -> None:
        """Nothing came: see that something could have."""
        if consumer._fetcher.error_future.done():  # noqa: SLF001  a consumer whose fetcher has died waits in silence
            raise BackendError(Reason.UNREACHABLE, "the reader broke and must be opened anew")
        if self._cluster.up.is_set() and consumer.partitions_for_topic(self._topic) is None:
            self._cluster.topics.forget(self._topic)
            async with asyncio.timeout(WAIT_MS / 1000):
                await self._cluster.topics.leaders(self._topic)


class Readers:
    """The consumers of one cluster that belong to no group."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._few = asyncio.Semaphore(CONSUMERS)
        self._idle: list[AIOKafkaConsumer] = []
        self._tasks = Tasks()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closed = True
        while self._idle:
            await self._close(self._idle.pop())
        await self._tasks.__aexit__(*error)

    @asynccontextmanager
    async def reading(self, topic: str, at: Offsets) -> AsyncIterator[KafkaReader]:
        """See `Log.reading`."""
        at = dict(at)  # a feed's own place goes on, and comes to have partitions that this consumer never had
        lease = await self._lease(topic)
        try:
            _place(lease.consumer, topic, at)
            yield KafkaReader(lease, self._cluster, topic, at)
        finally:
            lease.release()
            self._back(lease, topic, at)

    async def _lease(self, topic: str) -> Lease:
        self._cluster.refuse()
        try:
            async with asyncio.timeout(self._settings.start_s):
                await self._few.acquire()
        except TimeoutError as error:
            raise BackendError(Reason.OVERLOADED, "too many callers read history at once") from error
        lease = None
        try:
            at = next((at for at, one in enumerate(self._idle) if _topic(one) == topic), -1)
            lease = Lease(self._idle.pop(at) if self._idle else await self._open(), self._few)
        finally:
            if lease is None:
                self._few.release()
        return lease

    def _back(self, lease: Lease, topic: str, at: Offsets) -> None:
        """Keep a consumer for the next reader, unless it is broken or one too many."""
        consumer = lease.consumer
        if lease.sound and not self._closed and len(self._idle) < CONSUMERS:
            consumer.pause(*(TopicPartition(topic, partition) for partition in at))
            self._idle.append(consumer)
        else:
            self._tasks.spawn(self._close(consumer), "closing a Kafka consumer")

    async def _open(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._settings.client,
            group_id=None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
        )
        try:
            with translating(*TROUBLES):
                async with asyncio.timeout(self._settings.start_s):
                    await consumer.start()
        except BaseException:
            await self._close(consumer)
            raise
        return consumer

    async def _close(self, consumer: AIOKafkaConsumer) -> None:
        await end(consumer.stop, consumer._client.close, self._settings.stop_s)  # noqa: SLF001  `stop` alone may hang


def _topic(consumer: AIOKafkaConsumer) -> str | None:
    return next((one.topic for one in consumer.assignment()), None)


def _place(consumer: AIOKafkaConsumer, topic: str, at: Offsets) -> None:
    """Put a consumer where a reader begins."""
    wanted = {TopicPartition(topic, partition): offset for partition, offset in at.items()}
    if consumer.assignment() == set(wanted):
        consumer.resume(*wanted)
    else:
        consumer.assign(list(wanted))
    for partition, offset in wanted.items():
        consumer.seek(partition, offset)
