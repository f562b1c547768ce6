"""What only asking can tell: whether backends are there, and whether a running gateway has the contracts that load now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

from gateway.errors import GatewayError, Reason
from gateway.port import BackendConfig

ASK_S = 5.0
MAX_ANSWER = 16 << 20
PAGE = "/contracts"


class AskingError(Exception):
    """A gateway that does not tell its contracts; the text says why."""


class _Stay(HTTPRedirectHandler):
    """An admin listener never sends anybody elsewhere."""

    def redirect_request(self, *_args: object) -> None:
        """Follow none: the answer is then an error."""


def drift(url: str, now: Mapping[str, str]) -> Iterator[str]:
    """What the gateway whose admin listener is at `url` has otherwise than `now`, by digest. Raises AskingError."""
    then = _asked(url)
    for name in sorted({**then, **now}):
        if name not in then:
            yield f"{name} is new since the gateway has loaded its contracts"
        elif name not in now:
            yield f"{name} is gone since the gateway has loaded its contracts"
        elif then[name] != now[name]:
            yield f"{name} has changed since the gateway has loaded its contracts"


def _asked(url: str) -> Mapping[str, str]:
    if not url.startswith(("http://", "https://")):
        raise AskingError("write the address of its admin listener, as in http://127.0.0.1:9900")
    try:
        with build_opener(ProxyHandler({}), _Stay).open(f"{url.rstrip('/')}{PAGE}", timeout=ASK_S) as answer:
            told = json.loads(answer.read(MAX_ANSWER))["contracts"]
    except (URLError, HTTPException, OSError) as error:
        raise AskingError(f"cannot be asked: {getattr(error, 'reason', None) or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AskingError("answers something else than its contracts: is that an admin listener?") from error
    if not isinstance(told, dict):
        raise AskingError("answers something else than its contracts: is that an admin listener?")
    return told


async def unready(backends: Mapping[str, BackendConfig]) -> dict[str, str]:
    """Why each backend that is not ready is not. Each has five seconds."""
    reasons = await asyncio.gather(*map(_ready, backends.values()))
    return {name: reason for name, reason in zip(backends, reasons, strict=True) if reason is not None}


async def _ready(config: BackendConfig) -> str | None:
    reason = f"no answer within {ASK_S:g} s"
    try:
        async with config.build() as backend, asyncio.timeout(ASK_S):
            # Entering does not wait for the peer: it may be away only because nobody has connected yet.
            while True:
                try:
                    await backend.check()
                except GatewayError as error:
                    reason = error.message
                    if error.reason is not Reason.UNREACHABLE:
                        return reason
                else:
                    return None
                await asyncio.sleep(0.2)
    except TimeoutError:
        return reason
    except (GatewayError, OSError, ValueError, RuntimeError) as error:
        return str(error)
