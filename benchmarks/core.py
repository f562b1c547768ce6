"""The core alone: find one of 1,000 routes, five policies, an exchange with no wire; against a bare aiohttp handler's request.

    python -m benchmarks.core [--exchanges 20000]

Both are CPU time of this process in the same run, on the same kind of loop; the HTTP client is another process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.exchange import Call, Exchange, Handler, Memory, new_id
from gateway.message import JSON, Headers, Message
from gateway.pipeline import answerable, pipeline
from gateway.policy import Policy, concurrency, deadline, rate, size
from gateway.policy.access import Lines
from gateway.policy.observe import Observe
from gateway.route import Endpoint
from gateway.table import Table

ROUTES = 1_000
CLIENTS = 16
GOAL = 0.4
HEADERS = Headers(
    (
        ("host", "127.0.0.1:8080"),
        ("accept", "*/*"),
        ("user-agent", "bench"),
        ("content-type", JSON),
        ("content-length", "29"),
    )
)
BODY = b'{"sku": "tea", "quantity": 2}'
REPLY = Message(b'{"sku":"tea","quantity":42}', JSON)


async def answer(exchange: Exchange) -> None:
    """The least that a backend does."""
    await exchange.receive()
    await exchange.send(REPLY)


def policies(lines: Lines) -> dict[str, Policy]:
    """Five, in the order in which a file would name them."""
    return {
        "observe": Observe("bench", "rest", lines),
        "concurrency": concurrency.Config().build("bench", "rest"),
        "rate": rate.Config(limit=1_000_000).build("bench", "rest"),
        "size": size.Config().build("bench", "rest"),
        "deadline": deadline.Config().build("bench", "rest"),
    }


def table(handler: Handler) -> Table:
    """1,000 routes that share their first segment."""
    routes = Table(lambda _protocol, _error: Endpoint("", handler))
    for number in range(ROUTES):
        routes.add("rest", "POST", f"/shop/orders-{number}/{{customer}}", Endpoint(f"route-{number}", handler))
    return routes


async def exchanges(number: int, routes: Table) -> float:
    """CPU seconds of as many exchanges, each as a listener would begin it."""
    targets = [f"POST /shop/orders-{at}/ada" for at in range(ROUTES)]
    find = routes.find
    started = time.process_time()
    for at in range(number):
        target = targets[at % ROUTES]
        found = find("rest", target)
        call = Call(new_id(), "rest", target, HEADERS, found.params, many=found.endpoint.many, peer="127.0.0.1")
        exchange = Memory(Message(BODY, JSON), call=call)
        await found.endpoint.handler(exchange)
        if at % 64 == 0:
            await asyncio.sleep(0)  # timers run, as they would
    return time.process_time() - started


async def requests(number: int) -> float:
    """CPU seconds that a bare aiohttp handler takes to serve as many requests."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=REPLY.body, content_type=JSON)

    app = web.Application()
    app.router.add_post("/shop/orders/{customer}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        await _client(port, number // 10)
        started = time.process_time()
        await _client(port, number)
        return time.process_time() - started
    finally:
        await runner.cleanup()


async def _client(port: int, number: int) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.core", "--ask", str(port), str(number))
    if await process.wait():
        raise SystemExit("the client failed")


async def ask(port: int, number: int) -> None:
    """The client: CLIENTS connections, each with one request at a time."""
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    request = f"POST /shop/orders/ada HTTP/1.1\r\n{head}\r\n".encode() + BODY

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(number // CLIENTS):
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(REPLY.body))
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(one())


async def measure(number: int) -> dict[str, float]:
    """CPU microseconds of one: with each policy alone, of the whole core, of the bare handler."""
    with Path(os.devnull).open("wb") as null:  # noqa: ASYNC230  only the log writes to it
        lines = Lines(null.fileno())
        bare = answerable(answer)
        stacks: dict[str, list[Policy]] = {"no policy": []}
        parts = policies(lines)
        stacks |= {f"{name} alone": [policy] for name, policy in parts.items()}
        stacks["the core"] = list(parts.values())
        await exchanges(number // 10, table(pipeline(parts.values(), bare)))
        taken = {name: await exchanges(number, table(pipeline(stack, bare))) for name, stack in stacks.items()}
        lines.flush()
    taken["bare aiohttp request"] = await requests(number)
    return {name: seconds / number * 1e6 for name, seconds in taken.items()}


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run on uvloop where it is installed, as the gateway does."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def main() -> int:
    """Print the table; exit 1 where the ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--ask", type=int, nargs=2, metavar=("PORT", "NUMBER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ask:
        run(lambda: ask(*args.ask))
        return 0
    measured: dict[str, float] = run(lambda: measure(args.exchanges))
    print(f"{'':24}{'us each':>10}{'CPU s per 10,000':>20}")
    for name, us in measured.items():
        print(f"{name:24}{us:10.1f}{us / 100:20.3f}")
    ratio = measured["the core"] / measured["bare aiohttp request"]
    print(f"\nthe core costs {ratio:.2f} of a bare aiohttp request (goal: at most {GOAL})")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
