"""A thousand callers that stop reading a feed cost the gateway a bounded amount each, whatever is published meanwhile."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.system.client import streaming
from tests.system.conftest import SHOP
from tests.system.process import ROOT, Gateway, on_free_ports

SSE_CALLERS, SOCKET_CALLERS, GRPC_CALLERS = 400, 400, 200
RECORDS, RECORD_BYTES = 1600, 16 << 10
"""25 MiB in all: more than the ring of a feed holds, and 25 GiB if each caller's share were kept for it."""
BOUND_MIB = 256
"""What all of it may add: the ring (16 MiB), what was read of the past (32 MiB), and about 200 KiB a caller on its way to it."""
CAP_BYTES = 6 << 30
"""Of address space, so that a gateway that keeps everything ends instead of taking the machine with it."""

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@contextmanager
def many_files() -> Iterator[None]:
    """Allow a socket for each caller, here and in the process that is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stalled(address: str, path: str, head: str, *, window: int = 4096) -> socket.socket:
    """A caller whose feed is open and who reads its head and nothing more."""
    host, _, port = address.rpartition(":")
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    one.settimeout(20)
    one.connect((host, int(port)))
    one.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n{head}\r\n".encode())
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += one.recv(1)
    assert seen.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")), seen
    return one


WATCHING = f"""
import asyncio, sys
from contextlib import AsyncExitStack
from tests.system.client import message, rpc

async def watch(address):
    async with AsyncExitStack() as stack:
        calls = []
        for _ in range({GRPC_CALLERS} // 10):
            client = await stack.enter_async_context(rpc(address))
            calls += [client.method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders")) for _ in range(10)]
        for call in calls:
            await call.initial_metadata()
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(watch(sys.argv[1]))
"""


@contextmanager
def stopped(address: str) -> Iterator[None]:
    """A process whose gRPC feeds are open, ten a connection, and which is stopped: the library would read ahead by itself."""
    process = subprocess.Popen([sys.executable, "-c", WATCHING, address], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert process.stdout is not None
        assert "open\n" == process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.kill()
        process.communicate()


async def publish(gateway: Gateway) -> None:
    order = {"customer": "ada", "sku": "x" * RECORD_BYTES}
    async with connect(gateway.url("live", "/orders"), max_size=None) as orders:
        for number in range(1, RECORDS + 1):
            await orders.send(json.dumps({**order, "quantity": number}))
            if number > 16:
                await orders.recv()
        for _ in range(16):
            assert "offset" in json.loads(await orders.recv())


@pytest.mark.slow
async def test_a_thousand_callers_that_stop_reading_leave_memory_flat(tmp_path: Path) -> None:
    with many_files(), ExitStack() as stack:
        gateway = stack.enter_context(Gateway(on_free_ports(SHOP.read_text()), tmp_path))
        resource.prlimit(gateway.process.pid, resource.RLIMIT_AS, (CAP_BYTES, CAP_BYTES))
        public, live = gateway.addresses["public"], gateway.addresses["live"]
        sleeper = stack.enter_context(stalled(public, "/orders", "Accept: text/event-stream\r\n", window=1 << 18))
        for _ in range(SSE_CALLERS - 1):
            stack.enter_context(stalled(public, "/orders", "Accept: text/event-stream\r\n"))
        for _ in range(SOCKET_CALLERS):
            stack.enter_context(stalled(live, "/feed", UPGRADE))
        stack.enter_context(stopped(gateway.addresses["rpc"]))
        async with streaming(f"http://{public}/orders?limit={RECORDS}") as awake:
            before = gateway.rss_mib
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(counted(awake.process.stdout))
                group.create_task(publish(gateway))
            # Whoever reads is not held up by those who do not.
            assert RECORDS == reading.result()
            grown = gateway.rss_mib - before
            print(f"\n1,000 stalled callers, {RECORDS * RECORD_BYTES >> 20} MiB: {before:.0f} MiB before, {grown:+.0f} MiB")
            assert grown < BOUND_MIB
            # One that wakes up finds everything, in order, from the log.
            assert list(range(1, RECORDS + 1)) == await asyncio.to_thread(quantities, sleeper)
            print(f"and {gateway.rss_mib - before:+.0f} MiB once one of them had read it all")
            assert gateway.rss_mib - before < BOUND_MIB
        assert gateway.process.poll() is None


async def counted(lines: asyncio.StreamReader | None) -> int:
    """How many lines come until the stream ends; a line is longer than a reader takes by itself."""
    assert lines is not None
    count = 0
    while chunk := await lines.read(1 << 16):
        count += chunk.count(b"\n")
    return count


def quantities(caller: socket.socket) -> list[int]:
    """The orders that a caller gets who reads on, by their quantities."""
    found: list[int] = []
    with caller.makefile("rb") as lines:
        while len(found) < RECORDS:
            line = lines.readline()
            assert line
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:])["quantity"])
    return found
