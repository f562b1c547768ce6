"""Which exchanges run inside of a part of the gateway now, so that it can leave once they have ended, or end them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from gateway.errors import GatewayError, Outcome, Reason
from gateway.task import spread

LAST = 3 / 4
"""The part of the time that is left in which what ends by itself may do so."""


class Inside:
    """The exchanges inside of one part. Who runs one notes its task, and whether it may last for ever, in `running`."""

    __slots__ = ("_emptied", "_ended", "leaving", "running")

    def __init__(self) -> None:
        self.running: dict[asyncio.Task[Any] | None, bool] = {}
        self.leaving = False
        self._ended: set[asyncio.Task[Any] | None] = set()
        self._emptied = asyncio.Event()

    def left(self) -> None:
        """Nobody is inside any more."""
        self._emptied.set()

    def moved(self, task: asyncio.Task[Any] | None) -> GatewayError | None:
        """What an exchange is told that was cancelled, if it was ended here and not by its caller."""
        if task is None or task not in self._ended:
            return None
        self._ended.discard(task)
        if task.uncancel() > 0:
            return None
        return GatewayError(Reason.OVERLOADED, "the gateway has a new config here: call again", outcome=Outcome.UNKNOWN)

    async def empty(self, until: float) -> None:
        """Return once all have ended, at `until` (event-loop time) at the latest."""
        self.leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self.running:
                    self._emptied.clear()
                    await self._emptied.wait()

    async def leave(self, until: float) -> None:
        """The same. What may last for ever is ended one by one over the first half of the time, and the rest near its end."""
        loop = asyncio.get_running_loop()
        left = max(0.0, until - loop.time())
        lasting = [task for task, lasts in self.running.items() if lasts]
        timers = spread(lasting, left / 2, self._end)
        timers.append(loop.call_later(left * LAST, self._end_all))
        try:
            await self.empty(until)
        finally:
            for timer in timers:
                timer.cancel()

    def _end_all(self) -> None:
        for task in list(self.running):
            self._end(task)

    def _end(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and task in self.running and task not in self._ended:
            self._ended.add(task)
            task.cancel(Reason.OVERLOADED)


class Users:
    """Exchanges that go on with a part though their routes are gone, or are others by now."""

    def __init__(self) -> None:
        self._insides: list[Inside] = []

    def note(self, insides: Iterable[Inside]) -> None:
        """Know of some."""
        self._insides = [one for one in (*self._insides, *insides) if one.running]

    async def leave(self, until: float) -> None:
        """Wait until all have ended, or end them by then."""
        await asyncio.gather(*(one.leave(until) for one in self._insides))
