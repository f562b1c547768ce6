"""A gateway's own partition of a reply topic that several share, so that each need not read the replies of all.

That it is nobody else's only saves reading: what a gateway waits for is told by its correlation ids, so two that come to have one
partition, because there are not enough or because a claim could not be renewed in time, lose nothing by it.
"""

from __future__ import annotations

import asyncio
import logging
import random

from gateway.errors import GatewayError
from gateway.state import State
from gateway.task import Tasks

log = logging.getLogger("polygate")

LEASE_S = 30.0
"""How long a gateway that ended without a word keeps its partition."""


class Seat:
    """The partition of one reply topic that is this gateway's: by config, or the first that no other has claimed."""

    def __init__(self, backend: str, topic: str, *, fixed: int | None, state: State | None) -> None:
        self.partition = fixed
        """None until it is taken."""
        self._topic = topic
        self._key = f"replies:{backend}:{topic}:"
        self._state = state

    async def take(self, count: int, life: str, tasks: Tasks) -> int:
        """The partition, of so many; claimed for as long as `tasks` run. BackendError where the state cannot be asked."""
        if self.partition is None:
            assert self._state is not None  # noqa: S101  a target whose config says no partition needs the state
            first = random.randrange(count)  # noqa: S311  to spread them, not a secret
            order = [(first + number) % count for number in range(count)]
            for partition in order:
                if await self._state.claim(self._key + str(partition), life.encode(), LEASE_S) in {None, life.encode()}:
                    tasks.spawn(self._renew(self._state, partition, life.encode()), f"partition of {self._topic}")
                    self.partition = partition
                    return partition
            log.warning("%s has fewer partitions than gateways: partition %d is shared", self._topic, first)
            self.partition = first
        return self.partition

    async def _renew(self, state: State, partition: int, life: bytes) -> None:
        """Hold it. Who cannot renews its claim later, or shares the partition with whoever took it."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                other = await state.claim(self._key + str(partition), life, LEASE_S, over=life)
            except GatewayError as error:
                log.warning("partition %d of %s is not claimed anew yet: %s", partition, self._topic, error.message)
                continue
            if other is not None:
                log.warning("partition %d of %s is shared with another gateway now", partition, self._topic)
