"""A backend that is called over a wire, guarded: its breaker, and a bound on what it may have in flight.

A dead or slow backend then holds up its own routes and no others.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from contextlib import AsyncExitStack
from typing import Self

from gateway.breaker import OPEN, Breaker, BreakerConfig
from gateway.errors import BackendError, GatewayError, Reason, RetryAfter
from gateway.exchange import Exchange, Handler
from gateway.metric import Counter, Gauge
from gateway.port import Backend, BackendConfig
from gateway.target import Target
from gateway.task import Tasks

RETRY_AFTER_S = 1.0

IN_FLIGHT = Gauge("polygate_backend_in_flight", "Calls that a backend has not answered yet.", "backend")
REFUSED = Counter("polygate_backend_refused", "Calls that were refused before anything was sent.", "backend", "why")


class PeerConfig(BackendConfig):
    """The config of a backend that is called over a wire."""

    breaker: BreakerConfig = BreakerConfig()
    """When calls are refused at once, because it does not answer."""

    def build(self, name: str = "-") -> Peer:
        return Peer(name, self, self.connecting())

    def calls_at_once(self) -> int | None:
        """How many calls it may have in flight: one more is refused. None where its own pool of connections sees to that."""
        return None

    @abstractmethod
    def connecting(self) -> Backend:
        """The backend itself, not yet connected."""


class Peer:
    """See `Backend`: another one, guarded."""

    def __init__(self, name: str, config: PeerConfig, backend: Backend) -> None:
        self._name = name
        self._limit = config.calls_at_once() or sys.maxsize
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self.backend = backend
        self.breaker = Breaker(name, config.breaker, backend.check, self._tasks)
        self.in_flight = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.backend)
            await stack.enter_async_context(self._tasks)
            stack.callback(IN_FLIGHT.watch(lambda: self.in_flight, self._name))
            stack.callback(OPEN.watch(lambda: self.breaker.open, self._name))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        await self.backend.check()

    def handler(self, target: Target) -> Handler:
        handler, breaker = self.backend.handler(target), self.breaker

        async def run(exchange: Exchange) -> None:
            if breaker.open:
                REFUSED.add(1, self._name, "breaker")
                raise breaker.refusal()
            if self.in_flight >= self._limit:
                REFUSED.add(1, self._name, "in_flight")
                raise BackendError(
                    Reason.OVERLOADED, "too many calls wait for the backend: try again", details=(RetryAfter(RETRY_AFTER_S),)
                )
            self.in_flight += 1
            try:
                await handler(exchange)
            except GatewayError as error:
                breaker.failed(error, exchange.call)
                raise
            else:
                breaker.succeeded()
            finally:
                self.in_flight -= 1

        return run
