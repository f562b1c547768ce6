"""The embedded log: topics in one SQLite file, with the promises of a broker and no other process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, ParamSpec, Self, TypeVar

from pydantic import Field

from adapters.backend.local.commits import Commits
from adapters.backend.local.group import Groups
from adapters.backend.local.log import READ_BYTES, READ_RECORDS, LocalLog
from adapters.backend.local.retention import Retention, Sweeper
from adapters.backend.local.store import MEMORY, Row, Store, StoreError
from adapters.backend.local.topic import NAMES, PATTERN, Partition, is_name
from gateway.codec import Contract
from gateway.errors import BackendError, Reason
from gateway.exchange import Handler
from gateway.message import Message
from gateway.part import Part, Written
from gateway.port import Backend, BackendConfig, Deliver, Subscription, Target, TargetConfig
from gateway.task import Tasks
from gateway.template import Template
from gateway.topic import VERBS, Topics
from gateway.topic.log import Offsets, Place, Reader
from gateway.topic.publish import PublishTo

log = logging.getLogger("polygate")

PRODUCE_S = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class TopicConfig(Part):
    """One topic, where it is to differ."""

    partitions: int = Field(default=1, gt=0, le=1000)
    """How many partitions. More may be added later, never fewer; keys then move, as in Kafka."""
    retention: Retention | None = None
    """What it keeps, in place of the log's own `retention`."""


class Config(BackendConfig):
    """Topics in a file of the gateway's own: publish, ask, tail and consume without a broker. One process only."""

    kind: Literal["local"]
    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = VERBS
    consumable: ClassVar[bool] = True

    path: str = Field(min_length=1, examples=["var/log.db", MEMORY])
    """The SQLite file; it and its folder are made. `:memory:` keeps nothing when the process ends."""
    topics: Mapping[Annotated[str, Written(PATTERN, f"the name of a topic: {NAMES}, as in orders.placed")], TopicConfig] = Field(
        default_factory=dict, examples=[{"orders.placed": {"partitions": 3}}]
    )
    """Topics that are to differ from the rest."""
    create: bool = True
    """Whether any other topic is made by its first record, with one partition. If not, it is refused."""
    max_topics: int = Field(default=10_000, gt=0)
    """How many topics there may be; a new one beyond is refused."""
    retention: Retention = Retention()
    """What each partition keeps."""
    retention_every: float = Field(default=5.0, gt=0)
    """Seconds between two looks at what is to be dropped."""
    max_record_bytes: int = Field(default=1 << 20, gt=0)
    """The largest record: its key, headers and body together."""
    queue_bytes: int = Field(default=64 << 20, gt=0)
    """How many bytes of records may wait for the disk; beyond, the answer is `overloaded`."""

    def refusals(self, target: TargetConfig, contract: Contract | None) -> Sequence[str]:
        del contract
        named = (getattr(target, field, None) for field in ("publish", "ask", "tail", "reply_to"))
        # One with a variable is known per message only.
        fixed = (name for name in named if name is not None and not Template(name).names)
        refusals = [f"{name!r} cannot be the name of a topic: {NAMES}" for name in fixed if not is_name(name)]
        if isinstance(target, PublishTo) and target.partition is not None and target.publish in self.topics:
            count = self.topics[target.publish].partitions
            if target.partition >= count:
                refusals.append(f"{target.publish} has no partition {target.partition}: it has {count}, counted from 0")
        return refusals

    def owns(self) -> str | None:
        return None if self.path == MEMORY else str(Path(self.path).resolve())

    def build(self) -> Local:
        return Local(self)


class Local(Backend):
    """A log, a backend and a source in one. Implements `gateway.topic.log.Log` and `gateway.port.Source`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = LocalLog(
            declared={name: topic.partitions for name, topic in config.topics.items()},
            create=config.create,
            max_topics=config.max_topics,
            max_record_bytes=config.max_record_bytes,
        )
        self._stack = AsyncExitStack()
        self._commits: Commits | None = None
        self._topics = Topics(self)
        self._groups: Groups

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            writing = stack.enter_context(ThreadPoolExecutor(1, "local-log-writer"))
            reading = stack.enter_context(ThreadPoolExecutor(1, "local-log-reader"))
            if self._config.path == MEMORY:
                reading = writing  # one connection holds it all
            try:
                store = await _in(writing, Store, self._config.path)
            except StoreError as error:
                raise BackendError(Reason.REFUSED, str(error)) from error
            stack.push_async_callback(_in, writing, store.close)
            self._log.load(await _in(writing, store.partitions))
            commits = Commits(store, partial(_in, writing), self._log.tell, self._config.queue_bytes)
            self._log.connect(commits, partial(_fetch, reading, store))
            self._groups = Groups(self._log, commits, lambda group: _in(writing, store.progress, group))
            tasks = await stack.enter_async_context(Tasks())
            tasks.spawn(commits.run(), "local log")
            tasks.spawn(self._sweep(store, commits, writing), "retention of the local log")
            stack.push_async_callback(_closed, commits)
            await stack.enter_async_context(self._topics)
            self._commits = commits
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _sweep(self, store: Store, commits: Commits, writing: Executor) -> None:
        config = self._config
        own = {name: topic.retention for name, topic in config.topics.items() if topic.retention is not None}
        sweeper = Sweeper(self._log, store, lambda topic: own.get(topic, config.retention), config.retention_every)
        while commits.broken is None:
            try:
                await sweeper.run(partial(_in, writing))
            except StoreError as error:
                log.warning("retention of the local log: %s", error)
                if error.fatal:
                    commits.stop(f"the local log cannot be written: {error}")

    def handler(self, target: Target) -> Handler:
        return self._topics.handler(target)

    async def check(self) -> None:
        if self._commits is None:
            raise BackendError(Reason.UNREACHABLE, "the local log is not open")
        await self._commits.check()

    async def append(self, topic: str, message: Message, deadline: float, *, partition: int | None = None) -> Place:
        return await self._log.append(topic, message, deadline, partition=partition)

    async def starts(self, topic: str) -> Offsets:
        return await self._log.starts(topic)

    async def ends(self, topic: str) -> Offsets:
        return await self._log.ends(topic)

    def reading(self, topic: str, at: Offsets) -> AbstractAsyncContextManager[Reader]:
        return self._log.reading(topic, at)

    def consuming(self, subscription: Subscription, deliver: Deliver) -> AbstractAsyncContextManager[None]:
        return self._groups.consuming(subscription, deliver)

    async def produce(self, topic: str, message: Message) -> None:
        await self._log.append(topic, message, asyncio.get_running_loop().time() + PRODUCE_S)


async def _in(thread: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread. Cancelling does not undo it, so it is waited for all the same."""
    return await asyncio.get_running_loop().run_in_executor(thread, partial(function, *args, **kwargs))


async def _fetch(reading: Executor, store: Store, where: Partition, at: int) -> list[Row]:
    return await _in(reading, store.read, where.id, at, READ_RECORDS, READ_BYTES)


async def _closed(commits: Commits) -> None:
    """Let what was taken reach the disk, then take no more."""
    try:
        await commits.flush()
    except BackendError as error:
        log.warning("the local log closes with records that it could not write: %s", error.message)
    commits.stop("the local log is closed")
