"""How many exchanges a route carries at once."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from gateway.errors import GatewayError, Reason, RetryAfter
from gateway.exchange import Exchange, Handler
from gateway.policy import Guard, Policy, PolicyConfig

RETRY_AFTER_S = 1.0


class Config(PolicyConfig):
    """At most so many exchanges of a route at once, all protocols together. One more is refused (503), never queued: a queue
    would only add its wait to every answer.
    """

    refuses: ClassVar[tuple[Reason, ...]] = (Reason.OVERLOADED,)

    kind: Literal["concurrency"] = "concurrency"
    limit: int = Field(default=10_000, ge=1, le=1_000_000, examples=[500])
    """How many exchanges may be open at once; a WebSocket or a stream counts as one for as long as it is open."""

    def build(self, route: str, protocol: str) -> Policy:
        del protocol
        return self.shared(route, lambda: Concurrency(self.limit))


class Concurrency:
    """Counts what is inside."""

    guards = Guard.CALL

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        if self._inside >= self._limit:
            raise GatewayError(Reason.OVERLOADED, "too many exchanges at once: try again", details=(RetryAfter(RETRY_AFTER_S),))
        self._inside += 1
        try:
            await forward(exchange)
        finally:
            self._inside -= 1
