"""The life of the process: backends connect, listeners listen, a signal comes, and all leave in the opposite order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self, TypeVar

from gateway.bind import Address
from gateway.description import documents, servers
from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.plan import Plan
from gateway.port import Backend, Ingress, View

Entered = TypeVar("Entered")
log = logging.getLogger("polygate")


class StartError(Exception):
    """The gateway could not start: a port is taken, a path cannot be written. The text says which part and why."""


@dataclass(slots=True)
class Gateway:
    """A running gateway."""

    view: View
    backends: dict[str, Backend]

    @property
    def addresses(self) -> dict[str, Address]:
        """Where each listener listens, by name."""
        return self.view.addresses


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a route, for `/routes` and `polygate routes --json`."""
    return [
        {
            "route": route.name,
            "calls": [{"protocol": one.protocol, "call": one.when, "origin": one.origin} for one in route.bindings],
            "left_out": [asdict(one) for one in route.left_out],
            "backend": route.to.backend,
            "verb": route.to.verb,
            "target": getattr(route.to, route.to.verb),
            "contract": route.contract.name if route.contract else None,
            "file": plan.config.source.name(route.where),
            "line": plan.config.source.line(route.where),
        }
        for route in plan.routes
    ]


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Gateway]:
    """A gateway that serves while entered. Leaving drains the listeners, all by one deadline, before backends close.

    Raises StartError.
    """
    drain = plan.config.file.drain
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        backends: dict[str, Backend] = {}
        for name, part in plan.config.backends.items():
            backends[name] = await _entered(stack, f"backend {name}", partial(part.build, name))
        kept = await _entered(stack, "what the gateway keeps", partial(Kept, plan.config.file, plan.needs(), backends))
        table = plan.table(backends, kept)
        view = View(table.find, table.refuse, backends, plan.config.contracts, rows(plan))
        view.servers = partial(servers, plan, view.addresses)
        view.documents = documents(plan, view.addresses)
        leaving = [await stack.enter_async_context(_Leaving()) for _ in range(3)]
        for name, listener in plan.config.listeners.items():
            ingress: Ingress = listener.build(name, view)
            one = AsyncExitStack()
            address = await _entered(one, f"listener {name}", ingress.serving)
            if address is not None:
                view.addresses[name] = address
            # Callers first, all at once, for they share one deadline; then the topics, which may have to answer those callers
            # still; last what serves no route, so that operators see it all.
            leaving[0 if not listener.protocol else 1 if address is None else 2].listeners.append(one)
        try:
            yield Gateway(view, backends)
        finally:
            view.ready = False
            if drain.pause:
                await asyncio.sleep(drain.pause)
            view.drain_until = loop.time() + drain.seconds


class _Leaving:
    """Listeners that leave at one time."""

    def __init__(self) -> None:
        self.listeners: list[AsyncExitStack] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        ends = await asyncio.gather(*(listener.aclose() for listener in self.listeners), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end


async def _entered(stack: AsyncExitStack, what: str, opened: Callable[[], AbstractAsyncContextManager[Entered]]) -> Entered:
    try:
        return await stack.enter_async_context(opened())
    except GatewayError as error:
        raise StartError(f"{what}: {error.message}") from error
    except OSError as error:
        raise StartError(f"{what}: {error.strerror or error}") from error
    except (ValueError, RuntimeError) as error:
        raise StartError(f"{what}: {error}") from error


async def serve(plan: Plan, started: Callable[[Gateway], None], signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    """Run until a signal; `started` is called once everything listens. A second signal leaves without waiting."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        async with running(plan) as gateway:
            # What loading has made stays: the collector need not look at it again for every few hundred requests.
            gc.collect()
            gc.freeze()
            started(gateway)
            await stop.wait()
            log.info("stopping: exchanges have %.0f s to end", plan.config.file.drain.seconds)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
