"""The servers that are measured, each a process of its own on one core; the load comes from the other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "benchmarks" / "gateway.yaml"
START_S = 20.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Server:
    """A running server."""

    process: psutil.Process
    ports: Mapping[str, int]

    def cpu(self) -> float:
        """CPU seconds so far, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        """Resident MiB."""
        return float(self.process.memory_info().rss) / (1 << 20)


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def running(command: list[str], ports: Mapping[str, int], environment: Mapping[str, str]) -> Iterator[Server]:
    """Start a server pinned to the last core, its output thrown away; end it in the end."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environment}) as process:
        try:
            inside = psutil.Process(process.pid)
            if (os.cpu_count() or 1) > 1:
                inside.cpu_affinity([max(inside.cpu_affinity() or [0])])
            for port in ports.values():
                await_port(port)
            yield Server(inside, ports)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def peer(name: str) -> Iterator[Server]:
    """One of the bare servers."""
    port = free_port()
    with running([sys.executable, "-m", "benchmarks.peers", name, str(port)], {name: port}, {}) as server:
        yield server


@contextmanager
def gateway() -> Iterator[Server]:
    """The gateway on benchmarks/gateway.yaml."""
    ports = {name: free_port() for name in ("rest", "grpc", "websocket", "admin")}
    environment = {f"BENCH_{name.upper()}": str(port) for name, port in ports.items()}
    command = [str(Path(sys.executable).with_name("polygate")), "run", str(CONFIG), "--log-level", "warning"]
    with running(command, ports, environment) as server:
        yield server
