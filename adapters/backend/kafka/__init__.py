"""The backend `kafka`: publish to, ask through and tail Kafka topics, and consume them as a group (aiokafka)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from socket import gethostname
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator

from adapters.backend.kafka.catalog import EARLIEST, LATEST, NONE
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.compacted import make_compacted
from adapters.backend.kafka.group import Member
from adapters.backend.kafka.pool import Transactions
from adapters.backend.kafka.producer import Writer
from adapters.backend.kafka.reader import Readers
from adapters.backend.kafka.record import Quiet
from adapters.backend.kafka.wire import TROUBLES, Settings
from gateway.errors import Reason, translating
from gateway.exchange import Handler
from gateway.message import Message
from gateway.part import Part
from gateway.port import BackendConfig, Deliver, Subscription
from gateway.target import Target, TargetConfig
from gateway.tls import BackendTls
from gateway.topic import VERBS, Topics
from gateway.topic.log import Offsets, Place, Post, Reader
from gateway.worker import own

CHECK_S = 2.0
DEFAULT_PORT = 9092
LAST_PORT = 65_535


class Create(Part):
    """What a topic that is missing is made with."""

    partitions: int = Field(default=1, ge=1, le=10_000)
    """How many partitions it gets."""
    replication: int = Field(default=1, ge=1, le=100)
    """On how many brokers each of them is kept."""


class Sasl(Part):
    """Who we say that we are."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """PLAIN sends the password itself: use it with `tls` only."""
    username: str = Field(min_length=1)
    """The user."""
    password: SecretStr = Field(examples=["${file:/run/secrets/kafka}"])
    """The user's password."""


class Config(BackendConfig):
    """Publish to, ask through and tail Kafka topics, and consume them as a group."""

    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = VERBS
    consumable: ClassVar[bool] = True

    kind: Literal["kafka"]
    bootstrap: tuple[str, ...] = Field(min_length=1, examples=[["kafka-1:9092", "kafka-2:9092"], "${KAFKA_BOOTSTRAP}"])
    """Brokers to ask first, host:port each; also one text with commas."""
    client_id: str = Field(default="polygate", min_length=1, max_length=200)
    """What the broker's log calls us."""
    create: Create | None = None
    """Make topics that are missing at their first use. Off unless it stands here; `create: {}` takes its defaults."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """How batches are compressed."""
    tls: BackendTls | None = None
    """Encrypt. Off unless it stands here; `tls: {}` trusts the system's authorities."""
    sasl: Sasl | None = None
    """Log in."""
    request_timeout: float = Field(default=5.0, ge=0.5, le=300)
    """Seconds that one request to a broker may take; it is then sent again, which never makes a duplicate."""
    away_after: float = Field(default=1.5, ge=0.1, le=60)
    """Seconds without an answer after which a broker counts as away: what needs it is answered 503 at once."""
    buffer: int = Field(default=32 << 20, ge=1 << 20, le=1 << 32)
    """Bytes of records that may wait for the broker; beyond them 503."""
    batch: int = Field(default=64 << 10, ge=1 << 10, le=1 << 20)
    """Bytes that go to one partition in one batch. Less go to a topic whose `max.message.bytes` is smaller."""
    max_record: int = Field(default=1_048_000, ge=1024, le=100 << 20)
    """Bytes of the largest record, with key, headers and what stands around it. The default fits Kafka's own."""
    transactions: int = Field(default=4, ge=1, le=100)
    """How many batches may be written all or nothing at the same time; others wait."""
    transactional_id: str | None = Field(default=None, min_length=1, max_length=200, examples=["polygate-eu-1"])
    """What this gateway's transactions are known by: no other gateway may have it, and it stays through a restart, which ends at
    once what was left open. The default is made of `client_id`, the host's name and the backend's.
    """
    start_timeout: float = Field(default=10.0, ge=1, le=300)
    """Seconds that one try to connect may take; others follow until one succeeds."""
    stop_timeout: float = Field(default=5.0, ge=0.1, le=300)
    """Seconds that what was sent, or is being delivered, has to come to its end when the gateway stops."""

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            return value
        return tuple(one.strip() for part in parts for one in part.split(",") if one.strip())

    @field_validator("bootstrap")
    @classmethod
    def _reachable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            _seed(one)
        return value

    def hosts(self) -> Sequence[str]:
        return self.bootstrap

    def build(self, name: str = "-") -> Kafka:
        return Kafka(self._settings(name))

    def _settings(self, name: str) -> Settings:
        security: dict[str, Any] = {
            "client_id": self.client_id,
            "request_timeout_ms": int(self.request_timeout * 1000),
            "security_protocol": ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT"),
            "ssl_context": self.tls.context() if self.tls else None,
        }
        if self.sasl is not None:
            security |= {
                "sasl_mechanism": self.sasl.mechanism,
                "sasl_plain_username": self.sasl.username,
                "sasl_plain_password": self.sasl.password.get_secret_value(),
            }
        return Settings(
            name=name,
            seeds=tuple(_seed(one) for one in self.bootstrap),
            wire=security,
            client={**security, "bootstrap_servers": list(self.bootstrap), "metadata_max_age_ms": 60_000},
            request_s=self.request_timeout,
            away_s=self.away_after,
            start_s=self.start_timeout,
            stop_s=self.stop_timeout,
            buffer=self.buffer,
            record=self.max_record,
            batch=self.batch,
            transactional=f"{self.transactional_id or f'{self.client_id}-{gethostname()}-{name}'}-{own().number}",
            transactions=self.transactions,
            compression=None if self.compression == "none" else self.compression,
            create=(self.create.partitions, self.create.replication) if self.create else None,
        )


