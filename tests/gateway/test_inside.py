"""Leaving once nobody is inside any more."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.inside import Inside
from gateway.pipeline import admitted


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def entered(group: asyncio.TaskGroup, inside: Inside, gate: asyncio.Event, *, lasting: bool = False) -> asyncio.Task[None]:
    async def wait(_exchange):
        await gate.wait()

    return group.create_task(admitted(inside, wait, lasting=lasting)(Memory(call=Call("id", "rest", "GET /"))))


async def test_nobody_inside_is_no_wait():
    await Inside().leave(soon(3600))


async def test_it_waits_for_those_inside_who_end_by_themselves():
    inside, gate = Inside(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = [entered(group, inside, gate) for _ in range(3)]
        await asyncio.sleep(0)
        leaving = group.create_task(inside.leave(soon(3600)))
        await asyncio.sleep(0)
        assert not leaving.done()
        gate.set()
        await leaving
    assert [None] * 3 == [task.result() for task in running]


@pytest.mark.parametrize("lasting", [True, False])
async def test_who_does_not_end_is_told_to_call_again_and_that_it_may_have_been_done(lasting):
    inside, gate = Inside(), asyncio.Event()
    with pytest.raises(ExceptionGroup):  # noqa: PT012  the group is what raises
        async with asyncio.TaskGroup() as group:
            task = entered(group, inside, gate, lasting=lasting)
            await asyncio.sleep(0)
            await inside.leave(soon(0.05))
    error = task.exception()
    assert (Reason.OVERLOADED, Outcome.UNKNOWN) == (error.reason, error.outcome)
    assert {} == inside.running


async def test_whose_caller_goes_away_is_cancelled_as_ever():
    inside = Inside()
    async with asyncio.TaskGroup() as group:
        task = entered(group, inside, asyncio.Event())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert {} == inside.running
