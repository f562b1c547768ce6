"""Several runs at a time, each process with brokers of its own: one that is broken for one run is of no use to another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from tests.chaos.fault import FAULTS
from tests.chaos.ledger import Verdict
from tests.chaos.run import Brokers, once

Run = tuple[str, str, int]
"""A fault, a backend, a seed."""

END_S = 20

_brokers: Brokers | None = None


@contextmanager
def running(runs: Iterable[Run], jobs: int) -> Iterator[dict[Run, Future[Verdict]]]:
    """What each run comes to. The brokers end with the processes, however these end."""
    # Never forked: gRPC does not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin) as pool:
        try:
            yield {run: pool.submit(_run, run) for run in runs}
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    global _brokers  # noqa: PLW0603  a pool has no other place for what its processes keep
    _brokers = Brokers()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool whose owner was killed would go on with what it has in hand."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)  # ends the run and its gateway
    time.sleep(END_S)
    os._exit(1)


def _run(run: Run) -> Verdict:
    name, kind, seed = run
    assert _brokers is not None
    try:
        return asyncio.run(once(FAULTS[name], kind, seed, _brokers))
    except (AssertionError, TimeoutError, ExceptionGroup, OSError) as error:
        return Verdict(strange=[f"the run ended with {error!r}"])
