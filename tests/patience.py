"""Waiting for what tells nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 30


async def until(is_so: Callable[[], object]) -> None:
    """Look again and again, but not for ever."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.001)
