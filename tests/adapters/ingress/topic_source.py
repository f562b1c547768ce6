"""A listener of topics over a source in memory, whose records a test delivers by hand."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count

from adapters.ingress.topic import Config
from gateway.breaker import Breaker
from gateway.delivery import Delivery
from gateway.errors import BackendError, GatewayError, Reason
from gateway.listener import View
from gateway.message import Headers, Message
from gateway.port import Record
from gateway.route import Endpoint
from gateway.table import Table

PARTITIONS = 4


@dataclass
class Guarded:
    """A backend that has a breaker, or none."""

    breaker: Breaker | None = None


class Topics:
    """A source of one partition, whose records the test takes to it, and which keeps what is produced to it."""

    def __init__(self):
        self.view: View | None = None
        self.subscription = None
        self.done = 0
        self.produced: list[tuple[str, Message]] = []
        self.partitions: list[int | None] = []
        self.failures: list[GatewayError] = []
        self._taken = count()
        self._more = asyncio.Event()
        self._delivery: Delivery | None = None

    @asynccontextmanager
    async def consuming(self, subscription, deliver):
        self.subscription = subscription
        self._delivery = Delivery(subscription, deliver, "asked 3", self._progress)
        yield
        await self._delivery.leave(None)

    def _progress(self):
        self.done = self._delivery.at
        self._more.set()

    def take(self, record):
        """Deliver a record; its offset."""
        record = replace(record, offset=next(self._taken))
        self._delivery.take([record])
        return record.offset

    async def deliver(self, record):
        """Deliver a record, and wait until it is done with."""
        await self.reach(self.take(record) + 1)

    async def reach(self, at):
        """Wait until everything before an offset is done with."""
        async with asyncio.timeout(10):
            while self.done < at:
                self._more.clear()
                await self._more.wait()

    async def produce(self, topic, message, partition=None):
        if self.failures:
            raise self.failures.pop(0)
        if partition is not None and partition >= PARTITIONS:
            raise BackendError(Reason.REFUSED, "there is no such partition")
        self.produced.append((topic, message))
        self.partitions.append(partition)


@asynccontextmanager
async def listening(handler, *, breaker=None, **settings):
    """A listener of the topic asked, whose route is the handler."""
    source = Topics()

    def refuse(_protocol, error):
        async def run(_exchange):
            raise error

        return Endpoint("-", run)

    table = Table(refuse)
    table.add("topic", "", "/asked", Endpoint("route", handler, backend="hook"))
    view = source.view = View(find=table.find, backends={"events": source, "hook": Guarded(breaker)})
    settings = {"kind": "topic", "backend": "events", "topics": ("asked",), "group": "g", "reply_to": ("answered",)} | settings
    settings = {"retry": {"seconds": 0.001, "max_pause": 0.002}} | settings
    async with Config(**settings).build("work", view).serving() as address:
        assert address is None
        yield source


def record(body=b'{"a":1}', *, topic="asked", key=b"key", **headers):
    pairs = Headers((name.replace("_", "-"), value) for name, value in headers.items())
    return Record(topic, 3, 7, 1000, key, body, pairs)


ASKING = {"polygate_reply_to": "answered", "polygate_correlation_id": "c-1"}


async def echo(exchange):
    await exchange.send(await exchange.receive())
