"""The short form of `make chaos`: every fault once, on every backend that has it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.chaos.fault import FAULTS
from tests.chaos.ledger import Verdict
from tests.chaos.pool import Run, running
from tests.chaos.run import broken

SEED = 1
JOBS = 3
"""At a time: most of a run is waiting, but each job starts brokers of its own."""
EACH = [
    pytest.param((fault.name, kind, SEED), id=f"{fault.name}-{kind}", marks=() if kind == "local" else pytest.mark.broker)
    for fault in FAULTS.values()
    for kind in fault.backends
]


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> Iterator[dict[Run, Future[Verdict]]]:
    """Of the runs that were chosen, and begun together."""
    chosen = (getattr(item, "callspec", None) for item in request.session.items if item.path == request.path)
    with running((one.params["run"] for one in chosen if one is not None), JOBS) as verdicts:
        yield verdicts


@pytest.mark.slow
@pytest.mark.parametrize("run", EACH)
def test_nothing_is_lost_and_nothing_that_failed_is_there(verdicts: dict[Run, Future[Verdict]], run: Run) -> None:
    result = verdicts[run].result()
    assert [] == broken(result)
    assert result.attempts > 0
