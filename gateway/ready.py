"""Whether exchanges would be served now."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.errors import GatewayError
from gateway.port import Backend, View


async def readiness(view: View, seconds: float) -> dict[str, Any]:
    """Ready or not, and of each backend too, with its reason. A backend has so many seconds to say so."""
    names = list(view.backends)
    reasons = await asyncio.gather(*(_reason(view.backends[name], seconds) for name in names))
    backends = {
        name: {"ready": reason is None, **({"reason": reason} if reason else {})}
        for name, reason in zip(names, reasons, strict=True)
    }
    body: dict[str, Any] = {"ready": view.ready and all(reason is None for reason in reasons), "backends": backends}
    return body if view.ready else body | {"reason": "the gateway is stopping"}


async def _reason(backend: Backend, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            await backend.check()
    except GatewayError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    return None
