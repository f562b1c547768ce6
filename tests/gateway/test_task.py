"""Tasks that belong to a part."""

from __future__ import annotations

import asyncio
import logging

from gateway.task import Tasks


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
