"""The queue of one backend in one file: records wait in it until the backend's log has them."""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from dataclasses import replace
from functools import partial

from gateway.embedded import Embedded
from gateway.errors import GatewayError
from gateway.metric import Counter
from gateway.spool.forward import Forwarder
from gateway.spool.record import ASIDE, WAITING, Stored, kept_in, opened, wrapped
from gateway.task import Tasks
from gateway.topic.log import Log
from gateway.topic.write import lane

log = logging.getLogger("polygate")

FORWARDED = Counter("polygate_spool_forwarded", "Records of the spool that their backend has got.", "backend")
SET_ASIDE = Counter("polygate_spool_set_aside", "Records of the spool that cannot be forwarded and were set aside.", "backend")

# How many records, and bytes, one forwarder holds of what may be millions in the file.
WINDOW = (1024, 16 << 20)
# Keys that wait are counted by their hash: where two share a number one only takes the longer way.
BUCKETS = 1 << 16
NOTED_S = 10.0
AGAIN_S = 1.0


class Queue:
    """Forwards from its start to its end, and goes on with what comes."""

    def __init__(self, file: Embedded, backend: str, target: Log, max_age: float) -> None:
        self._file = file
        self._backend = backend
        self._waiting = kept_in(WAITING, backend)
        self._aside = kept_in(ASIDE, backend)
        self._forwarder = Forwarder(backend, target, self._settled, max_age, WINDOW)
        self._buckets = array("L", bytes(BUCKETS * array("L").itemsize))
        self._older = 0
        self._begins = 0
        self._held: dict[int, int] = {}
        self._empty = asyncio.Event()
        self._turn = asyncio.Event()
        self._turn.set()
        self.records = 0
        """How many wait."""
        self.bytes = 0
        """What they take, about."""
        self.aside = 0
        """What those take that were set aside, about."""

    @property
    def oldest(self) -> float:
        """The age of the oldest record that waits, in seconds; 0 where none does."""
        timestamp = next(iter(self._held.values()), None)
        return 0.0 if timestamp is None else max(time.time() - timestamp / 1000, 0.0)

    @property
    def away(self) -> bool:
        """Whether the backend does not take records at present."""
        return self._forwarder.away

    async def begin(self, tasks: Tasks) -> None:
        """Take over what the file holds, and forward by tasks of a part."""
        for topic in (self._waiting, self._aside):
            await self._file.make_compacted(topic, 0)
        self.records, self.bytes = await self._file.weigh(self._waiting)
        await self.look()
        # The keys of those are not known: until they are forwarded, every key may be among them.
        self._older = self.records
        self._begins = (await self._file.ends(self._waiting))[0]
        self._count(0, 0)
        self._forwarder.begin(tasks)
        tasks.spawn(self._follow(), f"spool of {self._backend}")

    async def look(self) -> None:
        """See again what was set aside: the commands of the spool let it go."""
        _, self.aside = await self._file.weigh(self._aside)

    async def put(self, record: Stored, size: int, deadline: float) -> None:
        """Store one record of a size. Raises what `Spool.put` does."""
        bucket = _bucket(record)
        stored = await self._file.admit(self._waiting, wrapped(record), deadline, ended=partial(self._ended, bucket, size))
        # Counted before it is there: who comes next with this key goes behind it. And whoever stores it may leave before it is.
        if bucket is not None:
            self._buckets[bucket] += 1
        self._count(1, size)
        await asyncio.shield(stored)

    def _ended(self, bucket: int | None, size: int, written: bool) -> None:  # noqa: FBT001  as it is told
        # Not by what its caller is told: where the disk was slow that is that nobody knows, and then it is written all the same.
        if not written:
            self._gone(bucket, size)

    def holds(self, record: Stored) -> bool:
        """Whether records wait that this one must not overtake."""
        bucket = _bucket(record)
        return bucket is not None and (self._older > 0 or self._buckets[bucket] > 0 or not self._turn.is_set())

    @property
    def waits(self) -> bool:
        """Whether records wait here, or in files that are before this one."""
        return self.records > 0 or not self._turn.is_set()

    def hold(self) -> None:
        """Let what is stored from now on wait until it is its turn: records of its keys may wait elsewhere."""
        self._turn.clear()

    def release(self) -> None:
        """It is its turn."""
        self._turn.set()

    async def empty(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    async def _follow(self) -> None:
        """Give the forwarder what was stored, in that order."""
        at = dict(await self._file.starts(self._waiting))
        while True:
            try:
                async with self._file.reading(self._waiting, at) as reader:
                    while True:
                        await self._forwarder.room()
                        for record in await reader.read():
                            if record.offset >= self._begins:
                                await self._turn.wait()
                            self._held[record.offset] = record.timestamp
                            self._forwarder.give(opened(record))
                        at = dict(reader.at)
            except GatewayError as error:
                log.warning("spool: records for %s cannot be read: %s", self._backend, error.message)
                await asyncio.sleep(AGAIN_S)

    async def _settled(self, record: Stored, why: str) -> None:
        """See `forward.Settle`."""
        if why:
            due = asyncio.get_running_loop().time() + NOTED_S
            await self._file.append(self._aside, wrapped(replace(record, why=why)), due)
            self.aside += record.size
            SET_ASIDE.add(1, self._backend)
            log.error("spool: record %s for %s is set aside, not forwarded: %s", record.id, self._backend, why)
        else:
            FORWARDED.add(1, self._backend)
        if self._file.broken is not None:
            await asyncio.Event().wait()  # what is forwarded now cannot be noted, and would be forwarded again
        await self._file.forget(self._waiting, (record.offset,))
        del self._held[record.offset]
        if record.offset < self._begins:
            self._older -= 1
            self._gone(None, record.size)
        else:
            self._gone(_bucket(record), record.size)

    def _gone(self, bucket: int | None, size: int) -> None:
        if bucket is not None:
            self._buckets[bucket] -= 1
        self._count(-1, -size)

    def _count(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        if self.records > 0:
            self._empty.clear()
            return
        # What a file holds is weighed only about; here it is known.
        self._older = self.bytes = 0
        self._empty.set()


def _bucket(record: Stored) -> int | None:
    key = lane(record.topic, record.message.key, record.partition)
    return None if key is None else hash(key) % BUCKETS
