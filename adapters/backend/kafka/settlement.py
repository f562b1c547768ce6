"""What becomes of a batch by what a broker says of it, and what those are told who wait for its records.

A batch that may have been written is sent again as it was, under the same number, until a broker says what became of it; one that
certainly was not is made anew of what still waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiokafka import errors

from adapters.backend.kafka.batch import AGAIN, DOUBT, LOST, OF_ONE, SILENT, TOO_LARGE, Answer, Batch
from adapters.backend.kafka.sending import Budget, Identity, Lane, Sending
from adapters.backend.kafka.wire import BACKOFF_S
from gateway.backoff import pause
from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.metric import Counter
from gateway.topic.log import Place

log = logging.getLogger("polygate")

LATE = Counter(
    "polygate_records_late",
    "Records that were told unknown, or whose caller had gone, by what became of them: acknowledged, failed, or lost to sight.",
    "backend",
    "fate",
)
REPLACED = Counter("polygate_producers_replaced", "Producers that had lost their place in a broker's sequence.", "backend")


class Settlement:
    """Settles the batches of one backend's lanes."""

    def __init__(
        self,
        name: str,
        budget: Budget,
        stale: Callable[[str], None],
        offer: Callable[[Lane], None],
        disown: Callable[[Identity], None],
    ) -> None:
        """`stale` is told of topics whose partitions may have moved, `offer` of lanes that have something to send, and `disown`
        of an identity whose place in a sequence is not known any more.
        """
        self._name = name
        self._budget = budget
        self._stale = stale
        self._offer = offer
        self._disown = disown

    def written(self, lane: Lane, batch: Batch, answer: Answer) -> None:
        lane.sequence = batch.following
        lane.tries = 0
        lane.recover()
        topic, partition, offset, timestamp = batch.topic, batch.partition, answer.offset, answer.timestamp
        late = 0
        for one in batch.records:
            self._budget.release(one)
            if one.place.done():
                late += 1
            else:
                one.slot.discard(one)
                one.place.set_result(Place(topic, partition, offset, one.timestamp if timestamp < 0 else timestamp))
            offset += 1
        if late:
            LATE.add(late, self._name, "acknowledged")
        self._budget.flying -= len(batch.records)
        self._settled(lane)

    def refused(self, lane: Lane, batch: Batch, error: type[errors.KafkaError]) -> None:
        """A broker did not take a batch."""
        if error in DOUBT or error in AGAIN:
            batch.doubtful = batch.doubtful or error in DOUBT
            self._stale(lane.topic)
            self.again(lane, batch)
        elif error in LOST:
            log.error("kafka %s: %s lost its place in the sequence: %r", self._name, lane.topic, error)
            REPLACED.add(1, self._name)
            self._renew(lane, batch)
            if batch.doubtful:
                self.lost(lane, batch)
            else:
                self.again(lane, batch)
        elif batch.doubtful or error in SILENT:
            # What the broker says now does not hold for the tries before this one.
            self.lost(lane, batch)
        elif error in TOO_LARGE and len(batch.records) > 1:
            lane.limit = max(sum(one.size for one in batch.records) // 2, 1)
            self._parted(lane, batch)
        elif error in OF_ONE and len(batch.records) > 1:
            lane.cut(len(batch.records))
            self._parted(lane, batch)
        elif error in TOO_LARGE:
            self._end(lane, batch, CallerError(Reason.TOO_LARGE, "the broker takes no record of this size"), "failed")
        else:
            log.warning("kafka %s: %s refuses a record: %r", self._name, lane.topic, error)
            lane.recover()
            self._end(lane, batch, BackendError(Reason.REFUSED, "the broker refuses this record"), "failed")

    def again(self, lane: Lane, batch: Batch) -> None:
        """Send it once more, after a pause: as it is where it may have been written, or else whatever of it still waits."""
        if lane.trouble is not None:
            if batch.doubtful:
                self.lost(lane, batch)
            else:
                self._end(lane, batch, lane.trouble, "failed")
            return
        if not batch.doubtful:
            self._give_back(lane, batch)
        lane.tries += 1
        asyncio.get_running_loop().call_later(pause(lane.tries, BACKOFF_S), self._offer, lane)

    def _parted(self, lane: Lane, batch: Batch) -> None:
        """Send it once more at once, in parts: it was not written, and the broker is well."""
        if lane.trouble is not None:
            self._end(lane, batch, lane.trouble, "failed")
            return
        self._give_back(lane, batch)
        self._settled(lane)

    def _give_back(self, lane: Lane, batch: Batch) -> None:
        """Let those wait again that somebody waits for."""
        for one in batch.records:
            if one.place.done():
                self._budget.release(one)
                LATE.add(1, self._name, "failed")
        self._budget.flying -= len(batch.records)
        lane.give_back([one for one in batch.records if not one.place.done()])
        lane.batch = None

    def lost(self, lane: Lane, batch: Batch) -> None:
        """Nobody can say any more whether it was written."""
        self._renew(lane, batch)
        error = BackendError(Reason.UNKNOWN_OUTCOME, "the record was sent, and the broker does not tell what became of it")
        self._end(lane, batch, error, "unknown")

    def _renew(self, lane: Lane, batch: Batch) -> None:
        """Where a lane is in its sequence is not known. It goes on under another number: under the same, the broker could take a
        record that it has never seen for one that it has.
        """
        lane.identity = None
        self._disown(batch.identity)

    def _end(self, lane: Lane, batch: Batch, error: GatewayError, fate: str) -> None:
        self.fail(batch.records, error, fate)
        self._settled(lane)

    def fail(self, records: list[Sending], error: GatewayError, fate: str) -> None:
        self._budget.flying -= len(records)
        for one in records:
            self._budget.release(one)
            if one.place.done():
                LATE.add(1, self._name, fate)
            else:
                one.slot.discard(one)
                one.place.set_exception(error)

    def _settled(self, lane: Lane) -> None:
        lane.batch = None
        lane.busy = False
        if lane.waits:
            self._offer(lane)
