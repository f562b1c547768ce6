"""What a second worker gives: `python -m benchmarks.workers [COUNT ...]` (1 and 2 unless told).

The load takes its share of the same cores, so on two of them two workers cannot give twice the rate: CPU seconds tell what a
worker costs, and the rate what is left.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import uvloop

from benchmarks import load

REQUESTS = 60_000
CALLERS = 64
ROUNDS = 3
REQUEST = b"GET /stock/tea HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n"
CONFIG = """
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {stock: {body: {sku: "{sku}", quantity: 42}}}}}
routes: [{name: stock, when: {rest: "GET /stock/{sku}"}, to: {backend: stub, call: stock}}]
"""


def measured(workers: int, folder: Path) -> str:
    """One row of the table."""
    file = folder / "gateway.yaml"
    file.write_text(CONFIG)
    command = [sys.executable, "-m", "gateway", "run", "--workers", str(workers), str(file)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=os.environ) as process:
        try:
            port = _port(folder / "log", process)
            processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
            before = sum(sum(one.cpu_times()[:2]) for one in processes)
            rates = [uvloop.run(load.http(port, REQUEST, count=REQUESTS, connections=CALLERS)).rate for _ in range(ROUNDS)]
            used = sum(sum(one.cpu_times()[:2]) for one in processes) - before
            memory = sum(one.memory_info().rss for one in processes) / (1 << 20)
        finally:
            process.terminate()
    return f"{workers:7}  {max(rates):10.0f}  {used / ROUNDS / REQUESTS * 10_000:19.2f}  {memory:7.0f}"


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    while process.poll() is None:
        text = log.read_text()
        if "curl -s" in text and (found := re.search(r"public +rest +127\.0\.0\.1:(\d+)", text)):
            return int(found[1])
        asyncio.run(asyncio.sleep(0.05))
    raise RuntimeError(log.read_text())


def main() -> None:
    """Print the table."""
    print("workers  requests/s  CPU s per 10,000  RSS MiB")
    for count in map(int, sys.argv[1:] or ("1", "2")):
        with tempfile.TemporaryDirectory() as folder:
            print(measured(count, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
