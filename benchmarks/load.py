"""Load generators on asyncio: lean, so that the server is what is measured. Each sends a fixed number of requests."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

TIMEOUT_S = 120.0


@dataclass(slots=True)
class Load:
    """What one load saw. Seconds."""

    count: int
    elapsed: float
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.count / self.elapsed

    @property
    def median(self) -> float:
        """The median time of one request."""
        return statistics.median(self.latencies) if self.latencies else 0.0


class HttpClient(asyncio.Protocol):
    """One keep-alive connection: one request at a time, checked for its status."""

    def __init__(self, request: bytes, status: bytes, next_one: Callable[[], bool], done: asyncio.Future[None]) -> None:
        self._request = request
        self._status = b"HTTP/1.1 " + status
        self._next = next_one
        self._done = done
        self._buffer = b""
        self.latencies: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if not self._next():
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        end = lower.find(b"\r\n", at)
        length = int(lower[at + 15 : end if end > 0 else None])
        if len(self._buffer) < head + 4 + length:
            return
        if not self._buffer.startswith(self._status):
            self._fail(RuntimeError(f"unexpected answer {self._buffer[:300]!r}"))
            return
        self._buffer = b""
        self.latencies.append(time.perf_counter() - self._at)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the server closed a connection"))

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self._transport.close()


def countdown(count: int) -> Callable[[], bool]:
    """True `count` times."""
    left = count

    def take() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    return take


async def http(port: int, request: bytes, *, count: int, connections: int, status: bytes = b"200") -> Load:
    """`connections` callers, each with one request in flight."""
    loop = asyncio.get_running_loop()
    take = countdown(count)
    clients: list[HttpClient] = []
    done = [loop.create_future() for _ in range(connections)]
    started = time.perf_counter()
    for future in done:
        _, client = await loop.create_connection(
            lambda future=future: HttpClient(request, status, take, future),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        clients.append(client)
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*done)
    elapsed = time.perf_counter() - started
    return Load(count, elapsed, [latency for client in clients for latency in client.latencies])


async def lines(port: int, request: bytes, *, count: int, each: int) -> Load:
    """Four callers of a stream of `each` lines, one request after the other, until `count` lines have come."""
    take = countdown(count // each)

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while take():
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            seen = 0
            while size := int(await reader.readline(), 16):
                seen += (await reader.readexactly(size + 2)).count(b"\n") - 1
            await reader.readexactly(2)
            assert seen == each, seen
        writer.close()

    started = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(caller())
    return Load(count, time.perf_counter() - started)


async def calls(call: Callable[[], Awaitable[object]], *, count: int, callers: int) -> Load:
    """`callers` tasks that await `call` one after the other."""
    take = countdown(count)
    latencies: list[float] = []

    async def caller() -> None:
        while take():
            at = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - at)

    started = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Load(count, time.perf_counter() - started, latencies)
