"""Whether exchanges would be served now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import GatewayError
from gateway.listener import View


async def readiness(view: View, seconds: float) -> dict[str, Any]:
    """Ready or not, and of each backend too, with its reason. A backend has so many seconds to say so."""
    names = list(view.backends)
    kept, *reasons = await asyncio.gather(
        _reason(view.keeps, seconds), *(_reason(view.backends[name].check, seconds) for name in names)
    )
    backends = {
        name: {"ready": reason is None, **({"reason": reason} if reason else {})}
        for name, reason in zip(names, reasons, strict=True)
    }
    ready = view.ready and kept is None and all(reason is None for reason in reasons)
    reason = kept if view.ready else "the gateway is stopping"
    return {"ready": ready, "backends": backends, **({"reason": reason} if reason else {})}


async def _reason(check: Callable[[], Awaitable[None]], seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            await check()
    except GatewayError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    return None
