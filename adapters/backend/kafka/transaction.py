"""Several records all or none: a few transactional producers of Kafka, each with one transaction open at a time (KIP-98).

Whatever goes wrong before the commit is asked for is a definite failure, for a transaction that nobody commits counts for nothing
and ends by itself; after that only the coordinator knows, and it is asked until it tells.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from aiokafka import errors
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest

from adapters.backend.kafka.batch import NO_ANSWER, Batch, produced
from adapters.backend.kafka.catalog import Leaders
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.sending import Identity, Sending, chosen_by
from adapters.backend.kafka.wire import Settings
from gateway.errors import BackendError, Reason
from gateway.topic.log import Place, Post, no_partition

# What an open transaction may hold up readers who wait for its end, if we die in the middle of it and do not come back.
TIMEOUT_S = 60.0
# Between two transactions of one producer the coordinator writes the end of the first: some milliseconds.
SOON_S = 0.02
TRANSACTION = 1

_MOVED = frozenset({errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError})
_BUSY = frozenset({errors.ConcurrentTransactions, errors.GroupLoadInProgressError})


class Refused(Exception):  # noqa: N818  says what to do next
    """The coordinator, or a leader, said no; nothing is committed by it."""

    def __init__(self, error: type[errors.KafkaError]) -> None:
        super().__init__(error.__name__)
        self.error = error


class Producer:
    """One transactional producer. Opening it ends what another of its name has left open, here or in a process that died."""

    def __init__(self, name: str, settings: Settings, cluster: Cluster) -> None:
        self._name = name
        self._settings = settings
        self._cluster = cluster
        self._identity: Identity | None = None
        self._coordinator: int | None = None
        self._sequences: dict[tuple[str, int], int] = {}

    async def open(self) -> Identity:
        """Be given a number of our own. Raises Refused, and what AWAY lists."""
        request = InitProducerIdRequest(self._name, int(TIMEOUT_S * 1000))
        while self._identity is None:
            answer = await self._ask(request)
            error = errors.for_code(answer.error_code)
            if error is errors.NoError:
                self._sequences.clear()
                self._identity = Identity(answer.producer_id, answer.producer_epoch)
            else:
                await self._pardon(error)
        return self._identity

    def forget(self) -> None:
        """Nobody knows any more what it has open."""
        self._identity = None

    async def write(self, posts: Sequence[tuple[Sending, Post]]) -> list[Place]:
        """Write records that count once the transaction is committed. Raises Refused, BackendError, and what AWAY lists."""
        identity = await self.open()
        chosen = [await self._partition(post) for _, post in posts]
        await self._begin(identity, sorted(set(chosen)))
        waiting: dict[tuple[str, int], list[Sending]] = {}
        for (one, _), at in zip(posts, chosen, strict=True):
            waiting.setdefault(at, []).append(one)
        places: dict[Sending, Place] = {}
        while waiting:
            await self._send(identity, waiting, places)
        return [places[one] for one, _ in posts]

    async def commit(self) -> None:
        """Let what was written count. Raises Refused where that is not so, BackendError and what AWAY lists where it may be."""
        identity = self._identity
        if identity is None:
            raise AssertionError("what was written was written under it")
        request = EndTxnRequest(self._name, identity.id, identity.epoch, True)
        while True:
            error = errors.for_code((await self._ask(request)).error_code)
            if error is errors.NoError:
                return
            if error is errors.GroupCoordinatorNotAvailableError:
                # Its log did not take the end in time, and may have it all the same (Kafka's TransactionStateManager).
                self._coordinator = None
                raise error
            await self._pardon(error)

    async def _partition(self, post: Post) -> tuple[str, int]:
        leaders: Leaders = await self._cluster.topics.leaders(post.topic)
        if post.partition is not None and post.partition >= len(leaders):
            raise no_partition(len(leaders))
        if post.partition is not None:
            return post.topic, post.partition
        if post.message.key is not None:
            return post.topic, chosen_by(post.message.key, len(leaders))
        return post.topic, random.randrange(len(leaders))  # noqa: S311  spreads load, keeps no secret

    async def _begin(self, identity: Identity, partitions: Sequence[tuple[str, int]]) -> None:
        topics: dict[str, list[int]] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, []).append(partition)
        request = AddPartitionsToTxnRequest(self._name, identity.id, identity.epoch, list(topics.items()))
        while True:
            answer = await self._ask(request)
            codes = {code for _, told in answer.errors for _, code in told if code}
            if not codes:
                return
            # Where one partition is refused, the others say only that they were not looked at.
            kinds = {errors.for_code(code) for code in codes} - {errors.OperationNotAttempted}
            await self._pardon(next(iter(kinds), errors.UnknownError))

    async def _send(
        self, identity: Identity, waiting: dict[tuple[str, int], list[Sending]], places: dict[Sending, Place]
    ) -> None:
        """Send a batch for each partition, and take what was written out of what waits."""
        by_leader: dict[int, list[Batch]] = {}
        for (topic, partition), records in waiting.items():
            batch = Batch(
                topic,
                partition,
                _first(records, self._settings.batch),
                identity,
                self._sequences.get((topic, partition), 0),
                compression=self._settings.compression,
                transactional=True,
            )
            by_leader.setdefault((await self._cluster.topics.leaders(topic))[partition], []).append(batch)
        for leader, batches in by_leader.items():
            if leader not in self._cluster.here:
                raise BackendError(Reason.UNREACHABLE, "the broker of this partition cannot be reached")
            answers = await produced(self._cluster.broker(leader), batches, self._settings, self._name)
            for batch in batches:
                at = (batch.topic, batch.partition)
                answer = answers.get(at, NO_ANSWER)
                if answer.error is not errors.NoError:
                    self._cluster.topics.forget(batch.topic)
                    raise Refused(answer.error)
                self._sequences[at] = batch.following
                for offset, one in enumerate(batch.records, answer.offset):
                    places[one] = Place(*at, offset, one.timestamp if answer.timestamp < 0 else answer.timestamp)
                del waiting[at][: len(batch.records)]
                if not waiting[at]:
                    del waiting[at]

    async def _ask(self, request: object) -> Any:
        """The coordinator's response."""
        while self._coordinator is None or self._coordinator not in self._cluster.here:
            answer = await self._cluster.ask(FindCoordinatorRequest(self._name, TRANSACTION))
            error = errors.for_code(answer.error_code)
            if error is errors.NoError:
                self._coordinator = answer.coordinator_id
            if error is not errors.NoError or self._coordinator not in self._cluster.here:
                await self._pardon(errors.NotCoordinatorForGroupError if error is errors.NoError else error)
        return await self._cluster.ask(request, self._coordinator)

    async def _pardon(self, error: type[errors.KafkaError]) -> None:
        """Wait a little for what passes. Raises Refused for all else."""
        if error in _MOVED:
            self._coordinator = None
        elif error not in _BUSY:
            raise Refused(error)
        await asyncio.sleep(SOON_S)


def _first(records: Sequence[Sending], limit: int) -> list[Sending]:
    """So many of them as go in one batch, one at the least."""
    taken = [records[0]]
    size = records[0].size
    for one in records[1:]:
        size += one.size
        if size > limit:
            break
        taken.append(one)
    return taken
