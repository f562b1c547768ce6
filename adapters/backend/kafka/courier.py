"""What carries records to the brokers: one courier for each, with one request under way at a time.

A record is handed over only when its request goes out; what comes meanwhile goes with the next. So while a broker is slow or
away, records stay in our own queue, from which they can be withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Self

from aiokafka import errors
from aiokafka.protocol.transaction import InitProducerIdRequest

from adapters.backend.kafka.batch import NO_ANSWER, Batch, produced
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.sending import Budget, Identity, Lane
from adapters.backend.kafka.settlement import Settlement
from adapters.backend.kafka.wire import AWAY, BACKOFF_S, TROUBLES, Settings
from gateway.backoff import pause
from gateway.errors import BackendError, GatewayError, Outcome, Reason, translating
from gateway.task import Tasks

log = logging.getLogger("polygate")

# A broker takes a hundred times as much (socket.request.max.bytes), but answers each request as a whole.
REQUEST_BYTES = 8 << 20
NO_TIMEOUT = (1 << 31) - 1


class Courier:
    """The partitions of one broker that have something to send, in their turns."""

    def __init__(self) -> None:
        self.lanes: dict[Lane, None] = {}
        self.hands: dict[Lane, Batch] = {}
        """What it is out with."""
        self.work = asyncio.Event()
        self.tries = 0


class Couriers:
    """One courier for each broker, made when it is needed. `stale` is told of topics whose partitions may have moved."""

    def __init__(self, settings: Settings, cluster: Cluster, budget: Budget, stale: Callable[[str], None]) -> None:
        self._settings = settings
        self._cluster = cluster
        self._budget = budget
        self._stale = stale
        self._settlement = Settlement(settings.name, budget, stale, self.offer, self._disown)
        self._tasks = Tasks()
        self._couriers: dict[int, Courier] = {}
        self._identity: Identity | None = None
        self._identifying = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closed = True
        await self._tasks.__aexit__()

    def offer(self, lane: Lane) -> None:
        """A lane has something to send, or may have."""
        if self._closed:
            return
        if lane.trouble is not None and lane.batch is not None:
            self._settlement.lost(lane, lane.batch)
            return
        lane.busy = True
        courier = self._couriers.get(lane.leader)
        if courier is None:
            courier = self._couriers[lane.leader] = Courier()
            self._tasks.spawn(self._carry(lane.leader, courier), f"courier to Kafka broker {lane.leader}")
        courier.lanes[lane] = None
        courier.work.set()

    def move(self, lane: Lane, leader: int) -> None:
        """Another broker leads a lane now."""
        courier = self._couriers.get(lane.leader)
        waits = courier is not None and lane in courier.lanes
        if courier is not None and waits:
            del courier.lanes[lane]
        lane.leader = leader
        if waits:
            self.offer(lane)

    def close(self, lane: Lane, error: BackendError) -> None:
        """Nothing can be written to a lane any more. Its place in the sequence is then not known to whoever comes after it."""
        lane.trouble = error
        self._identity = None
        for one in lane.emptied():
            self._budget.release(one)
            one.place.set_exception(error)
        courier = self._couriers.get(lane.leader)
        if courier is not None and lane in courier.lanes:
            # It waits for a broker that may never be back, and nobody will move it to another.
            del courier.lanes[lane]
            lane.busy = False
            if lane.batch is not None:
                self._settlement.lost(lane, lane.batch)

    async def identified(self) -> Identity:
        """Who we are to the brokers. BackendError where none tells."""
        async with self._identifying:
            if self._identity is None:
                with translating(*TROUBLES):
                    answer = await self._cluster.ask(InitProducerIdRequest(None, NO_TIMEOUT))
                    error = errors.for_code(answer.error_code)
                    if error is not errors.NoError:
                        raise error()
                self._identity = Identity(answer.producer_id, answer.producer_epoch)
            return self._identity

    def _disown(self, identity: Identity) -> None:
        """Go on under another number: this one's place in a sequence is not known."""
        if self._identity == identity:
            self._identity = None

    # Sending

    async def _carry(self, node: int, courier: Courier) -> None:
        while True:
            try:
                await self._round(node, courier)
            except Exception:  # whatever it is, the records of all callers hang on its going on
                log.exception("kafka %s: carrying records to broker %d failed, and goes on", self._settings.name, node)
                self._take_back(courier)
                await self._pause(courier)

    async def _round(self, node: int, courier: Courier) -> None:
        """Send what there is, once."""
        await courier.work.wait()
        turned = self._cluster.turned
        if node not in self._cluster.here:
            await turned.wait()
            return
        try:
            # First the connection: between being handed over and going out a record must not wait for anything.
            await self._cluster.broker(node).ready(self._settings.away_s)
            identity = await self.identified()
        except BackendError as error:
            await self._unidentified(courier, error)
            return
        except AWAY as error:
            log.warning("kafka %s: broker %d takes no connection: %r", self._settings.name, node, error)
            for lane in courier.lanes:
                self._stale(lane.topic)
            await self._pause(courier)
            return
        if node not in self._cluster.here:
            return
        self._load(courier, identity)
        if courier.hands:
            await self._deliver(node, courier)
        elif not courier.lanes:
            courier.work.clear()

    async def _unidentified(self, courier: Courier, error: BackendError) -> None:
        """Without a number of our own nothing can be sent; what is refused one will stay so."""
        if error.reason is Reason.REFUSED:
            for lane in courier.lanes:
                for one in lane.emptied():
                    self._budget.release(one)
                    one.place.set_exception(error)
        await self._pause(courier)

    def _load(self, courier: Courier, identity: Identity) -> None:
        """Take what goes with the next request: one batch of each lane, in their turns."""
        room = REQUEST_BYTES
        while courier.lanes and room > 0:
            lane = next(iter(courier.lanes))
            del courier.lanes[lane]
            batch = lane.batch or self._batch(lane, identity)
            if batch is None:
                lane.busy = False
                continue
            courier.hands[lane] = batch
            room -= len(batch.buffer)

    def _batch(self, lane: Lane, identity: Identity) -> Batch | None:
        records = lane.take()
        if not records:
            return None
        self._budget.flying += len(records)
        if lane.identity is None:
            lane.identity, lane.sequence = identity, 0
        try:
            lane.batch = Batch(
                lane.topic, lane.partition, records, lane.identity, lane.sequence, compression=self._settings.compression
            )
        except Exception:  # a record that cannot be packed must not end what carries all others
            log.exception("kafka %s: records for %s cannot be packed", self._settings.name, lane.topic)
            self._settlement.fail(
                records, GatewayError(Reason.BUG, "something went wrong here", outcome=Outcome.FAILED), "failed"
            )
            return self._batch(lane, identity)
        return lane.batch

    async def _deliver(self, node: int, courier: Courier) -> None:
        try:
            answers = await produced(self._cluster.broker(node), list(courier.hands.values()), self._settings)
        except AWAY as error:
            log.warning("kafka %s: broker %d did not answer: %r", self._settings.name, node, error)
            self._take_back(courier)
            await self._pause(courier)
            return
        courier.tries = 0
        while courier.hands:
            lane, batch = courier.hands.popitem()
            answer = answers.get((lane.topic, lane.partition), NO_ANSWER)
            if answer.error is errors.NoError:
                self._settlement.written(lane, batch, answer)
            else:
                self._settlement.refused(lane, batch, answer.error)

    def _take_back(self, courier: Courier) -> None:
        """Send what it was out with once more: nothing is known of that, or nothing of it was written."""
        while courier.hands:
            lane, batch = courier.hands.popitem()
            self._stale(lane.topic)
            self._settlement.again(lane, batch)

    async def _pause(self, courier: Courier) -> None:
        courier.tries += 1
        await asyncio.sleep(pause(courier.tries, BACKOFF_S))
