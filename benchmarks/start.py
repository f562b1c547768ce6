"""How long from the command to listening, with 10 and with 1,000 routes, and how much memory an idle gateway holds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.processes import await_port, free_port, gateway

ROUNDS = 5
GOAL_S = 1.0


def _config(folder: Path, routes: int) -> tuple[Path, int]:
    port = free_port()
    lines = [
        f'listeners: {{public: {{kind: rest, bind: "127.0.0.1:{port}"}}}}',
        "backends: {stub: {kind: stub, answers: {hello: {body: {text: hello}}}}}",
        "routes:",
    ]
    lines += [
        f'  - {{name: route-{number}, when: {{rest: "GET /r{number}/{{id}}"}}, to: {{backend: stub, call: hello}}}}'
        for number in range(routes)
    ]
    path = folder / f"routes-{routes}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path, port


def _seconds(path: Path, port: int) -> tuple[float, float]:
    # As it is where it is installed: compiled once, and not by every start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(Path(sys.executable).with_name("polygate")), "run", str(path)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        await_port(port)
        elapsed = time.perf_counter() - started
        used = psutil.Process(process.pid).cpu_times()
        process.terminate()
    return elapsed, float(used.user + used.system)


def main() -> bool:
    """Print three lines."""
    with tempfile.TemporaryDirectory() as folder:
        for routes in (10, 1_000):
            path, port = _config(Path(folder), routes)
            seen = [_seconds(path, port) for _ in range(ROUNDS)]
            wall = statistics.median(elapsed for elapsed, _ in seen)
            cpu = statistics.median(used for _, used in seen)
            print(f"start to listening, {routes:,} routes: {wall:.2f} s ({cpu:.2f} CPU s)", flush=True)
    with gateway() as server:
        print(f"idle RSS, every listener and backend loaded: {server.rss():.0f} MiB", flush=True)
    return True
