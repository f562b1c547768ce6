"""One topic, 100 SSE callers, each gets every record: events a second and CPU seconds per 10,000 events."""

from __future__ import annotations

import asyncio
import time

import uvloop

from benchmarks import load
from benchmarks.processes import Server, gateway

CALLERS = 100
RECORDS = 5_000
TIMEOUT_S = 120.0


class Reader(asyncio.Protocol):
    """Counts events without reading them: each has one "data:" line."""

    def __init__(self, wanted: int, done: asyncio.Future[None], opened: asyncio.Future[None]) -> None:
        self._left = wanted
        self._done = done
        self._opened = opened
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"GET /feed HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._opened.done():
            self._opened.set_result(None)
        seen = self._tail + data
        self._left -= seen.count(b"\ndata: ")
        self._tail = seen[-6:]
        if self._left <= 0 and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the feed ended"))


async def _run(server: Server, records: int) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(CALLERS)]
    opened = [loop.create_future() for _ in range(CALLERS)]
    transports = []
    for ended, begun in zip(done, opened, strict=True):
        transport, _ = await loop.create_connection(
            lambda ended=ended, begun=begun: Reader(records, ended, begun),  # type: ignore[misc]
            "127.0.0.1",
            server.ports["rest"],
        )
        transports.append(transport)
    await asyncio.gather(*opened)
    body = b'{"sku": "tea", "quantity": 2}'
    head = f"POST /local/ada HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    before, started = server.cpu(), time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S):
        await load.http(server.ports["rest"], head.encode() + body, count=records, connections=64, status=b"201")
        await asyncio.gather(*done)
    elapsed, used = time.perf_counter() - started, server.cpu() - before
    for transport in transports:
        transport.close()
    return elapsed, used


def main(*, quick: bool = False) -> None:
    """Print one line. The CPU is the gateway's whole: the publishing of the records by REST is in it."""
    records = RECORDS // 10 if quick else RECORDS
    with gateway() as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            elapsed, used = runner.run(_run(server, records))
        rss = server.rss()
    events = records * CALLERS
    print(
        f"tail fan-out: {events:,} events to {CALLERS} SSE callers, {events / elapsed:,.0f} events/s, "
        f"{used * 10_000 / events:.3f} CPU s per 10,000 events, {rss:.0f} MiB (Zilla: 55,900 events/s, 0.178, 2,300 MB)",
        flush=True,
    )
