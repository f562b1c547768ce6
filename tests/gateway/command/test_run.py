from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway import probe, systemd
from gateway.cli import main
from gateway.command import NOT_STARTED, OK, USAGE, WRONG, run
from tests.gateway.good import GOOD

ROOT = Path(__file__).parents[3]


def test_run_says_what_could_not_start(config, capsys, tmp_path):
    path = config(GOOD.replace("backends: {", f'backends: {{log: {{kind: local, path: "{tmp_path}"}}, '))
    assert NOT_STARTED == main(["run", path])
    assert "polygate: " in capsys.readouterr().err


@pytest.fixture
def process(config):
    """`polygate run`, once it has told where it listens."""
    started = subprocess.Popen(
        [Path(sys.executable).with_name("polygate"), "run", config()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with started:
        yield started
        started.kill()


def test_run_tells_where_it_listens_serves_and_ends_with_a_signal(process):
    lines = [process.stdout.readline() for _ in range(4)]
    assert "polygate listens:\n" == lines[0]
    line = re.search(r"curl -s (\S+)", lines[3])
    assert line is not None
    with urllib.request.urlopen(line[1]) as answer:
        assert b'"hello"' == answer.read()
    process.send_signal(signal.SIGTERM)
    assert OK == process.wait(20)


def test_where_a_backend_is_not_ready_nothing_is_started_if_it_is_to_be_checked_first(config, capsys, monkeypatch):
    monkeypatch.setattr(probe, "ASK_S", 0.3)
    path = config(GOOD.replace("backends: {", 'backends: {away: {kind: http, url: "http://127.0.0.1:1"}, '))
    assert WRONG == main(["run", "--check-first", path])
    out, err = capsys.readouterr()
    assert "" == out
    assert err.startswith(f"{path} backends.away: ")
    assert err.endswith("polygate: nothing was started\n")


def test_where_every_backend_is_ready_it_starts(config, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(run, "say", lambda text: said.append(text) or os.kill(os.getpid(), signal.SIGTERM))
    assert OK == main(["run", "--check-first", config()])
    assert ["polygate listens:"] == [text.splitlines()[0] for text in said]


@pytest.mark.parametrize("number", ["0", "65", "-1", "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(capsys, number):
    with pytest.raises(SystemExit) as caught:
        main(["run", "--workers", number])
    assert USAGE == caught.value.code
    assert "must be a number from 1 to 64" in capsys.readouterr().err


@pytest.fixture
def notified(tmp_path, monkeypatch):
    """What systemd hears, one after the other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: one.recv(99).decode()


def test_systemd_hands_over_sockets_and_is_told_when_it_serves_and_stops(config, monkeypatch, notified):
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setattr(systemd, "FIRST", os.dup(held.fileno()))
        for name, value in (("PID", str(os.getpid())), ("FDS", "1"), ("FDNAMES", "public")):
            monkeypatch.setenv(f"LISTEN_{name}", value)
        said: list[str] = []
        monkeypatch.setattr(run, "say", lambda text: said.append(text) or os.kill(os.getpid(), signal.SIGTERM))
        assert OK == main(["run", config()])
        assert f"127.0.0.1:{held.getsockname()[1]}\n" in said[0]
        # It listens on: who comes now waits for the next.
        with socket.create_connection(held.getsockname(), timeout=5):
            pass
    assert ["READY=1", "STOPPING=1"] == [notified(), notified()]


def test_a_socket_that_is_no_listeners_is_told_and_exits_3(config, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setattr(systemd, "FIRST", os.dup(held.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        assert NOT_STARTED == main(["run", config()])
    assert re.search(r"polygate: the socket 'unknown' .* no listener takes it", capsys.readouterr().err)
