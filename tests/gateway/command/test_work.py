"""`polygate run` with several workers, as its users have it; and both of its parts by themselves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import psutil
import pytest

from gateway.channel import Channel
from gateway.cli import main
from gateway.command import NOT_STARTED, OK, WRONG, work
from gateway.plan import plan
from gateway.worker import Worker

ROOT = Path(__file__).parents[3]
TWO = """
workers: 2
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
backends: {stub: {kind: stub, answers: {hello: {body: hello}}}}
routes: [{name: hello, when: {rest: GET /hello}, to: {backend: stub, call: hello}}]
"""


class Running:
    """`polygate run` in a process of its own, once all of its workers listen."""

    def __init__(self, *words: str) -> None:
        command = [Path(sys.executable).with_name("polygate"), "run", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        self.addresses: dict[str, str] = {}
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.fullmatch(r"  (\S+) +(\S+) +(\S+:\d+)\n", line):
                self.addresses[found[1]] = found[3]
            elif line.startswith("  hello"):
                return
        raise AssertionError(self.process.stderr.read() if self.process.stderr else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def get(self, listener: str, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.addresses[listener]}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, list[dict[str, object]], str]:
        """Its exit code, the lines of its access log, and what it complained of."""
        self.process.send_signal(number)
        out, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")], complaints


def test_every_worker_answers_on_the_same_ports_and_one_speaks_for_all(config):
    with Running(config(TWO)) as running:
        assert {"public", "rpc", "admin"} == running.addresses.keys()
        for _ in range(40):
            assert (200, '"hello"') == running.get("public", "/hello")
        assert (200, {"ready": True, "backends": {"stub": {"ready": True}}}) == (
            (answer := running.get("admin", "/readyz"))[0],
            json.loads(answer[1]),
        )
        numbers = running.get("admin", "/metrics")[1]
        code, lines, complaints = running.end()
    assert 'polygate_exchanges_accepted_total{protocol="rest",route="hello"} 40.0\n' in numbers
    assert "polygate_workers 2.0\n" in numbers
    assert len(re.findall(r'^process_open_fds\{worker="[12]"\}', numbers, re.MULTILINE)) == 2
    assert OK == code
    # The kernel spreads connections by a hash: that all 40 are one worker's is as likely as that of a coin.
    assert {1, 2} == {line["worker"] for line in lines}
    assert "polygate[1]: stopping" in complaints
    assert "polygate[2]: stopping" in complaints


@pytest.mark.slow
def test_a_worker_that_is_killed_has_another_in_its_place_and_no_number_goes_back(config):
    with Running(config(TWO), "--workers", "1", "--log-level", "error") as running:
        assert 'worker="' not in running.get("admin", "/metrics")[1]
    with Running(config(TWO)) as running:
        for _ in range(20):
            running.get("public", "/hello")
        before = running.get("admin", "/metrics")[1]
        psutil.Process(running.process.pid).children()[-1].kill()
        # Those that are the dead one's wait for the next.
        assert [(200, '"hello"')] * 20 == [running.get("public", "/hello") for _ in range(20)]
        after = running.get("admin", "/metrics")[1]
        code, _, complaints = running.end(signal.SIGINT)
    name = 'polygate_exchanges_accepted_total{protocol="rest",route="hello"}'
    assert f"{name} 20.0" in before
    assert f"{name} 40.0" in after
    assert "by SIGKILL" in complaints
    assert OK == code


@pytest.mark.slow
def test_a_reload_is_everybodys_whoever_is_asked(config):
    with Running(file := config(TWO)) as running:
        more = "  - {name: more, when: {rest: GET /more}, to: {backend: stub, call: hello}}\n"
        Path(file).write_text(TWO.replace("routes: [", "routes:\n  - ").replace("hello}}]", "hello}}") + more)
        request = urllib.request.Request(f"http://{running.addresses['admin']}/reload", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert "changed" == json.loads(answer.read())["outcome"]
        assert [(200, '"hello"')] * 20 == [running.get("public", "/more") for _ in range(20)]
        Path(file).write_text(TWO.replace("kind: stub", "kind: stob"))
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert (422, "refused") == (caught.value.code, json.loads(caught.value.read())["outcome"])
        assert (200, '"hello"') == running.get("public", "/more")
        assert OK == running.end()[0]


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["public", "rpc"])
def test_a_listener_that_a_reload_moves_is_elsewhere_with_every_worker_and_its_old_port_refuses(config, listener):
    def bound(port: int) -> str:
        return re.sub(rf"({listener}: .*?):0", rf"\1:{port}", TWO)

    first, second = free(), free()
    with Running(file := config(bound(first))) as running:
        Path(file).write_text(bound(second))
        request = urllib.request.Request(f"http://{running.addresses['admin']}/reload", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.loads(answer.read())
        assert ("changed", [listener]) == (told["outcome"], told["listeners"]["changed"])
        for _ in range(10):
            socket.create_connection(("127.0.0.1", second), timeout=30).close()
        for worker in psutil.Process(running.process.pid).children():
            listening = {one.laddr.port for one in worker.net_connections() if one.status == psutil.CONN_LISTEN}
            assert second in listening
        refused = False
        while not refused:
            try:
                socket.create_connection(("127.0.0.1", first), timeout=30).close()
                time.sleep(0.05)
            except ConnectionRefusedError:
                refused = True
        # Who takes the place of one that has died finds the new place too.
        psutil.Process(running.process.pid).children()[-1].kill()
        while 2 != running.get("admin", "/metrics")[1].count("process_open_fds{"):
            time.sleep(0.05)
        assert OK == running.end()[0]


@pytest.mark.slow
def test_nobody_waits_for_a_worker_that_a_bad_file_keeps_from_starting(config):
    with Running(file := config(TWO)) as running:
        Path(file).write_text("routes: [")
        psutil.Process(running.process.pid).children()[-1].kill()
        assert running.process.stderr is not None
        assert any("with code 1" in line for line in running.process.stderr)
        assert [(200, '"hello"')] * 20 == [running.get("public", "/hello") for _ in range(20)]
        Path(file).write_text(TWO)
        while 2 != running.get("admin", "/metrics")[1].count("process_open_fds{"):
            time.sleep(0.05)
        assert [(200, '"hello"')] * 20 == [running.get("public", "/hello") for _ in range(20)]
        assert OK == running.end()[0]


@pytest.mark.slow
def test_workers_end_where_who_looks_after_them_is_killed(config):
    with Running(config(TWO)) as running:
        workers = psutil.Process(running.process.pid).children()
        assert 2 == len(workers)
        running.process.kill()
        assert ([], 2) == (psutil.wait_procs(workers, timeout=60)[1], len(workers))


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["public", "rpc", "admin"])
def test_a_port_that_is_taken_is_told_once_and_exits_3(config, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = re.sub(rf"({listener}: .*?):0", rf"\1:{port}", TWO)
        command = [Path(sys.executable).with_name("polygate"), "run", config(text)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert (NOT_STARTED, "", f"polygate: listener {listener}: Address already in use\n") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why_once_and_all_end(config, tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    tls = f'tls: {{certificate: "{tmp_path}/key.pem", key: "{tmp_path}/key.pem"}}'
    text = TWO.replace('{kind: rest, bind: "127.0.0.1:0"}', f'{{kind: rest, bind: "127.0.0.1:0", {tls}}}')
    command = [Path(sys.executable).with_name("polygate"), "run", config(text)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert NOT_STARTED == done.returncode
    assert 1 == done.stderr.count("polygate: listener public: "), done.stderr


def test_a_config_that_is_wrong_starts_no_worker(config, capsys):
    assert WRONG == main(["run", config(TWO.replace("workers: 2", "workers: 65"))])
    assert "workers: " in capsys.readouterr().err


# Both parts within this process, where it can be seen what they do.


def test_who_looks_after_workers_runs_until_a_signal(config, monkeypatch):
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(work, "say", say)
    assert OK == main(["run", config(TWO), "--workers", "2"])
    assert ["polygate listens:"] == [text.splitlines()[0] for text in said]


ANSWERS = {
    "metrics": [["calls", "counter", "about", "sum", [["calls_total", [], 7]]]],
    "readiness": {"ready": False, "backends": {}},
}


class Other(threading.Thread):
    """The other end of a worker's channel: it asks once the worker is ready, and goes."""

    def __init__(self, end: socket.socket, asks: list[tuple[str, object]]) -> None:
        super().__init__()
        self._end = end
        self._asks = asks
        self.addresses: dict[str, object] = {}
        self.told: dict[str, object] = {}

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        ready = asyncio.Event()

        async def answer(word: str, said: object) -> object:
            if word == "ready":
                self.addresses = dict(said)
                ready.set()
            return ANSWERS.get(word)

        async with Channel(self._end, answer) as channel:
            await ready.wait()
            for word, said in self._asks:
                self.told[word] = await channel.ask(word, said)
            host, port = self.addresses["admin"]
            for page in ("metrics", "readyz"):
                self.told[f"/{page}"] = await asyncio.to_thread(self._page, f"http://{host}:{port}/{page}")

    @staticmethod
    def _page(url: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def test_a_worker_answers_who_looks_after_it_and_ends_when_nobody_does(config):
    ours, theirs = socket.socketpair()
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    other = Other(ours, [("metrics", None), ("readiness", 1.0), ("reload", None)])
    other.start()
    planned = plan(Path(config(TWO)))
    work.work(planned, Worker(1, 2, theirs.detach(), {"public": [held.detach()]}, {}))
    other.join()
    assert ["127.0.0.1", port] == other.addresses["public"]
    assert {"ready": True, "backends": {"stub": {"ready": True}}} == other.told["readiness"]
    assert "unchanged" == other.told["reload"]["outcome"]
    assert any("polygate_exchanges" == name for name, *_ in other.told["metrics"])
    # What it is asked for operators, who looks after it answers.
    status, text = other.told["/metrics"]
    assert (200, True) == (status, "calls_total 7.0\n" in text)
    assert (503, '{"ready": false, "backends": {}}') == other.told["/readyz"]
