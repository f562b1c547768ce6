"""Tasks that belong to a part."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.task import Tasks, cut, spread


async def test_leaving_cancels_what_still_runs_and_waits_for_it():
    left = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left.append(True)

    async with Tasks() as tasks:
        task = tasks.spawn(work(), "work")
        await asyncio.sleep(0)
    assert task.cancelled()
    assert [True] == left


async def test_one_that_fails_is_logged_and_the_others_run_on(caplog):
    done = asyncio.Event()

    async def fails():
        raise KeyError("x")

    async def works():
        done.set()

    async with Tasks() as tasks:
        failing = tasks.spawn(fails(), "the failing one")
        await asyncio.wait([failing])
        tasks.spawn(works(), "the working one")
        await done.wait()
    (record,) = caplog.records
    assert (logging.ERROR, "the failing one failed", KeyError) == (record.levelno, record.getMessage(), record.exc_info[0])


async def test_one_that_is_done_is_let_go():
    async def works():
        pass

    async with Tasks() as tasks:
        await tasks.spawn(works(), "short")
        await asyncio.sleep(0)
        assert set() == tasks._running


# Cutting what does not end


async def test_what_ends_in_time_is_not_cut():
    assert await cut(asyncio.sleep(0), asyncio.get_running_loop().time() + 60)


async def test_what_has_something_else_to_wait_for_each_time_it_is_cancelled_is_cut_all_the_same():
    left = []

    async def closing():
        for part in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                left.append(part)

    async with asyncio.timeout(30):
        assert not await cut(closing(), asyncio.get_running_loop().time())
    assert [0, 1, 2] == left


async def test_what_fails_to_end_says_so():
    async def closing():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await cut(closing(), asyncio.get_running_loop().time() + 60)


async def test_whoever_gives_up_waiting_leaves_nothing_behind():
    left = []

    async def closing():
        try:
            await asyncio.Event().wait()
        finally:
            left.append(True)

    waiting = asyncio.get_running_loop().create_task(cut(closing(), asyncio.get_running_loop().time() + 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert [True] == left


async def test_what_is_ended_one_by_one_is_ended_evenly_and_the_first_at_once(monkeypatch):
    planned = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, end, part: planned.append((delay, end, part)))
    spread("abcd", 100.0, planned.clear)
    assert [(0, planned.clear, "a"), (25, planned.clear, "b"), (50, planned.clear, "c"), (75, planned.clear, "d")] == planned
    assert [] == spread("", 100.0, planned.clear)
