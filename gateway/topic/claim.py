"""Idempotency keys in the gateway's state: each is claimed by one attempt at a time, and holds its receipts once it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.metric import Counter
from gateway.state import State
from gateway.status import outcome_of
from gateway.topic.attempt import Attempt, Overtaken, find
from gateway.topic.idempotency import Idempotency
from gateway.topic.log import Log
from gateway.topic.write import Receipt

log = logging.getLogger("polygate")

SEEN = 10_000
DEAD_S = 5.0
"""What a broker is given to write down what came from a gateway that died."""
UNDER_WAY_STILL = "an attempt with this Idempotency-Key is under way, and has not ended in time"

FOUND = Counter("polygate_idempotency_found", "Keys whose records were found in their topic, after a crash or a doubt.", "route")

_RUNNING: set[str] = set()
"""The attempts of this process, those of routes that a reload has replaced too."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """An attempt of somebody else, as it was first met here."""

    value: bytes
    first: float


class Claims:
    """The keys of one route."""

    def __init__(self, source: Log, state: State, route: str, spec: Idempotency) -> None:
        self._log = source
        self._state = state
        self._route = route
        self._spec = spec
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    async def claim(self, key: str, mine: Attempt, over: bytes | None) -> bytes | None:
        """Claim a key that nobody holds, or that still holds `over`. None where it is ours now; else what it holds."""
        return await self._state.claim(_name(key), mine.written(), self._spec.window, over=over)

    def free(self, key: str, there: bytes, other: Attempt) -> bool:
        """Whether an attempt that has neither ended nor left a record in its topic may be taken over."""
        return other.by not in _RUNNING and self.left(key, there, other) <= 0

    async def write(self, key: str, mine: Attempt, write: Callable[[], Awaitable[Sequence[Receipt]]]) -> Sequence[Receipt]:
        """Write by an attempt whose key is claimed, and note what has become of it."""
        _RUNNING.add(mine.by)
        try:
            receipts = await write()
        except GatewayError as error:
            await (self._let_go if outcome_of(error) is Outcome.FAILED else self._doubt)(key, mine)
            raise
        else:
            await self._keep(key, mine, receipts)
            return receipts
        finally:
            _RUNNING.discard(mine.by)

    async def _keep(self, key: str, mine: Attempt, receipts: Sequence[Receipt]) -> None:
        try:
            await self._state.put(_name(key), mine.ended(receipts).written(), self._spec.window)
        except GatewayError as error:
            # They are written all the same, and whoever comes with the key finds them.
            log.warning("the receipt of a key of route %s is not kept: %s", self._route, error.message)

    async def _let_go(self, key: str, mine: Attempt) -> None:
        try:
            await self._state.drop(_name(key), known=mine.written())
        except GatewayError as error:
            log.warning("a key of route %s is held for %.0f s more: %s", self._route, mine.wait, error.message)

    async def _doubt(self, key: str, mine: Attempt) -> None:
        doubt = replace(mine, doubt=True, wait=self._spec.settle)
        try:
            await self._state.claim(_name(key), doubt.written(), self._spec.window, over=mine.written())
        except GatewayError as error:
            log.warning("a key of route %s is held for %.0f s more: %s", self._route, mine.wait, error.message)
        else:
            self.left(key, doubt.written(), doubt)

    async def found(self, key: str, there: bytes, other: Attempt, count: int, due: float) -> Sequence[Receipt] | None:
        """The receipts of what an attempt that is not ours has written, kept for those who come later."""
        if other.by in _RUNNING:
            return None
        try:
            async with asyncio.timeout_at(due):
                receipts = await find(self._log, key, other.since, count)
        except (TimeoutError, Overtaken, BackendError) as error:
            # A broker that is away writes what it was handed once it is back: it is waited for anew from then on.
            self._seen.pop(key, None)
            text = "an attempt with this Idempotency-Key has not ended, and its topic cannot be searched for what it wrote"
            raise BackendError(Reason.UNKNOWN_OUTCOME, text) from error
        if receipts is not None:
            FOUND.add(1, self._route)
            await self._keep(key, other, receipts)
        elif other.doubt:
            self.left(key, there, other)
        return receipts

    def left(self, key: str, there: bytes, other: Attempt) -> float:
        """For how many seconds an attempt is to be left alone yet: by our own watch, from when it was first met."""
        # Where a state is ours alone, whoever left this behind is dead.
        wait = other.wait if self._state.shared or other.doubt or other.by in _RUNNING else min(other.wait, DEAD_S)
        seen = self._seen.get(key)
        if seen is None or seen.value != there:
            while len(self._seen) >= SEEN:
                self._seen.popitem(last=False)
            seen = self._seen[key] = _Seen(there, _now())
        return seen.first + wait - _now()

    async def wait(self, key: str, there: bytes, until: float, due: float) -> None:
        """Wait until an attempt has ended, or may be taken over."""
        try:
            async with asyncio.timeout_at(until):
                await self._state.changed(_name(key), there)
        except TimeoutError as error:
            if _now() >= due:
                raise BackendError(Reason.UNKNOWN_OUTCOME, UNDER_WAY_STILL) from error


def _name(key: str) -> str:
    return f"idempotency:{key}"


def _now() -> float:
    return asyncio.get_running_loop().time()
