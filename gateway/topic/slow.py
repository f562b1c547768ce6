"""Callers who cannot keep up with a topic: what counts as too slow, and who looks for it while they take nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Literal

from pydantic import ByteSize, Field

from gateway.part import Part
from gateway.task import Tasks
from gateway.topic.ring import Lag

Slow = Literal["wait", "conflate", "drop_oldest", "disconnect"]
LOOK_S = 1.0
_NO_BOUND = 1 << 62


class Behind(Part):
    """How far a caller may be behind the live end of its topic; the first bound that it passes counts. Who starts in the past
    is not slow before it has once caught up.
    """

    records: int = Field(default=1000, gt=0)
    """Records."""
    bytes: ByteSize | None = Field(default=None, gt=0, examples=["8 MiB"])
    """Of their bodies. Unless told there is no such bound."""
    seconds: float | None = Field(default=None, gt=0, examples=[30])
    """Since the first of them came. Unless told there is no such bound."""

    def lag(self) -> Lag:
        """The bounds, those that there are not as numbers that nobody reaches."""
        return Lag(self.records, self.bytes or _NO_BOUND, self.seconds or inf)


def passes(lag: Lag | None, bound: Lag) -> bool:
    """Whether a caller so far behind is too slow."""
    return lag is not None and (lag.records > bound.records or lag.bytes > bound.bytes or lag.seconds > bound.seconds)


class Watch:
    """Looks every second at the callers that are to go once they are too slow: one that takes nothing is not looked at by itself.
    One timer for all of them.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._watched: dict[asyncio.Timeout, tuple[Callable[[], Lag | None], Lag]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, lag: Callable[[], Lag | None], bound: Lag, patience: asyncio.Timeout) -> Iterator[None]:
        """End somebody's patience once a lag passes its bound."""
        self._watched[patience] = (lag, bound)
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.spawn(self._look(), "looking for slow callers")
        try:
            yield
        finally:
            del self._watched[patience]

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            await asyncio.sleep(LOOK_S)
            for patience, (lag, bound) in list(self._watched.items()):
                if passes(lag(), bound):
                    patience.reschedule(loop.time())
