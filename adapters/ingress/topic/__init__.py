"""The listener `topic`: consumes topics, each record an exchange. Its offset is committed once the record is done with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Literal, Self

from pydantic import ByteSize, Field, model_validator

from adapters.ingress.topic.verdict import Names
from adapters.ingress.topic.work import Terms, Work
from gateway.listener import ListenerConfig, View
from gateway.message import JSON
from gateway.part import Part
from gateway.port import Ahead, BackendConfig, Source, Subscription
from gateway.topic.log import CORRELATION, HEADER, REPLY_TO
from gateway.worker import own


class Retry(Part):
    """When a record is tried again that could not be handled, and that is not itself to blame."""

    attempts: int | None = Field(default=None, ge=1, le=1_000_000, examples=[10])
    """How many tries it gets before it goes to the dead-letter topic; for ever, unless told. What the gateway itself refuses, for
    the backend's breaker is open or too much is in flight, is none."""
    seconds: float = Field(default=0.1, gt=0, le=3600)
    """The first pause. Each is twice as long as the one before, less some jitter; a backend that asks for more by Retry-After
    gets that, up to an hour."""
    max_pause: float = Field(default=30.0, gt=0, le=86_400)
    """The longest pause."""


class AheadConfig(Part):
    """How far a partition is read ahead of the first record that is not done with; at either bound it waits."""

    records: int = Field(default=1000, ge=1, le=1_000_000)
    """How many records may be in delivery or, behind that first one, done with already."""
    bytes: ByteSize = Field(default=ByteSize(8 << 20), ge=1)
    """How many bytes of records may be in memory; what one fetch brings may be more."""


class Config(ListenerConfig):
    """Topics as callers: every record is an exchange, at least once, in order per partition unless told."""

    protocol: ClassVar[str] = "topic"

    kind: Literal["topic"]
    backend: str = Field(examples=["events"])
    """Whose topics."""
    topics: tuple[str, ...] = Field(min_length=1, examples=[["quotes.asked"]])
    """Which topics; a route takes one by `when: {topic: NAME}`."""
    group: str = Field(min_length=1, examples=["quotes"])
    """The consumer group: gateways of one group share the work, and go on where the group stopped."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a group begins that has no offset yet."""
    reply_to: tuple[str, ...] = Field(default=(), examples=[["quotes.answered"]])
    """The topics that a record may ask for its reply on; any other is not written to."""
    correlation_header: str = Field(default=CORRELATION, pattern=HEADER, examples=["kafka_correlationId"])
    """The header of a record that finds its reply for it: the reply has it too."""
    reply_to_header: str = Field(default=REPLY_TO, pattern=HEADER, examples=["kafka_replyTopic"])
    """The header that says on which topic a record wants its reply."""
    content_type: str = JSON
    """What the records' bodies are."""
    order: Literal["partition", "key", "none"] = "partition"
    """Which records wait for one another: all of a partition, those of one key (those without a key for none), or none."""
    parallel: int = Field(default=16, ge=1, le=10_000)
    """How many records of one partition may be tried at once, where `order` is not `partition`. One that waits for another try
    is not among them: it holds up its own key alone."""
    ahead: AheadConfig = AheadConfig()
    retry: Retry = Retry()
    dead_letter: str | None = Field(default=None, min_length=1, examples=["orders.dead"])
    """The topic, of the same backend, for records that are to blame themselves or whose tries are used up. It has them before
    their offset is committed; until it can be written they wait. Without one, a record that is itself to blame is passed over,
    with a line in the log, and any other is tried until it is done."""
    instance: str | None = Field(default=None, min_length=1, max_length=249, examples=["${HOSTNAME}"])
    """What this gateway is called in the group (Kafka's static membership), another for each: one that is back within `session`
    keeps its partitions, and the others do not notice."""
    session: float = Field(default=10.0, ge=0.5, le=1800)
    """Seconds after which a gateway of the group that says nothing has left it. The broker has bounds of its own."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.order == "partition" and "parallel" in self.model_fields_set:
            raise ValueError("parallel needs order: key or order: none, for records of one partition run one after the other")
        if self.retry.attempts is not None and self.dead_letter is None:
            raise ValueError("retry.attempts needs dead_letter: a record whose tries are used up must go somewhere")
        if self.dead_letter in self.topics:
            raise ValueError("dead_letter must be none of the topics, or a record that failed would come again for ever")
        return self

    @classmethod
    def pattern(cls, when: str) -> tuple[str, str]:
        return "", f"/{when}"

    def asks(self) -> Sequence[str]:
        return self.topics

    def consumes(self, when: str) -> tuple[str, str] | None:
        return (self.backend, when) if when in self.topics else None

    def uses(self) -> Sequence[str]:
        return (self.backend,)

    def refusals(self, backends: Mapping[str, BackendConfig]) -> Sequence[tuple[str, str]]:
        sources = ", ".join(name for name, backend in backends.items() if backend.consumable) or "none"
        if self.backend not in backends:
            return (("backend", f"there is no backend {self.backend!r}; those that can be consumed: {sources}"),)
        if not backends[self.backend].consumable:
            kind = backends[self.backend].kind
            return (("backend", f"a {kind} backend cannot be consumed; those that can: {sources}"),)
        return ()

    def build(self, name: str, view: View) -> Topic:
        backend = view.backends[self.backend]
        assert isinstance(backend, Source)  # noqa: S101  `refusals` has seen to it
        return Topic(self, name, view, backend)

    def subscription(self, listener: str) -> Subscription:
        """What its backend is asked for."""
        return Subscription(
            self.topics,
            self.group,
            self.start,
            listener,
            self.order,
            1 if self.order == "partition" else self.parallel,
            Ahead(self.ahead.records, int(self.ahead.bytes)),
            self._instance(),
            self.session,
        )

    def _instance(self) -> str | None:
        """Each of several processes is a member of its own; one that takes the place of another has its name."""
        number = own().number
        return f"{self.instance}-{number}" if self.instance and number else self.instance

    def terms(self, listener: str) -> Terms:
        """How records are worked through."""
        retry = self.retry
        names, pauses = Names(self.correlation_header, self.reply_to_header), (retry.seconds, retry.max_pause)
        return Terms(listener, self.content_type, self.reply_to, names, self.dead_letter, retry.attempts, *pauses)


class Topic:
    """See `Ingress`."""

    def __init__(self, config: Config, name: str, view: View, source: Source) -> None:
        self._subscription = config.subscription(name)
        self._work = Work(config.terms(name), view, source)
        self._source = source

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with self._source.consuming(self._subscription, self._work):
            try:
                yield None
            finally:
                self._work.leave()
