"""What signals do to a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import pytest

from gateway.plan import plan
from gateway.process import serve
from gateway.server import Gateway

CONFIG = """
policies: [{kind: observe, log: none}]
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {hello: {body: hello}, late: {body: late, delay: 25}}}}
routes:
  - {name: hello, when: {rest: GET /hello}, to: {backend: stub, call: hello}}
  - {name: late, when: {rest: GET /late}, to: {backend: stub, call: late}}
drain: {seconds: 60}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(file, number):
    seen = []

    def started(gateway: Gateway) -> None:
        seen.append(gateway)
        os.kill(os.getpid(), number)

    await serve(plan(file), started)
    assert not seen[0].view.ready


async def test_a_second_signal_leaves_without_waiting(file):
    async def twice(gateway: Gateway) -> None:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

            async def ask() -> None:
                with suppress(aiohttp.ClientError):  # or it is told that the gateway stops
                    await session.get(f"http://{gateway.addresses['public']}/late")

            group.create_task(ask())
            await until(lambda: gateway._parts.served["late"].inside.running)
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: gateway.view.drain_until is not None)
            os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.TaskGroup() as group:

        async def served() -> None:
            with pytest.raises(asyncio.CancelledError):
                await serve(plan(file), lambda gateway: group.create_task(twice(gateway)))
            asyncio.current_task().uncancel()

        await group.create_task(served())


async def test_sighup_loads_the_config(file, caplog):
    caplog.set_level("INFO", "polygate")

    async def hang_up(gateway: Gateway) -> None:
        file.write_text(CONFIG.replace("GET /hello", "GET /hallo"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: gateway.view.find("rest", "GET /hallo").error is None)
        file.write_text(CONFIG.replace("GET /hello", "/hello"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "a REST call is written METHOD /path" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.TaskGroup() as group:
        await serve(plan(file), lambda gateway: group.create_task(hang_up(gateway)))
    assert "the config was loaded anew: routes: 1 changed, 1 unchanged" in caplog.text