def _seed(text: str) -> tuple[str, int]:
    """Host and port of a broker; brackets around an IPv6 address come off. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= LAST_PORT:
        raise ValueError(f"{text!r} is not host:port")
    return host, int(port)


class Kafka:
    """One Kafka cluster: a `Backend`, a `Source`, and the `Log` under both."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = Cluster(settings)
        self._writer = Writer(settings, self._cluster)
        self._transactions = Transactions(settings, self._cluster, self._writer.budget)
        self._readers = Readers(settings, self._cluster)
        self._topics = Topics(self)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.enter_context(Quiet())
        for part in (self._cluster, self._writer, self._transactions, self._readers, self._topics):
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    # Backend

    def handler(self, target: Target) -> Handler:
        return self._topics.handler(target)

    async def check(self) -> None:
        await self._writer.check(CHECK_S)

    # Log

    def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Coroutine[Any, Any, Place]:
        return self._writer.append(topic, message, deadline, partition=partition, route=route)

    def admit(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Coroutine[Any, Any, asyncio.Future[Place]]:
        return self._writer.admit(topic, message, deadline, partition=partition, route=route)

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> Sequence[Place]:
        return await self._transactions.append_all(posts, deadline, route=route)

    async def starts(self, topic: str, *, named: Collection[int] = ()) -> Offsets:
        starts = await self._offsets(topic, EARLIEST)
        if set(named) <= starts.keys():
            return starts
        self._cluster.topics.forget(topic)
        return await self._offsets(topic, EARLIEST)

    async def ends(self, topic: str) -> Offsets:
        return await self._offsets(topic, LATEST)

    async def at(self, topic: str, timestamp: int) -> Offsets:
        # In this order: what comes in between is then behind the place, and not skipped.
        ends = await self._offsets(topic, LATEST)
        found = await self._offsets(topic, max(0, timestamp))
        return {partition: end if found.get(partition, NONE) == NONE else found[partition] for partition, end in ends.items()}

    async def _offsets(self, topic: str, when: int) -> Offsets:
        with translating((TimeoutError, Reason.UNREACHABLE, "the broker did not answer in time"), *TROUBLES):
            async with asyncio.timeout(self._settings.request_s):
                await self._cluster.tried.wait()
                return await self._cluster.topics.offsets(topic, when)

    async def make_compacted(self, topic: str, seconds: float) -> None:
        with translating((TimeoutError, Reason.UNREACHABLE, "the broker did not answer in time"), *TROUBLES):
            async with asyncio.timeout(self._settings.request_s):
                await self._cluster.tried.wait()
                await make_compacted(self._cluster, topic, seconds)

    async def forget(self, topic: str, offsets: Sequence[int]) -> None:
        """The broker finds out by itself."""

    def reading(self, topic: str, at: Offsets) -> AbstractAsyncContextManager[Reader]:
        return self._readers.reading(topic, at)

    # Source

    def consuming(self, subscription: Subscription, deliver: Deliver) -> AbstractAsyncContextManager[Any]:
        return Member(self._settings, self._cluster, subscription, deliver)

    async def produce(self, topic: str, message: Message, partition: int | None = None) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.start_s
        await self._writer.append(topic, message, deadline, partition=partition)
