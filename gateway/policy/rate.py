"""How often a caller may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_network
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gateway.errors import CallerError, Reason, RetryAfter
from gateway.exchange import Call, Exchange, Handler
from gateway.policy import Guard, Policy, PolicyConfig
from gateway.policy.headers import HEADER_NAME

Per = Literal["second", "minute"]
By = Literal["address", "header", "principal", "route"]
_SECONDS: dict[Per, float] = {"second": 1.0, "minute": 60.0}


class Config(PolicyConfig):
    """A token bucket for each caller of a route, all protocols together. A message that finds its bucket empty is refused
    (429) and told when to come again.
    """

    refuses: ClassVar[tuple[Reason, ...]] = (Reason.RATE_LIMITED,)

    kind: Literal["rate"] = "rate"
    limit: int = Field(ge=1, le=1_000_000, examples=[100])
    """How many messages a caller may send in each period, in the long run."""
    per: Per = "second"
    """The period."""
    burst: int | None = Field(default=None, ge=1, le=1_000_000, examples=[200])
    """How many it may send at once after a pause: the size of the bucket. As many as `limit` unless told."""
    by: By = "address"
    """Who one caller is: an address (of IPv6 the /64 network, for one host has all of it), the value of a header, a principal
    (whom a policy before this one found the caller to be: no kind of policy that comes with the gateway finds that out yet, and
    without one `principal` is refused), or everybody of the route together. Callers without the header or the principal share
    one bucket.
    """
    header: Annotated[str, HEADER_NAME] | None = Field(default=None, examples=["x-api-key"])
    """The header, for `by: header`."""
    callers: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many callers are remembered. Beyond that the one who has been away longest is forgotten, and starts with a full
    bucket when it comes back.
    """

    @model_validator(mode="after")
    def _header_fits(self) -> Self:
        if (self.by == "header") != (self.header is not None):
            raise ValueError("`by: header` and the name in `header` belong together")
        return self

    def refusals(self, before: Sequence[PolicyConfig], limit: int | None) -> Sequence[tuple[str, str]]:
        del limit
        if self.by != "principal" or any(policy.identifies for policy in before):
            return ()
        return (("by", "no policy before it finds out who calls, so all callers would share one bucket; use address or header"),)

    def build(self, route: str, protocol: str) -> Policy:
        del protocol
        return self.shared(route, lambda: Rate(self))


class Rate:
    """For each caller the time at which its bucket will be full again (the generic cell rate algorithm, ITU-T I.371)."""

    guards = Guard.MESSAGE

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._who = _caller(config)
        self._clock = clock
        self._callers = config.callers
        self._interval = _SECONDS[config.per] / config.limit
        # A hair more than burst - 1 tokens: adding up intervals rounds.
        self._slack = self._interval * ((config.burst or config.limit) - 1 + 1e-6)
        self._full_at: OrderedDict[int, float] = OrderedDict()
        self._refusal = f"more than {config.limit} a {config.per}"

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        self._take(self._who(exchange.call))
        await forward(exchange)

    def _take(self, caller: str) -> None:
        """One token out of a caller's bucket. A refusal takes none."""
        # The hash stands for the caller: it is seeded, and takes the same small space whatever a header holds.
        key = hash(caller)
        now = self._clock()
        known = self._full_at
        full_at = known.get(key, now)
        wait = full_at - self._slack - now
        if wait <= 0:
            full_at = max(full_at, now) + self._interval
        known[key] = full_at
        known.move_to_end(key)
        if len(known) > self._callers:
            known.popitem(last=False)
        if wait > 0:
            raise CallerError(Reason.RATE_LIMITED, self._refusal, details=(RetryAfter(wait),))


def _caller(config: Config) -> Callable[[Call], str]:
    """Who a call counts for."""
    if config.by == "address":
        return lambda call: _network(call.peer) if ":" in call.peer else call.peer
    if config.by == "principal":
        return lambda call: call.principal.name if call.principal is not None else ""
    if config.header is not None:
        header = config.header.lower()
        return lambda call: call.headers.get(header) or ""
    return lambda _call: ""


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """The /64 of an IPv6 address; the IPv4 address that it wraps; what is neither, as it is."""
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed.packed[:8] + bytes(8), 64)))
