"""Looking after workers: real processes that serve nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gateway import supervisor
from gateway.bind import Address
from gateway.supervisor import RESTARTS, Supervisor
from gateway.supervisor.seat import Seat
from gateway.total import read
from gateway.worker import Worker

SCRIPT = Path(__file__).with_name("worker.py")


async def until(is_so) -> None:
    while not is_so():  # noqa: ASYNC110  another process is waited for
        await asyncio.sleep(0.01)


class Looked:
    """A supervisor that runs, what it has said, and its end."""

    def __init__(self, how: str, count: int, drain: float) -> None:
        command = [sys.executable, "-P", str(SCRIPT), *how.split()]
        self.seats = [Seat(Worker(number, count), {}, command) for number in range(1, count + 1)]
        self.started: asyncio.Future[dict[str, Address]] = asyncio.get_running_loop().create_future()
        self.supervisor = Supervisor(self.seats, drain, lambda addresses: self.started.set_result(dict(addresses)))
        self.run = asyncio.get_running_loop().create_task(self.supervisor.run())

    async def again(self, number: int, before: int) -> int:
        """Until another process has the seat; its pid."""
        seat = self.seats[number - 1]
        await until(lambda: seat.up and self.pid(number) != before)
        return self.pid(number)

    def pid(self, number: int) -> int:
        process = self.seats[number - 1]._process
        assert process is not None
        return process.pid


@pytest.fixture
async def look():
    """Give the maker of supervisors that run; they end with the test."""
    running: list[Looked] = []

    def make(how: str = "well", count: int = 2, drain: float = 5) -> Looked:
        running.append(Looked(how, count, drain))
        return running[-1]

    yield make
    for one in running:
        one.supervisor.stop()
        await asyncio.wait([one.run])


async def test_all_are_started_and_then_it_is_told_once_where_they_listen(look):
    looked = look()
    assert {"public": Address("127.0.0.1", 80)} == await looked.started
    assert [True, True] == [seat.up for seat in looked.seats]


async def test_it_stops_with_its_workers_and_well(look):
    looked = look()
    await looked.started
    looked.supervisor.stop()
    assert 0 == await looked.run
    assert [False, False] == [seat.up for seat in looked.seats]


async def test_systemd_is_told(look, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        looked = look()
        await looked.started
        assert b"READY=1" == one.recv(99)
        looked.supervisor.reload()
        assert (await asyncio.to_thread(one.recv, 99)).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert b"READY=1" == await asyncio.to_thread(one.recv, 99)
        looked.supervisor.stop()
        assert b"STOPPING=1" == one.recv(99)
        await looked.run


async def test_one_that_cannot_start_at_first_ends_the_whole_with_its_code(look):
    looked = look("failing")
    assert 3 == await looked.run
    assert not looked.started.done()


async def test_one_that_ends_at_first_without_a_failure_is_one_all_the_same(look):
    looked = look("failing 2")
    assert 3 == await looked.run
    assert not looked.started.done()


async def test_one_that_dies_has_another_in_its_place_and_that_is_counted(look, caplog):
    looked = look()
    await looked.started
    before = RESTARTS.values().get(("2",), 0)
    first = looked.pid(2)
    other = looked.pid(1)
    os.kill(first, signal.SIGKILL)
    assert first != await looked.again(2, first)
    assert before + 1 == RESTARTS.values()[("2",)]
    assert other == looked.pid(1)
    assert "worker 2 has ended (by SIGKILL); another takes its place" in caplog.text


async def test_one_that_dies_again_and_again_is_waited_for_longer_each_time(look, caplog, monkeypatch):
    monkeypatch.setattr(supervisor.random, "uniform", lambda _low, high: high)
    looked = look(count=1)
    await looked.started
    pid = looked.pid(1)
    for _ in range(2):
        os.kill(pid, signal.SIGKILL)
        pid = await looked.again(1, pid)
    assert ["0.2 s", "0.4 s"] == [record.getMessage().rpartition("in ")[2] for record in caplog.records]


async def test_while_it_waits_to_start_another_it_may_be_stopped(look, monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(supervisor, "MAX_PAUSE_S", 1000.0)
    looked = look(count=1)
    await looked.started
    os.kill(looked.pid(1), signal.SIGKILL)
    await until(lambda: not looked.seats[0].up)
    looked.supervisor.stop()
    assert 0 == await looked.run


async def test_one_that_does_not_end_in_time_is_killed(look, monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "LATE_S", 0.0)
    looked = look("stubborn", 1, 0.1)
    await looked.started
    looked.supervisor.stop()
    assert 0 == await looked.run
    assert "1 workers have not ended in time, and are killed" in caplog.text


async def test_the_numbers_of_all_are_one_with_its_own(look):
    looked = look()
    await looked.started
    families = read(await looked.supervisor._metrics(looked.seats[0], None))
    assert {("calls_total", ()): 3} == families["calls"].samples
    assert {("polygate_workers", ()): 2} == families["polygate_workers"].samples


async def test_what_a_dead_worker_had_counted_stays_counted(look):
    looked = look()
    await looked.started
    await looked.supervisor._metrics(looked.seats[0], None)
    pid = looked.pid(2)
    os.kill(pid, signal.SIGKILL)
    await looked.again(2, pid)
    families = read(await looked.supervisor._metrics(looked.seats[0], None))
    assert {("calls_total", ()): 5} == families["calls"].samples


async def test_all_are_ready_where_each_is(look):
    looked = look()
    await looked.started
    assert {"ready": True, "backends": {"log": {"ready": True}}} == await looked.supervisor._readiness(looked.seats[0], 1.0)


async def test_not_all_are_ready_where_one_is_not_and_its_reason_is_told(look):
    looked = look("unready 2")
    await looked.started
    assert {
        "ready": False,
        "backends": {"log": {"ready": False, "reason": "worker 2: no broker"}},
    } == await looked.supervisor._readiness(looked.seats[0], 1.0)


async def test_not_all_are_ready_while_one_is_gone(look, monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(supervisor, "MAX_PAUSE_S", 1000.0)
    looked = look()
    await looked.started
    os.kill(looked.pid(2), signal.SIGKILL)
    await until(lambda: not looked.seats[1].up)
    told = await looked.supervisor._readiness(looked.seats[0], 1.0)
    assert (False, "worker 2 is not there") == (told["ready"], told["reason"])


async def test_a_reload_is_everybodys_and_the_worst_that_comes_of_it_is_told(look, caplog):
    looked = look()
    await looked.started
    assert "changed" == (await looked.supervisor._reload(looked.seats[0], None))["outcome"]
    other = look("refusing 2")
    await other.started
    told = await other.supervisor._reload(other.seats[0], None)
    assert ("refused", [{"file": "a"}]) == (told["outcome"], told["problems"])
    assert "not every worker has loaded the config: changed, refused" in caplog.text


async def test_a_reload_while_a_worker_is_away_is_told_by_the_others_and_that_one_loads_once_it_is_there(look, monkeypatch):
    looked = look()
    await looked.started
    pid = looked.pid(2)
    seat = looked.seats[1]
    seat.up = False  # as while it starts
    assert "changed" == (await looked.supervisor._reload(looked.seats[0], None))["outcome"]
    asked = asyncio.Event()

    async def ask(word, *_said, **_how):
        if word == "reload":
            asked.set()
        return []

    monkeypatch.setattr(seat, "ask", ask)
    os.kill(pid, signal.SIGKILL)
    await looked.again(2, pid)
    async with asyncio.timeout(30):
        await asked.wait()
    assert not seat.behind


async def test_a_signal_that_comes_while_the_config_is_loaded_has_every_worker_load_it_once_more(look, monkeypatch, caplog):
    """Some would serve for ever what stood in the file before, and others what stands there now."""
    looked = look()
    await looked.started
    asked: list[int] = []
    gate = asyncio.Event()

    async def ask(word, *_said, **_how):
        if word != "reload":
            return []
        asked.append(len(asked))
        await gate.wait()
        return {"outcome": "unchanged" if asked[-1] % 2 else "changed"}

    for seat in looked.seats:
        monkeypatch.setattr(seat, "ask", ask)
    looked.supervisor.reload()
    await until(lambda: len(asked) == 2)
    for _ in range(3):
        looked.supervisor.reload()
    assert {"outcome": "busy"} == await looked.supervisor._reload(looked.seats[0], None)
    gate.set()
    await until(lambda: len(asked) == 4 and not looked.supervisor._loading.locked())
    assert "changed" == (await looked.supervisor._reload(looked.seats[0], None))["outcome"]
    assert 6 == len(asked)
    assert "not every worker" not in caplog.text


async def test_a_worker_asks_by_its_channel(look, capfd):
    looked = look("asking metrics", 1)
    await looked.started
    said = ""
    while "calls" not in said:
        said += capfd.readouterr().out
        await asyncio.sleep(0.01)
    assert ["calls", "counter", "about", "sum", [["calls_total", [], 1]]] == json.loads(said.replace("'", '"'))[0]
