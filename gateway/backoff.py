"""How long to wait before another try: twice as long each time, up to a bound."""

from __future__ import annotations

import asyncio
import random

Bounds = tuple[float, float]
"""The first pause and the longest, in seconds."""


def pause(tries: int, bounds: Bounds) -> float:
    """Seconds to wait after so many tries in vain. With jitter: where many have failed at once, not all try again at once."""
    least, most = bounds
    # Long before 2 is raised so high the bound holds; beyond, a float ends.
    return min(least * 2.0 ** min(tries - 1, 60), most) * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret


class Backoff:
    """The pauses of the one who tries something until it works."""

    __slots__ = ("_bounds", "seconds")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.seconds = bounds[0]
        """How long the next one is."""

    def reset(self) -> None:
        """It has worked."""
        self.seconds = self._bounds[0]

    async def wait(self) -> None:
        """Wait for the next try."""
        await asyncio.sleep(self.seconds)
        self.seconds = min(self.seconds * 2, self._bounds[1])
