"""Forwarding: what waits for one backend goes to its log, in order per key, until the log has it or says that it never will.

A few workers share the lanes. A lane's records go one after the other; one that failed for now is tried again after a pause, in
which its lane waits and its worker does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.backoff import pause
from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.spool.record import Stored
from gateway.task import Tasks
from gateway.topic.log import Log

log = logging.getLogger("polygate")

IN_FLIGHT = 64
ATTEMPT_S = 10.0
PAUSE_S = (0.1, 5.0)
# A refusal may pass, as while a topic is being made: it is believed when it has been said so often in a row.
REFUSALS = 3

Settle = Callable[[Stored, str], Awaitable[None]]
"""settle(record, why): it is written where `why` is "", else it never will be. GatewayError where that cannot be noted now."""


@dataclass(slots=True, eq=False)
class _Lane:
    """Records that keep their order."""

    key: object
    records: deque[Stored] = field(default_factory=deque)
    tries: int = 0
    refusals: int = 0


class Forwarder:
    """Writes the records of one backend. Give it records as they were stored, while it has `room`."""

    def __init__(self, name: str, target: Log, settle: Settle, max_age: float, most: tuple[int, int]) -> None:
        """`name` is the backend's; `most` is how many records it holds at a time, and how many bytes."""
        self._name = name
        self._target = target
        self._settle = settle
        self._max_age = max_age
        self._most, self._most_bytes = most
        self._lanes: dict[object, _Lane] = {}
        self._ready: asyncio.Queue[_Lane] = asyncio.Queue()  # bounded by the lanes, these by `room`
        self._held = 0
        self._bytes = 0
        self._changed = asyncio.Event()
        self._away = False

    @property
    def away(self) -> bool:
        """Whether the latest attempt found the backend away."""
        return self._away

    async def room(self) -> None:
        """Wait until more may be given."""
        while self._held >= self._most or self._bytes >= self._most_bytes:
            self._changed.clear()
            await self._changed.wait()

    def give(self, record: Stored) -> None:
        """Forward one record, after those of its lane that were given before."""
        self._held += 1
        self._bytes += record.size
        lane = self._lanes.get(record.lane)
        if lane is None:
            lane = self._lanes[record.lane] = _Lane(record.lane)
            self._ready.put_nowait(lane)
        lane.records.append(record)

    def begin(self, tasks: Tasks) -> None:
        """Begin to forward, by tasks of a part."""
        for number in range(IN_FLIGHT):
            tasks.spawn(self._work(), f"forwarding to {self._name} ({number})")

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            record = lane.records[0]
            if not await self._tried(lane, record):
                lane.tries += 1
                asyncio.get_running_loop().call_later(pause(lane.tries, PAUSE_S), self._ready.put_nowait, lane)
                continue
            lane.tries = lane.refusals = 0
            lane.records.popleft()
            self._held -= 1
            self._bytes -= record.size
            self._changed.set()
            if lane.records:
                self._ready.put_nowait(lane)
            else:
                del self._lanes[lane.key]

    async def _tried(self, lane: _Lane, record: Stored) -> bool:
        """Whether a record is done with."""
        try:
            await self._settle(record, await self._written(lane, record))
        except GatewayError as error:
            if error.reason is not Reason.REFUSED:
                self._told(error.message)
            return False
        except Exception:
            log.exception("forwarding to %s", self._name)
            return False
        return True

    async def _written(self, lane: _Lane, record: Stored) -> str:
        """Write a record, or say why it never can be. Raises where that is not known yet."""
        if time.time() - record.timestamp / 1000 > self._max_age:
            return f"it was older than {self._max_age:.0f} s"
        deadline = asyncio.get_running_loop().time() + ATTEMPT_S
        try:
            await self._target.append(record.topic, record.message, deadline, partition=record.partition)
        except CallerError as error:
            return error.message
        except BackendError as error:
            if error.reason is not Reason.REFUSED:
                raise
            await self._at_all()
            lane.refusals += 1
            if lane.refusals < REFUSALS:
                raise
            return error.message
        if self._away:
            self._away = False
            log.info("spool: %s takes records again", self._name)
        return ""

    async def _at_all(self) -> None:
        """Raise where nothing is taken, as with a wrong password: that a record is refused says nothing of the record then."""
        try:
            await self._target.check()
        except BackendError as error:
            raise BackendError(Reason.UNREACHABLE, error.message) from error

    def _told(self, why: str) -> None:
        if not self._away:
            self._away = True
            log.warning("spool: records for %s wait: %s", self._name, why)
