"""Several runs at a time, each process with brokers of its own: one that is broken for one run is of no use to another."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.chaos.fault import FAULTS
from tests.chaos.ledger import Verdict
from tests.chaos.run import Brokers, once

Run = tuple[str, str, int]
"""A fault, a backend, a seed."""

_brokers: Brokers | None = None


def results(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Verdict]]:
    """What each run came to, in their order. The brokers end with the processes, however these end."""
    # Never forked: gRPC does not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(runs)), mp_context=context, initializer=_begin) as pool:
        yield from zip(runs, pool.map(_run, runs), strict=True)


def _begin() -> None:
    global _brokers  # noqa: PLW0603  a pool has no other place for what its processes keep
    _brokers = Brokers()


def _run(run: Run) -> Verdict:
    name, kind, seed = run
    assert _brokers is not None
    try:
        return asyncio.run(once(FAULTS[name], kind, seed, _brokers))
    except (AssertionError, TimeoutError, ExceptionGroup, OSError) as error:
        return Verdict(strange=[f"the run ended with {error!r}"])
