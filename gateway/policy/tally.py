"""The numbers of exchanges, as plain integers: they are counted on the way of every request, and what Prometheus wants is made of
them when it asks. The accounting holds between any two steps of the event loop:
accepted = acknowledged + failed + unknown + stored + dropped + in flight.
"""

from __future__ import annotations

from asyncio import CancelledError, Future
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from gateway.errors import GatewayError, Outcome, Reason
from gateway.status import outcome_of

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's buckets, in seconds."""


class Tally:
    """The numbers of one route over one protocol: of its exchanges or, apart from them, of the conversations that hold these."""

    __slots__ = ("accepted", "buckets", "bytes_in", "bytes_out", "ended", "messages_in", "messages_out", "outcomes", "seconds")

    def __init__(self) -> None:
        self.accepted = 0
        self.ended = 0
        self.outcomes: dict[tuple[str, str], int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0

    def end(self, outcome: str, reason: str, seconds: float) -> None:
        """One exchange is over."""
        self.ended += 1
        key = (outcome, reason)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def settle(self, seconds: float, fate: Future[Any]) -> None:
        """What one exchange that was answered long ago came to. Until then it was in flight."""
        error = CancelledError() if fate.cancelled() else fate.exception()
        if error is None:
            self.end("acknowledged", "", seconds)
        else:
            told = error if isinstance(error, GatewayError) else GatewayError(Reason.CANCELLED, "", outcome=Outcome.FAILED)
            self.end("unknown" if outcome_of(told) is Outcome.UNKNOWN else "dropped", told.reason.value, seconds)


_TALLIES: dict[str, dict[tuple[str, str], Tally]] = {"exchanges": {}, "conversations": {}}


def tally_of(kind: str, route: str, protocol: str) -> Tally:
    """The one of a route and a protocol: it counts on through a reload of the config."""
    return _TALLIES[kind].setdefault((route, protocol), Tally())


def tallies() -> Mapping[str, Mapping[tuple[str, str], Tally]]:
    """All of the process: by kind, and by route and protocol."""
    return _TALLIES
