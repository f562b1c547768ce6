"""Kafka's read side with a group: records are delivered, and committed once they are done with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors

from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.record import record_of
from adapters.backend.kafka.wire import AWAY, Settings, end
from gateway.errors import GatewayError
from gateway.port import Deliver, Subscription
from gateway.task import Tasks

log = logging.getLogger("polygate")

POLL_MS = 500
FETCH_BYTES = 8 << 20
PARTITION_BYTES = 256 << 10
SESSION_S = 10
# By its heartbeat a member learns that another has joined, so this is how long a rebalance takes.
HEARTBEAT_S = 1
REBALANCE_S = 30
# A partition that is taken away waits so long for its record in delivery, so that the group does not give us up meanwhile.
GRACE_S = 20
AGAIN_S = (0.1, 5.0)


class Term:
    """What a member does between two rebalances: each partition one record after the other, all partitions side by side."""

    def __init__(self, consumer: AIOKafkaConsumer, deliver: Deliver) -> None:
        self._consumer = consumer
        self._deliver = deliver
        self._tasks = Tasks()
        self._working: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._done: dict[TopicPartition, int] = {}
        self._more = asyncio.Event()
        self._tasks.spawn(self._commit(), "committing what was consumed")

    def take(self, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Work through these; no more is fetched of their partitions until that is done."""
        for partition, records in found.items():
            self._consumer.pause(partition)
            task = self._tasks.spawn(self._work(partition, records), f"consuming {partition.topic} {partition.partition}")
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        for record in records:
            if not await self._deliver_one(record):
                return
            self._done[partition] = record.offset + 1
            self._more.set()
        if not self._over.is_set():
            self._consumer.resume(partition)

    async def _deliver_one(self, record: Any) -> bool:
        """Deliver it, again and again if it must be; False where the term is over before it is done with."""
        pause = AGAIN_S[0]
        while not self._over.is_set():
            try:
                await self._deliver(record_of(record))
            except Exception:
                log.exception("%s %d:%d is delivered again in %.1f s", record.topic, record.partition, record.offset, pause)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._over.wait()
                pause = min(pause * 2, AGAIN_S[1])
            else:
                return True
        return False

    async def _commit(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._commit_done()

    async def _commit_done(self) -> None:
        done, self._done = self._done, {}
        if not done:
            return
        try:
            await self._consumer.commit(done)
        except (errors.CommitFailedError, errors.IllegalStateError) as error:
            log.warning("the group has moved on: %d partitions are delivered again from where they were (%r)", len(done), error)
        except errors.KafkaError as error:
            log.warning("what was consumed is not committed yet: %r", error)
            self._done = {**done, **self._done}
        except asyncio.CancelledError:
            # Not known to be committed: the last commit of the term says it again.
            self._done = {**done, **self._done}
            raise

    async def finish(self, grace: float, within: float) -> None:
        """Let what is in delivery come to its end, commit what is done with, and leave the rest to whoever is next."""
        self._over.set()
        if self._working:
            await asyncio.wait(set(self._working), timeout=grace)
        await self._tasks.__aexit__()
        try:
            async with asyncio.timeout(within):
                await self._commit_done()
        except TimeoutError:
            log.warning("what was consumed last is not committed, and is delivered again")


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """One member of a consumer group. Entered, it connects and joins in the background; left, it finishes and commits."""

    def __init__(self, settings: Settings, cluster: Cluster, subscription: Subscription, deliver: Deliver) -> None:
        self._settings = settings
        self._cluster = cluster
        self._subscription = subscription
        self._deliver = deliver
        self._stack = AsyncExitStack()
        self._consumer: AIOKafkaConsumer | None = None
        self._term: Term | None = None
        self._tried = asyncio.Event()

    async def __aenter__(self) -> Self:
        tasks = await self._stack.enter_async_context(Tasks())
        tasks.spawn(self._run(), f"group {self._subscription.group}")
        # A group that starts at latest has its place when this returns, if a broker is there.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.start_s):
                await self._cluster.tried.wait()
                if self._cluster.up.is_set():
                    await self._tried.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _run(self) -> None:
        pause = AGAIN_S[0]
        while True:
            try:
                await self._cluster.up.wait()
                async with asyncio.timeout(self._settings.start_s):
                    for topic in self._subscription.topics:
                        await self._cluster.leaders(topic)
                await self._consume()
            except (*AWAY, GatewayError) as error:
                log.warning("group %s waits %.1f s: %r", self._subscription.group, pause, error)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_S[1])

    async def _consume(self) -> None:
        """From joining the group to leaving it, which only an error or the end brings about."""
        consumer = AIOKafkaConsumer(
            **self._settings.client,
            group_id=self._subscription.group,
            auto_offset_reset=self._subscription.start,
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            session_timeout_ms=SESSION_S * 1000,
            heartbeat_interval_ms=HEARTBEAT_S * 1000,
            rebalance_timeout_ms=REBALANCE_S * 1000,
        )
        try:
            async with asyncio.timeout(self._settings.start_s):
                await consumer.start()
            self._consumer = consumer
            consumer.subscribe(self._subscription.topics, listener=self)
            while True:
                found = await consumer.getmany(timeout_ms=POLL_MS)
                if found and self._term is not None:
                    self._term.take(found)
        finally:
            await self._finish(self._settings.stop_s)
            self._consumer = None
            await end(consumer.stop, consumer._client.close, self._settings.stop_s)  # noqa: SLF001  `stop` alone may hang

    async def _finish(self, grace: float) -> None:
        term, self._term = self._term, None
        if term is not None:
            await term.finish(grace, self._settings.request_s)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called by the library before a rebalance: nothing of these partitions may be committed after it."""
        del revoked
        await self._finish(GRACE_S)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called by the library after a rebalance, before a record is fetched."""
        if self._consumer is None:
            return
        if self._subscription.start == "latest":
            await self._settle(self._consumer, assigned)
        self._term = Term(self._consumer, self._deliver)
        self._tried.set()

    async def _settle(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        """Commit where a new group begins: it would else begin anew, further on, if it ended before its first record."""
        try:
            async with asyncio.timeout(self._settings.request_s):
                fresh = [one for one in assigned if await consumer.committed(one) is None]
                await consumer.commit({one: await consumer.position(one) for one in fresh})
        except AWAY as error:
            log.warning("group %s has no place of its own yet: %r", self._subscription.group, error)
