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
"""After a second signal, between two looks at what is waited for."""


class _Stop:
    """Said by the first signal. A second one ends whatever is waited for, and again after AGAIN_S what is waited for then."""

    def __init__(self) -> None:
        self.said = asyncio.Event()
        self._task = asyncio.current_task()
        self._again: asyncio.TimerHandle | None = None

    def signal(self) -> None:
        """One more has come."""
        if self.said.is_set() and self._again is None:
            self._hurry()
        self.said.set()

    def _hurry(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._hurry)

    def over(self) -> None:
        """Nothing is waited for any more."""
        if self._again is not None:
            self._again.cancel()


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
    loop = asyncio.get_running_loop()
    stop, reloads = _Stop(), Reloads(plan, loaded)
    for number in signals:
        loop.add_signal_handler(number, stop.signal)
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    try:
        async with Gateway(plan, reload=reloads.reload, listen=listen, everybody=everybody) as gateway, reloads.of(gateway):
            # What loading has made stays: the collector need not look at it again for every few hundred requests.
            gc.collect()
            gc.freeze()
            started(gateway)
            await stop.said.wait()
            stopping()
            log.info("stopping: exchanges have %.0f s to end", gateway.plan.config.file.drain.seconds)
    finally:
        stop.over()
        for number in (*signals, signal.SIGHUP):
            loop.remove_signal_handler(number)
