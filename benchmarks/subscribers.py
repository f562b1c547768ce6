"""10,000 callers that follow one topic, by server-sent events and by WebSocket: what each costs in memory, and events a second.

The callers are in processes of their own, on the core that the gateway is not on. Each row is a gateway of its own:

    python -m benchmarks subscribers [--quick]
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import psutil
import uvloop

from benchmarks import load
from benchmarks.processes import Server, gateway

CALLERS = 10_000
CLIENTS = 2
RECORDS = 60
OPENING = 200
"""How many connections of one process are being opened at a time."""
TIMEOUT_S = 300.0
ROWS = (("SSE", "rest", "/feed"), ("WebSocket", "websocket", "/feed"))
BODY = b'{"sku": "tea", "quantity": 2}'
_SHORT = 126
PING, PONG = 0x89, b"\x8a\x80\0\0\0\0"


class Caller(asyncio.Protocol):
    """Asks for the feed and counts events without reading them."""

    def __init__(self, kind: str, path: str, crowd: Crowd) -> None:
        self._kind = kind
        self._path = path
        self._crowd = crowd
        self._opened = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\n{key}"
        more = "Accept: text/event-stream\r\n" if self._kind == "SSE" else upgrade
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n{more}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        seen = self._rest + data
        if not self._opened:
            head, end, seen = seen.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._opened = True
            self._crowd.open(good=head[9:12] in {b"200", b"101"})
        if self._kind == "SSE":
            count = seen.count(b"\ndata: ")
            self._rest = seen[-6:] if not seen.endswith(b"\n\n") else b""
        else:
            count, pings, self._rest = _frames(seen)
            if pings:
                self._transport.write(PONG)
        if count:
            self._crowd.count(count)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.fail(f"a caller was let go of: {exc!r}")


def _frames(data: bytes) -> tuple[int, int, bytes]:
    """How many whole messages and pings there are, and what is left."""
    at, count, pings = 0, 0, 0
    while len(data) - at >= 2:
        size, head = data[at + 1], 2
        if size == _SHORT:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        if len(data) - at < head + size:
            break
        is_ping = data[at] == PING
        at += head + size
        count += not is_ping
        pings += is_ping
    return count, pings, data[at:]


class Crowd:
    """The callers of one process."""

    def __init__(self, wanted: int, events: int) -> None:
        self._left = wanted
        self._events = events
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.slots = asyncio.Semaphore(OPENING)

    def open(self, *, good: bool) -> None:
        self.slots.release()
        self._left -= 1
        if not good:
            self.fail("a caller was refused")
        elif self._left == 0:
            self.opened.set_result(None)

    def count(self, events: int) -> None:
        self._events -= events
        if self._events == 0:
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        for waiting in (self.opened, self.done):
            if not waiting.done():
                waiting.set_exception(RuntimeError(why))


async def _callers(kind: str, port: int, path: str, count: int, records: int) -> None:
    loop = asyncio.get_running_loop()
    crowd = Crowd(count, count * records)
    for _ in range(count):
        await crowd.slots.acquire()
        await loop.create_connection(lambda: Caller(kind, path, crowd), "127.0.0.1", port)
    async with asyncio.timeout(TIMEOUT_S):
        await crowd.opened
        print("open", flush=True)
        await crowd.done
        print("done", flush=True)
    crowd.done = crowd.opened = loop.create_future()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


@contextmanager
def _clients(kind: str, port: int, path: str, callers: int, records: int) -> Iterator[Sequence[subprocess.Popen[str]]]:
    each = callers // CLIENTS
    words = [sys.executable, "-m", "benchmarks.subscribers", kind, str(port), path, str(each), str(records)]
    clients = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    try:
        for client in clients:
            psutil.Process(client.pid).cpu_affinity([0])
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.wait()


def _await(clients: Sequence[subprocess.Popen[str]], word: str) -> None:
    for client in clients:
        assert client.stdout is not None
        said = client.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"the callers said {said!r} in the place of {word!r}")


def _publish(server: Server, records: int) -> None:
    head = f"POST /local/ada HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.http(server.ports["rest"], head.encode() + BODY, count=records, connections=1, status=b"201"))


def _measure(kind: str, listener: str, path: str, callers: int, records: int) -> None:
    with gateway() as server:
        _publish(server, 10)
        idle = server.rss()
        with _clients(kind, server.ports[listener], path, callers, records) as clients:
            _await(clients, "open")
            held, before, started = server.rss(), server.cpu(), time.perf_counter()
            _publish(server, records)
            _await(clients, "done")
            elapsed, used, after = time.perf_counter() - started, server.cpu() - before, server.rss()
    events = callers * records
    print(
        f"{callers:,} {kind} callers: {(held - idle) * 1024 / callers:.1f} KiB each ({held:.0f} MiB; {after:.0f} after), "
        f"{events:,} events, {events / elapsed:,.0f} events/s, {events / used:,.0f} a CPU second, "
        f"{used * 10_000 / events:.3f} CPU s per 10,000",
        flush=True,
    )


def main(*, quick: bool = False) -> None:
    """Print a line for each wire. The CPU is the gateway's whole: the publishing of the records is in it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what is started has it too
    callers = min(CALLERS // 10 if quick else CALLERS, (most - 500) // CLIENTS * CLIENTS)
    for kind, listener, path in ROWS:
        _measure(kind, listener, path, callers, RECORDS // 2 if quick else RECORDS)


if __name__ == "__main__":
    kind, port, path, count, records = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_callers(kind, int(port), path, int(count), int(records)))
