"""Kafka's write side: one idempotent producer, a deadline for every record, and a budget for what it holds.

A record that the library has taken cannot be withdrawn: it may be written hours later. So whoever gives up on one is told that
its outcome is unknown, and its bytes stay in the budget until the library lets go of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Self

from aiokafka import AIOKafkaProducer, TopicPartition, errors

from adapters.backend.kafka.cluster import NO_LEADER, Cluster
from adapters.backend.kafka.record import headers_to, size_of
from adapters.backend.kafka.sending import Door, Given, Lanes, Sending, chosen_by
from adapters.backend.kafka.wire import AWAY, BACKOFF_S, REFUSALS, TROUBLES, Settings
from gateway.errors import BackendError, CallerError, GatewayError, Reason, translating
from gateway.message import Message
from gateway.task import Tasks
from gateway.topic.log import Place, no_partition

log = logging.getLogger("polygate")

TICK_S = 0.02
FAR_S = 60.0

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
# Nobody else will say that these were not written; and after the last four a producer gets nothing through any more.
_LOST = (errors.ProducerFenced, errors.OutOfOrderSequenceNumber, errors.UnknownProducerId, errors.InvalidProducerIdMapping)


class Writer:
    """Appends records. Entering connects in the background; leaving waits for what was taken, but no longer than it is told."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[str, Lanes] = {}
        self._doors: dict[str, Door] = {}
        self._changed = asyncio.Event()
        self._broken = asyncio.Event()
        self._slots: dict[float, set[Sending]] = {}
        self.held = 0
        self.late_acknowledged = 0
        self.late_failed = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        self._tasks.spawn(self._run(), "Kafka producer")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._stop(producer)
        for slot in list(self._slots):
            self._fire(slot)

    # Connecting

    async def _run(self) -> None:
        """Keep a producer that works: one that can never send again is replaced."""
        pause = BACKOFF_S[0]
        while True:
            await self._cluster.up.wait()
            try:
                producer = await self._start()
            except AWAY as error:
                log.warning("kafka: no producer yet: %r", error)
                self._changed.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_S[1])
                continue
            pause = BACKOFF_S[0]
            self._broken.clear()
            self._producer = producer
            self._changed.set()
            await self._broken.wait()
            log.error("kafka: the producer lost its place in the broker's sequence and is replaced")
            self._producer = None
            self._lanes.clear()
            self._changed.clear()
            await self._stop(producer)

    async def _start(self) -> AIOKafkaProducer:
        settings = self._settings
        producer = AIOKafkaProducer(
            **settings.client,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            compression_type=settings.compression,
            max_batch_size=settings.batch,
            # The library's own measure is a little larger than ours.
            max_request_size=settings.record + 4096,
        )
        try:
            async with asyncio.timeout(settings.start_s):
                await producer.start()
        except BaseException:
            await self._stop(producer)
            raise
        producer.client.cluster.add_listener(partial(self._relead, producer))
        return producer

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        """Wait for what it holds; then, or when the time is up, end it, although its own `stop` would hang."""
        try:
            async with asyncio.timeout(self._settings.stop_s):
                await producer.stop()
        except TimeoutError:
            log.warning("kafka: records that were sent are not acknowledged at the end")
            sender = producer._sender.sender_task  # noqa: SLF001  there is no other way to end it
            while sender is not None and not sender.done():
                sender.cancel()
                await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await producer.client.close()
        except AWAY as error:
            log.warning("kafka: the producer did not end well: %r", error)

    def _relead(self, producer: AIOKafkaProducer, metadata: Any) -> None:
        """New metadata: keep who leads what. A topic that is no longer there is looked for at its next record."""
        if producer is not self._producer:
            return
        for topic in list(self._lanes):
            leaders = _leaders(metadata, topic)
            if leaders is None:
                del self._lanes[topic]
                self._cluster.forget(topic)
            elif len(leaders) == len(self._lanes[topic].leaders):
                self._lanes[topic].leaders = leaders
            else:
                self._lanes[topic] = Lanes(leaders)

    async def _ready(self, topic: str, deadline: float) -> tuple[AIOKafkaProducer, Lanes]:
        """The producer and the lanes of a topic that it has not sent to before; to all who ask, in the order they came."""
        door = self._doors.setdefault(topic, Door())
        door.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._cluster.tried.wait()
                self._cluster.refuse()
                async with door.turn:
                    return await self._open(topic)
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker did not say in time where to write") from error
        finally:
            door.waiting -= 1
            if not door.waiting:
                del self._doors[topic]

    async def _open(self, topic: str) -> tuple[AIOKafkaProducer, Lanes]:
        while True:
            self._cluster.refuse()
            await self._changed.wait()
            producer, lanes = self._producer, self._lanes.get(topic)
            if producer is None:
                raise BackendError(Reason.UNREACHABLE, "the broker cannot be reached")
            if lanes is not None:
                return producer, lanes
            with translating(*TROUBLES):
                await self._cluster.leaders(topic)
                await self._join(producer, topic)
            if topic not in self._lanes:
                self._cluster.forget(topic)
                await asyncio.sleep(BACKOFF_S[0] / 2)

    async def _join(self, producer: AIOKafkaProducer, topic: str) -> None:
        client = producer.client
        if client.cluster.partitions_for_topic(topic) is None:
            client.add_topic(topic)
            await client.force_metadata_update()
        leaders = _leaders(client.cluster, topic)
        if leaders is not None and topic not in self._lanes:
            self._lanes[topic] = Lanes(leaders)

    async def check(self, within: float) -> None:
        """Raise the BackendError that a record would be answered with now; wait a little for what has only begun to connect."""
        try:
            async with asyncio.timeout(within):
                await self._cluster.tried.wait()
                self._cluster.refuse()
                await self._changed.wait()
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker has not answered yet") from error
        if self._producer is None:
            raise BackendError(Reason.UNREACHABLE, "the broker cannot be reached")

    # Sending

    async def append(self, topic: str, message: Message, deadline: float, *, partition: int | None = None) -> Place:
        """See `Log.append`."""
        producer, lanes = self._producer, self._lanes.get(topic)
        headers = headers_to(message.headers)
        size = size_of(message, headers)
        if size > self._settings.record:
            raise CallerError(Reason.TOO_LARGE, f"a record of this topic holds at most {self._settings.record} bytes")
        if producer is None or lanes is None or topic in self._doors:
            producer, lanes = await self._ready(topic, deadline)
        partition = self._partition(lanes, message.key, partition)
        if self.held + size > self._settings.buffer:
            raise BackendError(Reason.OVERLOADED, "too many records are waiting for the broker")
        waiting = self._due(deadline)
        sending = Sending(size)
        waiting.add(sending)
        self.held += size
        # Ours to the millisecond: the library gives all records of a batch the time of the first.
        timestamp = int(time.time() * 1000)
        turn = lanes.turns[partition]
        try:
            if turn.taken:
                await turn.wait()
            turn.taken = True
            try:
                sending.future = await producer.send(topic, message.body, message.key, partition, timestamp, headers)
            finally:
                turn.leave()
            written = await sending.future
        except BaseException as error:
            waiting.discard(sending)
            if isinstance(error, Given):
                self._cluster.silent(lanes.leaders[partition], sending.since)
            raise self._failed(sending, error) from error
        waiting.discard(sending)
        self.held -= size
        return Place(topic, partition, written.offset, timestamp if written.timestamp_type == 0 else written.timestamp)

    def _partition(self, lanes: Lanes, key: bytes | None, told: int | None) -> int:
        """Where a record goes. BackendError where there is no such partition, or its broker is known to be away."""
        leaders, away = lanes.leaders, self._cluster.away
        if told is not None and told >= len(leaders):
            raise no_partition(len(leaders))
        if told is not None or key is not None:
            partition = told if told is not None else chosen_by(key or b"", len(leaders))
            if leaders[partition] not in away and leaders[partition] != NO_LEADER:
                return partition
        else:
            present = [one for one, leader in enumerate(leaders) if leader not in away and leader != NO_LEADER]
            if present:
                return random.choice(present)  # noqa: S311  spreads load, keeps no secret
        self._cluster.refuse()
        raise BackendError(Reason.UNREACHABLE, "the broker of this partition cannot be reached")

    def _due(self, deadline: float) -> set[Sending]:
        """Those that share a deadline, to TICK_S (a timer for each record would cost a third of sending it)."""
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left < TICK_S:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the record could be sent")
        slot = deadline // TICK_S * TICK_S if left < FAR_S else deadline // 1
        waiting = self._slots.get(slot)
        if waiting is None:
            waiting = self._slots[slot] = set()
            loop.call_at(slot, self._fire, slot)
        return waiting

    def _fire(self, slot: float) -> None:
        for sending in self._slots.pop(slot, ()):
            sending.expire()

    def _failed(self, sending: Sending, error: BaseException) -> BaseException:
        """What to raise for a record that was not acknowledged; see to its bytes."""
        future = sending.future
        if future is None:
            self.held -= sending.size
            return self._unsent(sending, error)
        if isinstance(error, asyncio.CancelledError | Given):
            self._follow(sending, future)
            if isinstance(error, Given):
                return BackendError(Reason.UNKNOWN_OUTCOME, "the record was sent, and the broker did not acknowledge it in time")
            return error
        self.held -= sending.size
        return self._told(error, Reason.UNKNOWN_OUTCOME, "the record was sent, and the broker did not acknowledge it")

    def _unsent(self, sending: Sending, error: BaseException) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            # The second condition: somebody else cancelled it too, and that is not ours to swallow.
            task = asyncio.current_task()
            if sending.task is None and task is not None and task.uncancel() == 0:
                return BackendError(Reason.UNREACHABLE, "the broker takes no more records now")
            return error
        return self._told(error, Reason.UNREACHABLE, "the broker takes no more records now")

    def _told(self, error: BaseException, otherwise: Reason, message: str) -> BaseException:
        """What an error of the library means; `otherwise` where it says nothing of the record itself."""
        if isinstance(error, _TOO_LARGE):
            return _too_large()
        if isinstance(error, REFUSALS):
            return BackendError(Reason.REFUSED, "the broker refuses this record")
        if isinstance(error, errors.KafkaError):
            self._suspect(error)
            return BackendError(otherwise, message)
        return error

    def _suspect(self, error: BaseException) -> None:
        """See whether the producer has come to its end."""
        producer = self._producer
        sender = producer._sender.sender_task if producer is not None else None  # noqa: SLF001  nothing else tells
        if isinstance(error, _LOST) or (sender is not None and sender.done()):
            self._broken.set()

    def _follow(self, sending: Sending, future: asyncio.Future[Any]) -> None:
        """Nobody waits for this record any more: find the batch that it is in, and learn from that what became of it."""
        producer = self._producer
        if producer is not None:
            held = producer._message_accumulator  # noqa: SLF001  a record's own future is used up, the batch's is not
            for batch in (*held._pending_batches, *(one for waiting in held._batches.values() for one in waiting)):  # noqa: SLF001
                if any(future is one for one, _ in batch._msg_futures):  # noqa: SLF001
                    batch.future.add_done_callback(partial(self._settled, sending))
                    return
        self.held -= sending.size

    def _settled(self, sending: Sending, batch: asyncio.Future[Any]) -> None:
        self.held -= sending.size
        if batch.cancelled() or batch.exception() is not None:
            self.late_failed += 1
        else:
            self.late_acknowledged += 1


def _leaders(metadata: Any, topic: str) -> list[int] | None:
    """Who leads each partition of a topic, in order; None where it is unknown."""
    partitions = metadata.partitions_for_topic(topic)
    if not partitions:
        return None
    found = [metadata.leader_for_partition(TopicPartition(topic, partition)) for partition in sorted(partitions)]
    return [NO_LEADER if leader is None else leader for leader in found]


def _too_large() -> GatewayError:
    return CallerError(Reason.TOO_LARGE, "the broker takes no record of this size")
