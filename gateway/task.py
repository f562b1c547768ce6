"""The one place where a task outlives the function that starts it: a set of tasks that belongs to a part and ends with it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")

log = logging.getLogger("polygate")

CUT_S = 0.05
"""What has not ended in time is cut, and after so long again."""


class Tasks:
    """Background tasks of one part. Leaving cancels those that still run and waits for them. One that fails is logged."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` until it returns, is cancelled, or the part ends."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


async def cut(closing: Coroutine[Any, Any, object], until: float) -> bool:
    """Whether it has ended by a time of the event loop; else it is cut."""
    task = asyncio.get_running_loop().create_task(closing)
    try:
        await asyncio.wait({task}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        in_time = task.done()
    finally:
        while not task.done():
            # Again and again: each of its parts may wait for something of its own, and a cancellation ends only one of these.
            task.cancel()
            with suppress(asyncio.CancelledError):  # for what is being cut already
                await asyncio.wait({task}, timeout=CUT_S)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return in_time


def spread(parts: Sequence[T], seconds: float, end: Callable[[T], object]) -> list[asyncio.TimerHandle]:
    """End some parts one by one, the first at once and the others evenly over so many seconds: their callers come back, and are
    not to come all at once.
    """
    loop = asyncio.get_running_loop()
    return [loop.call_later(seconds * number / len(parts), end, part) for number, part in enumerate(parts)]


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run what blocks in a thread that nobody waits for at the end: a contract's compiler may take longer than a drain."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # there is one where there is no error

    def run() -> None:
        found: tuple[T | None, BaseException | None]
        try:
            found = (work(), None)
        except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
            found = (None, error)
        try:
            loop.call_soon_threadsafe(settle, *found)
        except RuntimeError:
            log.debug("%s: nobody waits for it any more", name)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
