"""Kafka's control side: which brokers answer, and what they say.

It has connections of its own. The client library's wait out long time-outs one after the other, and a request of theirs stands
in a queue behind produce and fetch requests; so neither can say within a second whether a broker is there.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any, Self

from aiokafka.protocol.metadata import MetadataRequest

from adapters.backend.kafka.catalog import Catalog
from adapters.backend.kafka.wire import AWAY, BACKOFF_S, TROUBLES, Broker, Settings
from gateway.backoff import Backoff
from gateway.errors import BackendError, Reason
from gateway.task import Tasks

log = logging.getLogger("polygate")

PULSE_S = 0.5


class Cluster:
    """The brokers of one cluster: `here` holds the ids of those that answer now, `away` of those that do not; `up` is set while
    one does. `turned` is set, and replaced, whenever that changes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seeds = [Broker(host, port, settings.wire) for host, port in settings.seeds]
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._nodes: dict[int, Broker] = {}
        self._watching: dict[int, asyncio.Task[None]] = {}
        self._controller = -1
        self.away: set[int] = set()
        self.here: frozenset[int] = frozenset()
        self.turned = asyncio.Event()
        self._heard: dict[int, float] = {}
        self.up = asyncio.Event()
        self.tried = asyncio.Event()
        self.trouble = BackendError(Reason.UNREACHABLE, "the broker has not answered yet")
        self.topics = Catalog(settings, self)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        self._tasks.spawn(self._find(), "looking for a Kafka broker")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()
        for broker in (*self._seeds, *self._nodes.values()):
            await broker.close()

    async def _find(self) -> None:
        """Ask the brokers of the config whenever none of the cluster's is up: they may all have moved."""
        backoff = Backoff(BACKOFF_S)
        while True:
            for seed in self._seeds:
                try:
                    self._learn(await seed.pulse(self._settings.away_s))
                    backoff.reset()
                    break
                except AWAY as error:
                    self._note(error)
                finally:
                    await seed.close()
            self.tried.set()
            await backoff.wait()
            while self.up.is_set():
                await asyncio.sleep(PULSE_S)
                backoff.reset()

    def _note(self, error: BaseException) -> None:
        """Keep why the brokers are away; tell when it changes."""
        for kinds, reason, message in TROUBLES:
            if isinstance(error, kinds):
                if self.up.is_set() or self.trouble.reason != reason or self.trouble.__cause__ is None:
                    log.warning("kafka %s: %s (%r)", self._settings.seeds, message, error)
                self.trouble = BackendError(reason, message)
                self.trouble.__cause__ = error
                return

    def _learn(self, metadata: Any) -> None:
        """Watch the brokers that the cluster says it has, and no others."""
        found = {node: (host, port) for node, host, port, *_ in metadata.brokers}
        self._controller = getattr(metadata, "controller_id", -1)
        if not found:
            return
        for node in [node for node, broker in self._nodes.items() if found.get(node) != broker.where]:
            self._watching.pop(node).cancel()
            self._tasks.spawn(self._nodes.pop(node).close(), f"leaving broker {node}")
            self.away.discard(node)
            self._heard.pop(node, None)
        for node, (host, port) in found.items():
            if node not in self._nodes:
                self._nodes[node] = Broker(host, port, self._settings.wire)
                self._watching[node] = self._tasks.spawn(self._watch(node, self._nodes[node]), f"pulse of broker {node}")
        self._judge()

    def _judge(self) -> None:
        here = frozenset(self._nodes) - self.away
        if here != self.here:
            self.here = here
            self.turned.set()
            self.turned = asyncio.Event()
        if here:
            if not self.up.is_set():
                log.info("kafka %s answers", self._settings.seeds)
            self.up.set()
        else:
            self.up.clear()

    async def _watch(self, node: int, broker: Broker) -> None:
        backoff = Backoff(BACKOFF_S)
        while True:
            try:
                metadata = await broker.pulse(self._settings.away_s)
            except AWAY as error:
                self.away.add(node)
                self._note(error)
                self._judge()
                await backoff.wait()
            else:
                backoff.reset()
                self._heard[node] = asyncio.get_running_loop().time()
                self.away.discard(node)
                self._learn(metadata)
                await broker.quiet(PULSE_S)

    def silent(self, node: int, since: float) -> None:
        """A record of `since` was not acknowledged by its deadline. Where the broker has not answered the pulses that it has owed
        since then either, it is away from now on, and not only once a pulse's own time is up.
        """
        now = asyncio.get_running_loop().time()
        if node in self._nodes and self._heard.get(node, 0.0) < since and now - since > 2 * PULSE_S:
            self.away.add(node)
            self._note(TimeoutError("no answer in time"))
            self._judge()

    def refuse(self) -> None:
        """Raise the BackendError of a cluster of which no broker answers."""
        if not self.up.is_set():
            raise BackendError(self.trouble.reason, self.trouble.message) from self.trouble.__cause__

    def broker(self, node: int) -> Broker:
        """One that is `here`."""
        return self._nodes[node]

    async def ask(self, request: object, node: int | None = None) -> Any:
        """One broker's response; any that is up, unless told which."""
        self.refuse()
        if node is None or node not in self._nodes:
            node = next(one for one in self._nodes if one not in self.away)
        answer = await self._answer(node, request)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _answer(self, node: int, request: object) -> Any:
        """A broker's response or what went wrong; waited for no longer than the broker counts as there: a connection that it
        takes and never answers on is open for as long as one request may take.
        """
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_asked(self._nodes[node], request))
            while node not in self.away and not asking.done():
                turning = group.create_task(self.turned.wait())
                await asyncio.wait((asking, turning), return_when=asyncio.FIRST_COMPLETED)
                turning.cancel()
            asking.cancel()
        if asking.cancelled():
            return BackendError(Reason.UNREACHABLE, "the broker of this partition cannot be reached")
        return asking.result()

    async def decide(self, request: object) -> Any:
        """See `Brokers`."""
        return await self.ask(request, self._controller)

    async def look(self) -> None:
        """See `Brokers`."""
        self._learn(await self.ask(MetadataRequest([])))

    @property
    def size(self) -> int:
        """How many brokers it has."""
        return len(self._nodes)


async def _asked(broker: Broker, request: object) -> Any:
    try:
        return await broker.ask(request)
    except AWAY as error:
        return error
