"""The short form of `make chaos`: every fault once, on every backend that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.chaos.fault import FAULTS, Fault
from tests.chaos.run import Brokers, broken, once

SEED = 1
EACH = [
    pytest.param(fault, kind, id=f"{fault.name}-{kind}", marks=() if kind == "local" else pytest.mark.broker)
    for fault in FAULTS.values()
    for kind in fault.backends
]


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    with Brokers() as brokers:
        yield brokers


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "kind"), EACH)
def test_nothing_is_lost_and_nothing_that_failed_is_there(brokers: Brokers, fault: Fault, kind: str) -> None:
    result = asyncio.run(once(fault, kind, SEED, brokers))
    assert [] == broken(result)
    assert result.attempts > 0
