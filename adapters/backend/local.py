"""The backend `local`: the embedded log, as a broker with no other process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from gateway.codec import Contract
from gateway.embedded import Embedded, Settings
from gateway.embedded.retention import Retention
from gateway.embedded.store import MEMORY
from gateway.embedded.topic import NAMES, PATTERN, is_name
from gateway.exchange import Handler
from gateway.message import Message
from gateway.part import Part, Written
from gateway.port import BackendConfig
from gateway.target import Target, TargetConfig
from gateway.template import Template
from gateway.topic import VERBS, Topics
from gateway.topic.publish import PublishTo

PRODUCE_S = 30.0


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
    alone: ClassVar[bool] = True

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

    def build(self, name: str = "-") -> Local:
        del name
        return Local(self._settings())

    def _settings(self) -> Settings:
        return Settings(
            path=self.path,
            topics={name: topic.partitions for name, topic in self.topics.items()},
            create=self.create,
            max_topics=self.max_topics,
            retention=self.retention,
            retentions={name: topic.retention for name, topic in self.topics.items() if topic.retention is not None},
            retention_every=self.retention_every,
            max_record_bytes=self.max_record_bytes,
            queue_bytes=self.queue_bytes,
        )


class Local(Embedded):
    """A log, a backend and a source in one: implements `gateway.port.Backend` and `gateway.port.Source`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._topics = Topics(self)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await super().__aenter__()
            stack.push_async_exit(super().__aexit__)
            await stack.enter_async_context(self._topics)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    def handler(self, target: Target) -> Handler:
        return self._topics.handler(target)

    async def produce(self, topic: str, message: Message, partition: int | None = None) -> None:
        await self.append(topic, message, asyncio.get_running_loop().time() + PRODUCE_S, partition=partition)
