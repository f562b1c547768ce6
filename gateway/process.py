"""The process around a gateway: its signals, and how long its end may take."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence

from gateway.bind import Listen, listen
from gateway.listener import Everybody
from gateway.plan import Plan
from gateway.reload import Reloads
from gateway.server import Gateway

log = logging.getLogger("polygate")

AGAIN_S = 0.1
"""A second signal ends whatever is waited for, and again after so long what is waited for then."""


async def serve(
    plan: Plan,
    started: Callable[[Gateway], None],
    signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
    listen: Listen = listen,
    stopping: Callable[[], None] = lambda: None,
    everybody: Everybody | None = None,
    loaded: Callable[[Plan], None] = lambda _plan: None,
) -> None:
    """Run until a signal; `started` is called once everything listens, `loaded` with each plan that takes the place of another,
    and `stopping` when the signal has come. A second signal leaves without waiting. SIGHUP loads the config anew.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    hurried: list[asyncio.TimerHandle] = []

    def hurry() -> None:
        if task is not None:
            task.cancel()
        hurried[:] = [loop.call_later(AGAIN_S, hurry)]

    def on_signal() -> None:
        if stop.is_set() and not hurried:
            hurry()
        stop.set()

    reloads = Reloads(plan, loaded)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    try:
        async with Gateway(plan, reload=reloads.reload, listen=listen, everybody=everybody) as gateway, reloads.of(gateway):
            # What loading has made stays: the collector need not look at it again for every few hundred requests.
            gc.collect()
            gc.freeze()
            started(gateway)
            await stop.wait()
            stopping()
            log.info("stopping: exchanges have %.0f s to end", gateway.plan.config.file.drain.seconds)
    finally:
        for timer in hurried:
            timer.cancel()
        for number in (*signals, signal.SIGHUP):
            loop.remove_signal_handler(number)
