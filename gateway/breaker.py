"""The breaker of a backend: after some failures in a row nobody waits for it any more, until its own check says that it is back.

Open, it refuses at once: a definite failure, for nothing was sent. No caller is spent on finding out whether the backend is back,
for its `check` is asked, again and again with growing pauses; and the first failure after that opens the breaker again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from pydantic import Field

from gateway.errors import BackendError, CallerError, GatewayError, Reason, RetryAfter
from gateway.exchange import Call
from gateway.metric import Counter, Gauge
from gateway.part import Part
from gateway.task import Tasks

log = logging.getLogger("polygate")

CHECK_S = 5.0

OPEN = Gauge("polygate_backend_breaker_open", "1 while the breaker of a backend is open.", "backend")
OPENED = Counter("polygate_backend_breaker_opened", "How often the breaker of a backend opened.", "backend")

_SILENCE = frozenset({Reason.UNREACHABLE, Reason.BAD_ANSWER})
_LATE = frozenset({Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME})


class BreakerConfig(Part):
    """When calls to a backend are refused at once."""

    failures: int = Field(default=5, ge=1, le=1_000_000)
    """After so many calls in a row that got no answer in time, or none that makes sense. An error that the backend answers
    with is an answer; a deadline that the caller itself has set says nothing of the backend.
    """
    pause: float = Field(default=1.0, gt=0, le=3600)
    """Seconds until the backend is asked whether it is back; twice as long each time that it is not, with jitter."""
    max_pause: float = Field(default=30.0, gt=0, le=3600)
    """The longest of these pauses."""


class Breaker:
    """Counts the failures of one backend, and asks it in the background while open."""

    def __init__(self, name: str, config: BreakerConfig, check: Callable[[], Awaitable[None]], tasks: Tasks) -> None:
        """`check` raises a GatewayError while the backend is not back."""
        self._name = name
        self._config = config
        self._check = check
        self._tasks = tasks
        self._failures = 0
        self._pause = config.pause
        self._again = 0.0
        self._shut = asyncio.Event()
        self._shut.set()

    @property
    def open(self) -> bool:
        """Whether calls are refused now."""
        return not self._shut.is_set()

    async def closed(self) -> None:
        """Wait until calls are let through again."""
        await self._shut.wait()

    def refusal(self) -> BackendError:
        """What a call is answered with while it is open."""
        left = max(self._again - asyncio.get_running_loop().time(), 0.1)
        return BackendError(Reason.UNREACHABLE, "the backend does not answer at present", details=(RetryAfter(left),))

    def succeeded(self) -> None:
        """The backend answered."""
        self._failures = 0
        self._pause = self._config.pause

    def failed(self, error: GatewayError, call: Call) -> None:
        """A call ended in an error: count it where it says that the backend is away."""
        if error.reason in _LATE and call.expires is not None and call.expires == call.deadline:
            return
        if isinstance(error, CallerError) or error.reason is Reason.OVERLOADED:
            return  # refused on this side: the backend has said nothing
        if error.reason not in _SILENCE and error.reason not in _LATE:
            self.succeeded()
            return
        self._failures += 1
        if self._failures >= self._config.failures and self._shut.is_set():
            self._shut.clear()
            OPENED.add(1, self._name)
            log.warning("backend %s: %d calls in a row failed, the last with: %s", self._name, self._failures, error.message)
            self._tasks.spawn(self._watch(), f"breaker of {self._name}")

    async def _watch(self) -> None:
        try:
            await self._back()
            # Half open: the next failure opens it again, after a longer pause; a success forgets it all.
            self._failures = self._config.failures - 1
            log.info("backend %s answers again", self._name)
        finally:
            # Where the backend leaves first nobody asks it any more: who waits is to look for another.
            self._shut.set()

    async def _back(self) -> None:
        """Ask until the backend answers."""
        loop = asyncio.get_running_loop()
        while True:
            pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311  jitter, not a secret
            self._again = loop.time() + pause
            await asyncio.sleep(pause)
            self._pause = min(self._pause * 2, self._config.max_pause)
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._check()
            except (GatewayError, TimeoutError):
                continue
            return
