"""What a topic keeps, and dropping the rest in the background, a little at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import islice

from pydantic import Field

from gateway.embedded.log import LocalLog
from gateway.embedded.row import Held
from gateway.embedded.store import Store
from gateway.embedded.topic import Partition
from gateway.part import Part

TRIM_RECORDS = 1000
LOOKS = 100


class Retention(Part):
    """How much each partition of a topic keeps. Whatever exceeds one of these is dropped, the oldest first."""

    records: int = Field(default=1_000_000, gt=0)
    """How many records."""
    seconds: float = Field(default=7 * 24 * 3600, gt=0)
    """For how long."""
    bytes: int = Field(default=1 << 30, gt=0)
    """How many bytes of records."""


class Sweeper:
    """Looks at every partition now and then. The file does not shrink: what is freed is used again."""

    def __init__(self, log: LocalLog, store: Store, rules: Callable[[str], Retention], every: float) -> None:
        self._log = log
        self._store = store
        self._rules = rules
        self._every = every

    async def run(self, blocking: Callable[..., Awaitable[list[int]]]) -> None:
        """Drop what is overdue until cancelled; `blocking` runs a function in the writing thread. StoreError where that fails."""
        while True:
            await asyncio.sleep(self._every)
            filled = iter([one for one in self._log.partitions() if one.next > one.start and not one.topic.compacted])
            while some := list(islice(filled, LOOKS)):
                for partition, to in zip(some, await blocking(self._overdue, [self._look(one) for one in some]), strict=True):
                    while partition.start < to:
                        step = min(partition.start + TRIM_RECORDS, to)
                        await blocking(self._store.trim, partition.id, partition.start, step)
                        partition.start = step

    def _look(self, partition: Partition) -> tuple[Held, int, int]:
        rule = self._rules(partition.topic.name)
        held = Held(
            partition.id,
            partition.topic.name,
            partition.number,
            max(partition.start, partition.next - rule.records),
            partition.next,
            partition.upto,
        )
        return held, int((time.time() - rule.seconds) * 1000), rule.bytes

    def _overdue(self, looks: list[tuple[Held, int, int]]) -> list[int]:
        return [self._store.overtaken(*look) for look in looks]
