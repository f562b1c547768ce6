"""When a backend is no longer waited for, and when it is again."""

from __future__ import annotations

import asyncio

import pytest

from gateway.breaker import Breaker, BreakerConfig
from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, new_id
from gateway.metric import known
from gateway.status import retry_after
from gateway.task import Tasks

CALL = Call(new_id(), "rest", "GET /")
AWAY = BackendError(Reason.UNREACHABLE, "away")


class Backend:
    """One that says whether it is back."""

    def __init__(self):
        self.back = False
        self.asked = 0
        self.looked = asyncio.Event()

    async def check(self):
        self.asked += 1
        self.looked.set()
        if not self.back:
            raise AWAY


@pytest.fixture
async def tasks():
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
def backend():
    return Backend()


def made(backend, tasks, **config):
    return Breaker("b", BreakerConfig(**{"failures": 3, "pause": 0.01, "max_pause": 0.02, **config}), backend.check, tasks)


async def test_it_opens_after_some_failures_in_a_row(backend, tasks):
    breaker = made(backend, tasks)
    breaker.failed(AWAY, CALL)
    breaker.failed(AWAY, CALL)
    breaker.succeeded()
    breaker.failed(AWAY, CALL)
    breaker.failed(AWAY, CALL)
    assert not breaker.open
    breaker.failed(AWAY, CALL)
    assert breaker.open


async def test_open_it_refuses_with_a_definite_failure_that_says_when_to_come_again(backend, tasks):
    breaker = made(backend, tasks, failures=1, pause=30)
    breaker.failed(AWAY, CALL)
    await asyncio.sleep(0)
    refusal = breaker.refusal()
    assert Reason.UNREACHABLE is refusal.reason
    assert 20 < retry_after(refusal) < 40


async def test_it_closes_once_the_backend_itself_says_that_it_is_back(backend, tasks):
    breaker = made(backend, tasks, failures=1)
    breaker.failed(AWAY, CALL)
    await backend.looked.wait()
    assert breaker.open
    backend.back = True
    async with asyncio.timeout(10):
        await breaker.closed()
    assert not breaker.open
    assert 2 <= backend.asked


async def test_the_first_failure_after_that_opens_it_again_and_a_success_forgets_it_all(backend, tasks):
    backend.back = True
    breaker = made(backend, tasks)
    for _ in range(3):
        breaker.failed(AWAY, CALL)
    async with asyncio.timeout(10):
        await breaker.closed()
    breaker.failed(AWAY, CALL)
    assert breaker.open
    async with asyncio.timeout(10):
        await breaker.closed()
    breaker.succeeded()
    breaker.failed(AWAY, CALL)
    assert not breaker.open


async def test_a_check_that_hangs_does_not_hold_it_up_for_ever(backend, tasks, monkeypatch):
    monkeypatch.setattr("gateway.breaker.CHECK_S", 0.01)
    asked = 0

    async def check():
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()

    backend.check = check
    breaker = made(backend, tasks, failures=1)
    breaker.failed(AWAY, CALL)
    async with asyncio.timeout(10):
        await breaker.closed()
    assert 2 == asked


@pytest.mark.parametrize(
    "error",
    [
        BackendError(Reason.BACKEND_UNAVAILABLE, "it says so itself"),
        BackendError(Reason.BACKEND_INTERNAL, "a defect of its own"),
        BackendError(Reason.OVERLOADED, "ours"),
        CallerError(Reason.INVALID, "the caller's"),
    ],
    ids=lambda error: error.reason.value,
)
async def test_an_answer_is_no_failure_whatever_it_says(backend, tasks, error):
    breaker = made(backend, tasks, failures=1)
    breaker.failed(error, CALL)
    assert not breaker.open


@pytest.mark.parametrize(
    "error",
    [CallerError(Reason.MALFORMED, "the caller's"), BackendError(Reason.OVERLOADED, "no connection is free")],
    ids=lambda error: error.reason.value,
)
async def test_what_is_refused_on_this_side_is_no_sign_of_life(backend, tasks, error):
    breaker = made(backend, tasks, failures=2)
    for one in (AWAY, error, AWAY):
        breaker.failed(one, CALL)
    assert breaker.open


@pytest.mark.parametrize("reason", [Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME, Reason.BAD_ANSWER])
async def test_silence_and_nonsense_are_failures(backend, tasks, reason):
    breaker = made(backend, tasks, failures=1)
    breaker.failed(BackendError(reason, "late"), CALL)
    assert breaker.open


@pytest.mark.parametrize("reason", [Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME])
async def test_a_deadline_that_the_caller_has_set_says_nothing_of_the_backend(backend, tasks, reason):
    breaker = made(backend, tasks, failures=1)
    breaker.failed(BackendError(reason, "late"), Call(new_id(), "grpc", "/s/M", deadline=5.0, expires=5.0))
    assert not breaker.open


async def test_openings_are_counted(backend, tasks):
    counter = next(metric for metric in known() if metric.name == "polygate_backend_breaker_opened")
    before = counter.values().get(("b",), 0)
    made(backend, tasks, failures=1).failed(AWAY, CALL)
    assert 1 == counter.values()[("b",)] - before


async def test_who_waits_for_a_backend_that_leaves_waits_no_longer(backend):
    async with asyncio.TaskGroup() as group:
        async with Tasks() as tasks:
            breaker = made(backend, tasks, failures=1, pause=3600)
            breaker.failed(AWAY, CALL)
            waiting = group.create_task(breaker.closed())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
