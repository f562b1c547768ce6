"""The embedded log: topics in one SQLite file, with the promises of a broker and no other process.

The backend `local` serves it to routes; the spool and the gateway's own state are kept in one too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from gateway.embedded.commits import Commits
from gateway.embedded.fault import StoreError
from gateway.embedded.group import Groups
from gateway.embedded.lock import LockError
from gateway.embedded.log import READ_BYTES, READ_RECORDS, LocalLog
from gateway.embedded.retention import Retention, Sweeper
from gateway.embedded.row import Held, Row
from gateway.embedded.store import MEMORY, Store
from gateway.embedded.topic import Partition
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.port import Deliver, Subscription
from gateway.task import Tasks
from gateway.topic.log import Offsets, Place, Post, Reader

log = logging.getLogger("polygate")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an embedded log is made with. Sizes are in bytes."""

    path: str
    """The SQLite file; it and its folder are made. `:memory:` keeps nothing when the process ends."""
    topics: Mapping[str, int] = field(default_factory=dict)
    """The partitions of the topics that are declared."""
    create: bool = True
    """Whether any other topic is made by its first record, with one partition."""
    max_topics: int = 10_000
    retention: Retention | None = field(default_factory=Retention)
    """None: whoever writes a record also lets it go."""
    retentions: Mapping[str, Retention] = field(default_factory=dict)
    """Of the topics that differ from the rest."""
    retention_every: float = 5.0
    """Seconds."""
    max_record_bytes: int = 1 << 20
    queue_bytes: int = 64 << 20


class Embedded:
    """One embedded log. Implements `gateway.topic.log.Log`, and `consuming` of `gateway.port.Source`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = LocalLog(
            declared=settings.topics,
            create=settings.create,
            max_topics=settings.max_topics,
            max_record_bytes=settings.max_record_bytes,
        )
        self._stack = AsyncExitStack()
        self._commits: Commits | None = None
        self._groups: Groups
        self._store: Store
        self._reading: Callable[..., Awaitable[Any]]
        self._writing: Callable[..., Awaitable[Any]]
        self._removed = False

    async def __aenter__(self) -> Self:
        """Open the file. BackendError(REFUSED) where it cannot be."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            writing = stack.enter_context(ThreadPoolExecutor(1, "local-log-writer"))
            reading = stack.enter_context(ThreadPoolExecutor(1, "local-log-reader"))
            if settings.path == MEMORY:
                reading = writing  # one connection holds it all
            try:
                store = await _in(writing, Store, settings.path)
                stack.push_async_callback(_in, writing, lambda: store.close(remove=self._removed))
                held = await _in(writing, store.partitions)
            except (StoreError, LockError) as error:
                raise BackendError(Reason.REFUSED, str(error)) from error
            self._log.load(held)
            commits = Commits(store, partial(_in, writing), self._log.tell, settings.queue_bytes)
            self._log.connect(commits, partial(_fetch, reading, store), partial(_since, reading, store))
            self._groups = Groups(self._log, commits, lambda group: _in(writing, store.progress, group))
            tasks = await stack.enter_async_context(Tasks())
            tasks.spawn(commits.run(), "local log")
            if settings.retention is not None:
                tasks.spawn(self._sweep(store, commits, writing), "retention of the local log")
            stack.push_async_callback(_closed, commits)
            self._commits = commits
            self._store, self._reading, self._writing = store, partial(_in, reading), partial(_in, writing)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _sweep(self, store: Store, commits: Commits, writing: Executor) -> None:
        settings = self._settings
        default = settings.retention or Retention()
        sweeper = Sweeper(self._log, store, lambda topic: settings.retentions.get(topic, default), settings.retention_every)
        while commits.broken is None:
            try:
                await sweeper.run(partial(_in, writing))
            except StoreError as error:
                log.warning("retention of the local log: %s", error)
                if error.fatal:
                    commits.stop(f"the local log cannot be written: {error}")

    @property
    def broken(self) -> str | None:
        """Why nothing is taken any more, until the file is opened anew: the disk failed to keep what it was given."""
        return self._commits.broken if self._commits is not None else None

    def topics(self) -> Sequence[str]:
        """The names of all topics that are there."""
        return [topic.name for topic in self._log.all()]

    async def weigh(self, topic: str) -> tuple[int, int]:
        """How many records a topic holds, and about how many bytes. It looks at every one."""
        found = self._log.find(topic)
        weighed = [await self._reading(self._store.weigh, one.id) for one in (found.partitions if found else ())]
        return sum(records for records, _ in weighed), sum(size for _, size in weighed)

    async def touched(self) -> int:
        """A number that changes when another process has changed the file, as only the commands of a spool do."""
        return int(await self._writing(self._store.touched))

    def remove(self) -> None:
        """Delete the file once it is closed: all that it held is elsewhere."""
        self._removed = True

    async def check(self) -> None:
        """Raise the BackendError that a record would be answered with now."""
        if self._commits is None:
            raise BackendError(Reason.UNREACHABLE, "the local log is not open")
        await self._commits.check()

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        return await self._log.append(topic, message, deadline, partition=partition, route=route)

    async def admit(
        self,
        topic: str,
        message: Message,
        deadline: float,
        *,
        partition: int | None = None,
        route: str = "",
        ended: Callable[[bool], None] | None = None,
    ) -> asyncio.Future[Place]:
        """See `Log.admit`. `ended` is told once it is known whether the record is written: mostly that is when the future ends,
        but after it where the disk was so slow that it said that nobody knows. Never, where nobody will.
        """
        return await self._log.admit(topic, message, deadline, partition=partition, route=route, ended=ended)

    async def starts(self, topic: str, *, named: Collection[int] = ()) -> Offsets:
        return await self._log.starts(topic, named=named)

    async def ends(self, topic: str) -> Offsets:
        return await self._log.ends(topic)

    async def at(self, topic: str, timestamp: int) -> Offsets:
        return await self._log.at(topic, timestamp)

    async def make_compacted(self, topic: str, seconds: float) -> None:
        del seconds  # nothing goes but what is forgotten
        self._log.make_compacted(topic)

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> Sequence[Place]:
        return await self._log.append_all(posts, deadline, route=route)

    async def forget(self, topic: str, offsets: Sequence[int]) -> None:
        self._log.forget(topic, offsets)

    def reading(self, topic: str, at: Offsets) -> AbstractAsyncContextManager[Reader]:
        return self._log.reading(topic, at)

    def consuming(self, subscription: Subscription, deliver: Deliver) -> AbstractAsyncContextManager[None]:
        return self._groups.consuming(subscription, deliver)


async def _in(thread: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread. Cancelling does not undo it, so it is waited for all the same."""
    return await asyncio.get_running_loop().run_in_executor(thread, partial(function, *args, **kwargs))


async def _fetch(reading: Executor, store: Store, where: Partition, at: int) -> list[Row]:
    return await _in(reading, store.read, where.id, at, READ_RECORDS, READ_BYTES)


async def _since(reading: Executor, store: Store, where: Partition, timestamp: int) -> int:
    held = Held(where.id, where.topic.name, where.number, where.start, where.next, where.upto)
    return await _in(reading, store.since, held, timestamp)


async def _closed(commits: Commits) -> None:
    """Let what was taken reach the disk, then take no more."""
    try:
        await commits.flush()
    except BackendError as error:
        log.warning("the local log closes with records that it could not write: %s", error.message)
    commits.stop("the local log is closed")
