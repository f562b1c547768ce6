"""What a caller prefers, by `Prefer` (RFC 7240): an answer that is fetched later, or one that is waited for so long."""

from __future__ import annotations

import re

from gateway.exchange import Call
from gateway.message import value

RPC = frozenset({"grpc", "grpc_web", "connect"})
"""Wires whose replies have one type, so that nothing else can be said in their place."""
MAX_WAIT_S = 86_400
_WAIT = re.compile(r'wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))\Z', re.IGNORECASE | re.ASCII)
_ASYNC = "respond-async"


@value
class Preference:
    """What of `Prefer` this gateway knows."""

    later: bool = False
    """`respond-async`."""
    wait: float | None = None
    """Seconds of `wait`; None where nothing is said of it."""

    @property
    def applied(self) -> str:
        """`Preference-Applied` (RFC 7240 3)."""
        return ", ".join((*((_ASYNC,) if self.later else ()), *(() if self.wait is None else (f"wait={self.wait:.0f}",))))


NONE = Preference()


def preference_of(call: Call) -> Preference:
    """The preference of a call. What is not known, or is none, is passed over; of two the first counts (RFC 7240 2)."""
    text = call.headers.joined("prefer")
    if not text or call.protocol in RPC:
        return NONE
    later, wait = False, None
    for part in text.split(","):
        # What follows a semicolon are parameters, of which neither has any.
        said = part.partition(";")[0].strip()
        if said.lower() == _ASYNC:
            later = True
        elif wait is None and (found := _WAIT.match(said)) is not None:
            wait = float(min(int(found[1] or found[2]), MAX_WAIT_S))
    return Preference(later, wait)
