"""One worker's place, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import pytest

from gateway.channel import GoneError
from gateway.supervisor import seat as module
from gateway.supervisor.seat import Seat
from gateway.worker import Worker

SAYING = """
import json, os, socket, sys
told = json.loads(os.environ["POLYGATE_WORKER"])
names = {name: [socket.socket(fileno=one).getsockname()[1] for one in some] for name, some in told["sockets"].items()}
own_group, untold = os.getpgid(0) == os.getpid(), "NOTIFY_SOCKET" not in os.environ
sys.stdout.write(json.dumps([told["number"], told["of"], told["ports"], names, own_group, untold]))
"""


async def nothing(_word, _said):
    """Answer nothing."""


@pytest.mark.parametrize(
    ("code", "script"), [(0, "pass"), (5, "raise SystemExit(5)"), (-9, "import os; os.kill(os.getpid(), 9)")]
)
async def test_a_process_runs_to_its_end_and_how_it_ended_is_told(code, script):
    assert code == await Seat(Worker(1), {}, [sys.executable, "-c", script]).sit(nothing)


async def test_a_worker_is_told_who_it_is_and_has_its_sockets(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    told = tmp_path / "told"
    with socket.create_server(("127.0.0.1", 0)) as one:
        script = SAYING.replace("sys.stdout.write(", f"open({str(told)!r}, 'w').write(")
        seat = Seat(Worker(2, 3, ports={"rpc": 9090}), {"public": [one]}, [sys.executable, "-c", script])
        assert 0 == await seat.sit(nothing)
        port = one.getsockname()[1]
    assert f'[2, 3, {{"rpc": 9090}}, {{"public": [{port}]}}, true, true]' == told.read_text()


async def test_a_process_does_not_get_the_sockets_of_what_no_listener_says_any_more(tmp_path):
    told = tmp_path / "told"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as moved:
        script = SAYING.replace("sys.stdout.write(", f"open({str(told)!r}, 'w').write(")
        worker = Worker(1, 1, binds={"public": "a:1", "live": "a:2"})
        seat = Seat(worker, {"public": [one], "live": [moved]}, [sys.executable, "-c", script])
        seat.keep({"public": "a:1", "live": "a:3"})
        assert moved.fileno() < 0
        assert 0 == await seat.sit(nothing)
        port = one.getsockname()[1]
    assert f'{{"public": [{port}]}}' in told.read_text()


async def test_nobody_waits_for_a_process_that_does_not_come():
    with socket.socket() as one, socket.create_server(("127.0.0.1", 0)) as named:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        one.listen(8)
        place = one.getsockname()
        seat = Seat(Worker(1, 1, binds={"public": "127.0.0.1:0"}), {"public": [one], "named": [named]}, ["true"])
        with socket.create_connection(place, timeout=30) as waiting:
            seat.withdraw()
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, timeout=30)
        # What was handed over by its name is others' too.
        socket.create_connection(named.getsockname(), timeout=30).close()
        ((other,),) = (some for name, some in seat._sockets.items() if name == "public")
        assert place == other.getsockname()
        other.listen(8)
        socket.create_connection(place, timeout=30).close()
        seat.close()
        assert [-1, -1] == [other.fileno(), named.fileno()]


async def test_what_cannot_be_opened_again_is_left_to_the_worker(caplog, monkeypatch):
    def again(one):
        one.close()
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(module, "again", again)
    with socket.create_server(("127.0.0.1", 0)) as one:
        seat = Seat(Worker(1, 1, binds={"public": "127.0.0.1:0"}), {"public": [one]}, ["true"])
        seat.withdraw()
    assert "worker 1 opens public itself from now on: Address already in use" in caplog.text
    assert {} == seat._sockets


async def test_nobody_there_is_asked_nothing_and_sent_nothing():
    seat = Seat(Worker(1), {}, ["true"])
    seat.signal(signal.SIGTERM)
    with pytest.raises(GoneError, match="is not there"):
        await seat.ask("metrics", seconds=1)


async def test_a_process_does_not_outlive_who_looks_after_it(tmp_path):
    number = tmp_path / "pid"
    script = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    seat = Seat(Worker(1), {}, [sys.executable, "-c", script])
    sitting = asyncio.get_running_loop().create_task(seat.sit(nothing))
    while not number.exists() or not number.read_text():  # noqa: ASYNC110  another process is waited for
        await asyncio.sleep(0.01)
    sitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sitting
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


async def test_a_command_that_cannot_be_run_leaves_no_socket_open():
    with pytest.raises(FileNotFoundError):
        await Seat(Worker(1), {}, ["/no/such/command"]).sit(nothing)
