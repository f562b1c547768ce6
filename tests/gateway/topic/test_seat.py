"""A gateway's own partition of a reply topic."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError
from gateway.task import Tasks
from gateway.topic import seat as module
from gateway.topic.seat import Seat
from tests.fake_log import unreachable
from tests.gateway.topic.kept import shelf, state_log


@pytest.fixture
def log():
    return state_log()


@pytest.fixture
async def state(log):
    async with shelf(log) as state:
        yield state


@pytest.fixture
async def tasks():
    async with Tasks() as tasks:
        yield tasks


def seat(state=None, fixed=None):
    return Seat("events", "answered", fixed=fixed, state=state)


async def test_gateways_that_share_a_state_take_different_partitions(state, tasks):
    assert {0, 1, 2} == {await seat(state).take(3, f"life {number}", tasks) for number in range(3)}


async def test_where_there_are_too_few_partitions_one_is_shared(state, tasks, caplog):
    taken = [await seat(state).take(2, f"life {number}", tasks) for number in range(3)]
    assert {0, 1} == set(taken)
    assert "answered has fewer partitions than gateways" in caplog.text


async def test_the_partition_that_the_config_says_is_not_claimed(tasks):
    assert 7 == await seat(fixed=7).take(3, "life", tasks)


async def test_a_partition_that_is_taken_stays_ones_own(state, tasks):
    own = seat(state)
    assert await own.take(3, "life", tasks) == await own.take(3, "life", tasks)


async def test_a_claim_is_renewed_and_free_once_its_gateway_has_ended(state, monkeypatch):
    monkeypatch.setattr(module, "LEASE_S", 0.6)
    async with Tasks() as tasks:
        await seat(state).take(1, "one", tasks)
        await asyncio.sleep(1.2)
        assert b"one" == await state.get("replies:events:answered:0")
    async with asyncio.timeout(10):
        assert await state.changed("replies:events:answered:0", b"one") is None


async def test_a_claim_that_cannot_be_renewed_is_told_and_tried_again(log, state, tasks, monkeypatch, caplog):
    monkeypatch.setattr(module, "LEASE_S", 0.03)
    await seat(state).take(1, "one", tasks)
    log.broken = unreachable()
    async with asyncio.timeout(10):
        while "is not claimed anew yet" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)
    log.broken = None


async def test_a_partition_that_another_has_taken_meanwhile_is_shared_with_it(state, tasks, monkeypatch, caplog):
    monkeypatch.setattr(module, "LEASE_S", 0.3)
    await seat(state).take(1, "one", tasks)
    await state.put("replies:events:answered:0", b"other", 1000)
    async with asyncio.timeout(10):
        while "is shared with another gateway now" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)


async def test_without_the_state_no_partition_is_taken(log, tasks):
    log.broken = unreachable()
    async with shelf(log) as state:
        with pytest.raises(BackendError):
            await seat(state).take(1, "one", tasks)
