"""The listener `topic`: consumes topics, each record an exchange. Its offset is committed once the record is done with."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from gateway.errors import CallerError, GatewayError, Outcome
from gateway.exchange import Call, EndOfMessages, Exchange, Handler, new_id
from gateway.message import JSON, NO_HEADERS, PROBLEM, Headers, Message
from gateway.port import BackendConfig, ListenerConfig, Record, Source, Subscription, View
from gateway.status import TABLE, outcome_of, problem_body
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO

log = logging.getLogger("polygate")

FIRST_PAUSE_S = 0.1


class Config(ListenerConfig):
    """Topics as callers: every record is an exchange, at least once, in order per partition."""

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
    content_type: str = JSON
    """What the records' bodies are."""
    max_pause_seconds: float = Field(default=30.0, gt=0)
    """The longest pause between tries of a record whose backend is away; until it is done its partition waits."""

    @classmethod
    def pattern(cls, when: str) -> tuple[str, str]:
        return "", f"/{when}"

    def asks(self) -> Sequence[str]:
        return self.topics

    def consumes(self, when: str) -> tuple[str, str] | None:
        return (self.backend, when) if when in self.topics else None

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


class RecordExchange(Exchange):
    """One record in; its reply, if it asks for one, goes to the topic that it names."""

    def __init__(self, call: Call, message: Message) -> None:
        self.call = call
        self._message: Message | None = message
        self.reply: Message | None = None

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        """A record has no head to answer with."""

    async def receive(self) -> Message:
        if self._message is None:
            raise EndOfMessages
        message, self._message = self._message, None
        return message

    async def send(self, message: Message) -> None:
        self.reply = message


class Topic:
    """See `Ingress`."""

    def __init__(self, config: Config, name: str, view: View, source: Source) -> None:
        self._config = config
        self._name = name
        self._view = view
        self._source = source
        self._leaving = False
        self._running: set[asyncio.Timeout] = set()
        self._pausing: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        config = self._config
        subscription = Subscription(config.topics, config.group, config.start)
        async with self._source.consuming(subscription, self._deliver):
            try:
                yield None
            finally:
                self._leave()

    def _leave(self) -> None:
        """What is under way may end until the drain does; what waits for another try is left to whoever is next, at once."""
        self._leaving = True
        now = asyncio.get_running_loop().time()
        for limit in self._running:
            limit.reschedule(now if limit in self._pausing else self._view.drain_until or now)

    async def _deliver(self, record: Record) -> None:
        """Handle one record until it is done with. Raises where the listener leaves first: it is then delivered again."""
        async with asyncio.timeout(None) as limit:
            self._running.add(limit)
            try:
                await self._handle(record, limit)
            finally:
                self._running.discard(limit)
                self._pausing.discard(limit)

    async def _handle(self, record: Record, limit: asyncio.Timeout) -> None:
        """A definite failure that the record itself is to blame for is answered and passed over, so that it never stops those
        behind it; anything else is tried again.
        """
        handler = self._view.find("topic", f"/{record.topic}", record.headers).endpoint.handler
        pause = FIRST_PAUSE_S
        while True:
            exchange = RecordExchange(self._call(record), Message(record.body, self._config.content_type, record.key))
            try:
                reply = await self._answer(handler, exchange, record)
                await self._reply(record, reply)
            except GatewayError as error:
                if self._leaving:
                    raise
                log.warning("%s: %s/%d/%d waits %.1f s: %s", self._name, *_place(record), pause, error.message)
            else:
                return
            self._pausing.add(limit)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
            self._pausing.discard(limit)
            pause = min(pause * 2, self._config.max_pause_seconds)

    async def _answer(self, handler: Handler, exchange: RecordExchange, record: Record) -> Message | None:
        try:
            await handler(exchange)
        except GatewayError as error:
            if not _is_poison(error):
                raise
            log.warning("%s: passed over %s/%d/%d: %s", self._name, *_place(record), error.message)
            body = problem_body(error, exchange.call.id)
            return Message(body, PROBLEM, headers=Headers(((ERROR, error.reason.value),)))
        return exchange.reply

    def _call(self, record: Record) -> Call:
        return Call(id=new_id(), protocol="topic", target=f"/{record.topic}", headers=record.headers)

    async def _reply(self, record: Record, reply: Message | None) -> None:
        """A record that asks for its reply on a topic that the config does not list gets none."""
        topic = record.headers.get(REPLY_TO)
        if reply is None or topic is None:
            return
        if topic not in self._config.reply_to:
            log.warning("%s: %s/%d/%d asks for its reply on a topic that reply_to does not list", self._name, *_place(record))
            return
        correlation = record.headers.get(CORRELATION)
        headers = reply.headers.plus((CORRELATION, correlation)) if correlation else reply.headers
        await self._source.produce(topic, Message(reply.body, reply.content_type, record.key, headers))


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _is_poison(error: GatewayError) -> bool:
    """Whether another try of the same record would end the same way: it, and not the way to the backend, is to blame."""
    own = isinstance(error, CallerError) or error.reason.value.startswith("backend_")
    return own and not TABLE[error.reason].retryable and outcome_of(error) is Outcome.FAILED
