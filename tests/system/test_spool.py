"""The spool in a process of its own, while its broker is away: killed, its disk full, its disk failing."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.spool import archive
from tests.chaos.disk import Disk
from tests.kafka_broker import Broker
from tests.patience import until
from tests.system.process import COMMAND, Gateway

CALLERS = 16
STORED = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  ops: {kind: admin, bind: "127.0.0.1:0"}
backends: {events: {kind: kafka, bootstrap: ["BOOTSTRAP"], create: {}}}
routes:
  - name: order
    when: {rest: "POST /orders/{customer}"}
    to: {backend: events, publish: orders, key: "{customer}", ack: stored}
  - name: fallback
    when: {rest: "POST /fallback/{customer}"}
    to: {backend: events, publish: orders, key: "{customer}", when_down: store}
spool: {path: disk/spool.db}
"""
AWAY = "127.0.0.1:1"


def config(bootstrap: str = AWAY) -> str:
    return STORED.replace("BOOTSTRAP", bootstrap)


class Callers:
    """Posts that were answered: ids of those that were stored, and how the others ended."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.others: Counter[int] = Counter()

    async def post(self, gateway: Gateway, each: int, size: int = 20, *, enough: Callable[[], object] = lambda: False) -> None:
        """Post from several callers at once, until each has posted so many, there are enough, or the gateway is gone."""

        async def caller(session: aiohttp.ClientSession, number: int) -> None:
            for count in range(each):
                if enough():
                    return
                body = {"note": f"{number}-{count}-" + "x" * size}
                try:
                    async with session.post(gateway.url("public", f"/orders/{number}"), json=body) as answer:
                        told = await answer.json()
                        if answer.status == 202:
                            assert "stored" == told["state"]
                            self.stored.append(told["id"])
                        else:
                            self.others[answer.status] += 1
                except (aiohttp.ClientError, ConnectionError):
                    return

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(caller(session, number) for number in range(CALLERS)))


async def status(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def fallback(gateway: Gateway) -> tuple[int, Any]:
    body = {"note": "by fallback"}
    async with aiohttp.ClientSession() as session, session.post(gateway.url("public", "/fallback/0"), json=body) as answer:
        return answer.status, await answer.json()


def exported(folder: Path, words: Sequence[str] = ()) -> list[dict[str, object]]:
    """What `polygate spool export` says."""
    told = subprocess.run(
        [*words, COMMAND, "spool", "export", "--path", str(folder / "disk/spool.db")], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.slow
async def test_nothing_that_was_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    callers = Callers()
    for wanted in (100, 500, 900):
        with Gateway(config(), tmp_path) as gateway:
            posting = callers.post(gateway, 100_000, enough=lambda: False)
            async with asyncio.TaskGroup() as group:
                group.create_task(posting)
                await until(lambda wanted=wanted: len(callers.stored) >= wanted)
                gateway.kill()
    held = Counter(record["id"] for record in exported(tmp_path))
    assert set() == set(callers.stored) - set(held)
    assert 1 == max(held.values())
    # What was in flight when it was killed may be there, and nothing else.
    assert len(callers.stored) + 3 * CALLERS >= len(held)


@pytest.mark.slow
async def test_a_full_disk_is_503_and_is_taken_from_again_once_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk, callers = Disk(1), Callers()
    with disk.mounted(tmp_path / "disk"), Gateway(config(), tmp_path, prefix=disk.words) as gateway:
        await callers.post(gateway, 10_000, 1000, enough=lambda: callers.others.total() > 50)
        await callers.post(gateway, 1, 100_000)
        assert {503} == set(callers.others)
        code, body = await status(gateway.url("ops", "/readyz"))
        assert (503, "the local log cannot be written: the disk is full") == (code, json.loads(body)["reason"])
        disk.resize(64)
        before = len(callers.stored)
        await callers.post(gateway, 10)
        assert before + 10 * CALLERS == len(callers.stored)
        assert "reason" not in json.loads((await status(gateway.url("ops", "/readyz")))[1])
        assert set(callers.stored) == {record["id"] for record in exported(tmp_path, disk.words)}


@pytest.mark.slow
async def test_after_a_failed_fsync_nothing_is_stored_until_the_gateway_is_started_anew(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    callers = Callers()
    inject = ("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=60+")
    with Gateway(config(), tmp_path, prefix=("strace", "-D", "-f", "-qq", "-o", "/dev/null", *inject)) as gateway:
        await callers.post(gateway, 10_000, enough=lambda: callers.others.total() > 50)
        assert {503, 504} >= set(callers.others)
        assert CALLERS >= callers.others[504]
        assert 0 < len(callers.stored)
        code, body = await status(gateway.url("ops", "/readyz"))
        assert 503 == code
        assert json.loads(body)["reason"].startswith("the local log cannot be written: writing failed")
        assert "polygate_spool_broken 1.0" in (await status(gateway.url("ops", "/metrics")))[1]
    assert set() == set(callers.stored) - {str(record["id"]) for record in exported(tmp_path)}
    with Gateway(config(), tmp_path) as gateway:
        before = len(callers.stored)
        await callers.post(gateway, 1)
        assert before + CALLERS == len(callers.stored)
        assert "polygate_spool_broken 0.0" in (await status(gateway.url("ops", "/metrics")))[1]


@pytest.mark.slow
async def test_what_waited_arrives_in_order_once_the_broker_is_there(tmp_path: Path, broker: Broker) -> None:
    await asyncio.to_thread(broker.stop)
    callers = Callers()
    with Gateway(config(broker.bootstrap), tmp_path) as gateway:
        await callers.post(gateway, 20)
        assert 20 * CALLERS == len(callers.stored)
        code, told = await fallback(gateway)
        assert (202, "stored") == (code, told["state"])
        await asyncio.to_thread(broker.start)
        await until(lambda: not list(archive.entries(str(tmp_path / "disk/spool.db"))))
        code, told = await fallback(gateway)
        assert (201, "orders") == (code, told["topic"])
    assert 20 * CALLERS + 2 == told["offset"] + 1
