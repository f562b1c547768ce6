"""Kafka's read side with a group: records are delivered, and committed once they are done with."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from math import nan
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors

from adapters.backend.kafka.catalog import EARLIEST, LATEST
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.mark import mark, marked
from adapters.backend.kafka.record import record_of
from adapters.backend.kafka.sticky import sticky
from adapters.backend.kafka.wire import AWAY, Settings, end
from gateway.backoff import Backoff
from gateway.delivery import DROPPED, LAG, Delivery
from gateway.errors import BackendError, GatewayError
from gateway.port import Deliver, Subscription
from gateway.task import Tasks

log = logging.getLogger("polygate")

POLL_MS = 500
# So many records at a time: a partition takes no more than this beyond what it may have in delivery.
POLL_RECORDS = 500
FETCH_BYTES = 8 << 20
PARTITION_BYTES = 256 << 10
# By its heartbeat a member learns that another has joined, so this is how long a rebalance takes.
HEARTBEAT_S = 1
REBALANCE_S = 30
# A partition that is taken away waits so long for its record in delivery, so that the group does not give us up meanwhile.
GRACE_S = 20
AGAIN_S = (0.1, 5.0)
COMMIT_AGAIN_S = 1.0
PUSHED_OUT_S = (1.0, 5.0)
# How old a lag may be that is shown: a broker is asked for it.
LAG_S = 5


Known = Mapping[TopicPartition, tuple[int, str]]
"""What the group has committed: the offset, -1 for none, and what was said with it."""


def _said(delivery: Delivery) -> tuple[int, str]:
    return delivery.at, mark(delivery.at, delivery.beyond)


class Term:
    """What a member does between two rebalances: all its partitions side by side."""

    def __init__(
        self, consumer: AIOKafkaConsumer, cluster: Cluster, subscription: Subscription, deliver: Deliver, known: Known
    ) -> None:
        self._consumer = consumer
        self._cluster = cluster
        self._tasks = Tasks()
        self._stack = ExitStack()
        self._moved: set[TopicPartition] = set()
        self._more = asyncio.Event()
        self._lag: dict[TopicPartition, float] = {}
        self._deliveries: dict[TopicPartition, Delivery] = {}
        for one in consumer.assignment():
            name = f"{one.topic} {one.partition}"
            finished = marked(*known[one]) if one in known else ()
            self._deliveries[one] = Delivery(subscription, deliver, name, partial(self._progress, one), finished)
            labels = (subscription.listener, one.topic, str(one.partition))
            self._stack.callback(LAG.watch(partial(self._lag_of, one), *labels))
        self._tasks.spawn(self._commit(), "committing what was consumed")
        self._tasks.spawn(self._measure(), "measuring what is still to be consumed")

    def take(self, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Deliver these. No more is fetched of a partition that has enough."""
        for one, records in found.items():
            delivery = self._deliveries[one]
            delivery.take([record_of(record) for record in records])
            if delivery.full:
                self._consumer.pause(one)
                self._tasks.spawn(self._resume(one, delivery), f"waiting for room for {one.topic} {one.partition}")

    async def _resume(self, one: TopicPartition, delivery: Delivery) -> None:
        await delivery.room()
        self._consumer.resume(one)

    def _progress(self, one: TopicPartition) -> None:
        self._moved.add(one)
        self._more.set()

    def _lag_of(self, one: TopicPartition) -> float:
        return self._lag.get(one, nan)

    async def _measure(self) -> None:
        while True:
            for topic in {one.topic for one in self._deliveries}:
                try:
                    async with asyncio.timeout(LAG_S):
                        await self._measure_topic(topic)
                except (*AWAY, GatewayError) as error:
                    log.debug("what is still to be consumed of %s is not known now: %r", topic, error)
                    self._lag = {one: lag for one, lag in self._lag.items() if one.topic != topic}
            await asyncio.sleep(LAG_S)

    async def _measure_topic(self, topic: str) -> None:
        ends = await self._cluster.topics.offsets(topic, LATEST)
        for one, delivery in self._deliveries.items():
            if one.topic == topic and one.partition in ends:
                first = delivery.first
                at = await self._consumer.position(one) if first is None else first
                self._lag[one] = max(ends[one.partition] - at, 0)

    async def _commit(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            if not await self._commit_done():
                # Not at once: a group that has moved on will not be told otherwise, and the term is over soon.
                await asyncio.sleep(COMMIT_AGAIN_S)
                self._more.set()

    async def _commit_done(self) -> bool:
        """Whether all that is done with is committed."""
        moved, self._moved = self._moved, set()
        if not moved:
            return True
        try:
            await self._consumer.commit({one: _said(self._deliveries[one]) for one in moved})
        except errors.KafkaError as error:
            log.warning("what was consumed of %d partitions is not committed yet: %r", len(moved), error)
        else:
            moved = set()
        finally:
            # Not known to be committed, or cancelled: the last commit of the term says it again.
            self._moved |= moved
        return not moved

    async def finish(self, grace: float, within: float) -> bool:
        """Let what is being tried come to its end, commit what is done with, and leave the rest to whoever is next. Whether what
        is done with is committed.
        """
        try:
            await asyncio.gather(*(delivery.leave(grace) for delivery in self._deliveries.values()))
        finally:
            self._stack.close()
            await self._tasks.__aexit__()
        committed = False
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                committed = await self._commit_done()
        if not committed:
            log.warning("what was consumed last of %d partitions is not committed, and is delivered again", len(self._moved))
        return committed


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
        self._failed: Exception | None = None
        self._tried = asyncio.Event()
        # For as long as it is a member, through every connection: what it had is what it should get again.
        self._sticky = sticky()

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
        backoff = Backoff(AGAIN_S)
        while True:
            try:
                await self._cluster.up.wait()
                async with asyncio.timeout(self._settings.start_s):
                    await self._all_there()
                await self._consume()
            except (*AWAY, GatewayError) as error:
                log.warning("group %s waits %.1f s: %r", self._subscription.group, backoff.seconds, error)
            self._tried.set()
            await backoff.wait()

    async def _all_there(self) -> None:
        """See that there is every topic: a group would take one that is not for one without partitions. BackendError."""
        for topic in self._subscription.topics:
            try:
                await self._cluster.topics.leaders(topic)
            except BackendError as error:
                raise BackendError(error.reason, f"{topic}: {error.message}") from error

    async def _consume(self) -> None:
        """From joining the group to leaving it, which only an error or the end brings about."""
        consumer = AIOKafkaConsumer(
            **self._settings.client,
            group_id=self._subscription.group,
            # For a group that retention has overtaken; where a new one starts, it is told. By `latest` the former would skip all.
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            partition_assignment_strategy=[self._sticky],
            group_instance_id=self._subscription.instance,
            session_timeout_ms=int(self._subscription.session * 1000),
            heartbeat_interval_ms=int(min(HEARTBEAT_S, self._subscription.session / 3) * 1000),
            rebalance_timeout_ms=REBALANCE_S * 1000,
        )
        try:
            async with asyncio.timeout(self._settings.start_s):
                await consumer.start()
            self._consumer = consumer
            consumer.subscribe(self._subscription.topics, listener=self)
            while True:
                if self._failed is not None:
                    raise self._failed
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                if found and self._term is not None:
                    self._term.take(found)
        finally:
            self._consumer = self._failed = None
            await self._finish(self._settings.stop_s)
            await end(consumer.stop, consumer._client.close, self._settings.stop_s)  # noqa: SLF001  `stop` alone may hang

    async def _finish(self, grace: float) -> bool:
        term, self._term = self._term, None
        return term is None or await term.finish(grace, self._settings.request_s)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called by the library before a rebalance: nothing of these partitions may be committed after it."""
        del revoked
        if not await self._finish(GRACE_S):
            # The group has gone on without this member. Where another has its name, each would push the other out at once.
            await asyncio.sleep(random.uniform(*PUSHED_OUT_S))  # noqa: S311  jitter, not a secret

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called by the library after a rebalance, before a record is fetched."""
        consumer = self._consumer
        if consumer is None:
            return
        # A record that came before the term has begun would be passed over.
        consumer.pause(*assigned)
        # The library has this for its assignment, and forgets to call it (aiokafka issue 1176).
        self._sticky.on_generation_assignment(consumer._coordinator.generation)  # noqa: SLF001
        try:
            async with asyncio.timeout(self._settings.request_s):
                known = await self._known(consumer, assigned)
                if self._subscription.start == "latest":
                    await self._settle(consumer, [one for one, (offset, _) in known.items() if offset < 0])
        except (*AWAY, GatewayError) as error:
            # The library would only log it.
            self._failed = error
            return
        if consumer == self._consumer:
            self._term = Term(consumer, self._cluster, self._subscription, self._deliver, known)
            consumer.resume(*assigned)
            self._tried.set()

    async def _known(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> Known:
        """What the group has committed of these. What retention has taken since is counted."""
        # The library's own `committed` leaves out what is said with an offset.
        found = await consumer._coordinator.fetch_committed_offsets(assigned)  # noqa: SLF001
        starts = {topic: await self._cluster.topics.offsets(topic, EARLIEST) for topic in {one.topic for one in found}}
        for one, committed in found.items():
            dropped = starts[one.topic].get(one.partition, 0) - committed.offset
            if dropped > 0:
                DROPPED.add(dropped, self._subscription.listener, one.topic)
                log.warning("%s %d: %d records from %d on were dropped undelivered", *one, dropped, committed.offset)
        return {one: (found[one].offset, found[one].metadata) if one in found else (-1, "") for one in assigned}

    async def _settle(self, consumer: AIOKafkaConsumer, fresh: Sequence[TopicPartition]) -> None:
        """Start a new group at the end, and commit that: it would else start anew, further on, if it ended before its first
        record.
        """
        if fresh:
            ends = await consumer.end_offsets(fresh)
            for one, end_ in ends.items():
                consumer.seek(one, end_)
            await consumer.commit(ends)
