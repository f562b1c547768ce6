"""Run the benchmarks and print the table: `make bench`, or `python -m benchmarks [NAME ...] [--quick]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from benchmarks import codec, fanout, load, overload, spool, start, subscribers
from benchmarks.load import Load
from benchmarks.peers import STREAMED
from benchmarks.processes import Server, gateway, peer
from tests.kafka_broker import NoKafkaError, ScriptBroker

ROUNDS = 3
IN_FLIGHT = 64
Run = Callable[[Server, int], Awaitable[Load]]


@dataclass(frozen=True, slots=True)
class Pair:
    """The gateway against the bare library, doing the same work."""

    name: str
    bare: str
    bare_run: Run
    our_run: Run
    goal: float
    count: int
    connections: int = IN_FLIGHT
    kafka: bool = False
    cpu_aim: float = 0.0
    """CPU seconds of the gateway per 10,000 that it should stay below on the machine that the aim was measured on."""


def _get(path: str, port: str) -> Run:
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n".encode()
    return lambda server, count: load.http(server.ports[port], request, count=count, connections=IN_FLIGHT)


def _lines(path: str, port: str) -> Run:
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: application/x-ndjson\r\n\r\n".encode()
    return lambda server, count: load.lines(server.ports[port], request, count=count, each=STREAMED)


def _post(path: str, port: str, connections: int = IN_FLIGHT, status: bytes = b"201") -> Run:
    body = b'{"sku": "tea", "quantity": 2}'
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    return lambda server, count: load.http(server.ports[port], request, count=count, connections=connections, status=status)


def _grpc(port: str) -> Run:
    async def run(server: Server, count: int) -> Load:
        import grpc.aio

        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports[port]}") as channel:
            method: Any = channel.unary_unary("/shop.v1.Stock/Get")
            request = b"\x0a\x03tea"
            return await load.calls(lambda: method(request), count=count, callers=IN_FLIGHT)

    return run


def _frames(port: str, path: str) -> Run:
    async def run(server: Server, count: int) -> Load:
        from websockets.asyncio.client import connect

        callers = 16
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(f"ws://127.0.0.1:{server.ports[port]}{path}", compression=None))
                for _ in range(callers)
            ]
            free = list(sockets)

            async def call() -> None:
                socket = free.pop()
                await socket.send('{"sku":"tea","quantity":2}')
                await socket.recv()
                free.append(socket)

            return await load.calls(call, count=count, callers=callers)

    return run


PAIRS = (
    Pair("REST -> stub", "rest", _get("/stock/tea", "rest"), _get("/stock/tea", "rest"), 0.60, 20_000),
    Pair(
        "REST -> stub, bare logs too", "rest-logged", _get("/stock/tea", "rest-logged"), _get("/stock/tea", "rest"), 0.0, 20_000
    ),
    Pair("REST -> stub, contract", "rest", _get("/stock/tea", "rest"), _get("/typed/tea", "rest"), 0.0, 10_000),
    Pair("REST -> Kafka, 64", "kafka", _post("/orders/ada", "kafka"), _post("/orders/ada", "rest"), 0.60, 20_000, kafka=True),
    Pair("REST -> Kafka, contract", "kafka", _post("/orders/ada", "kafka"), _post("/typed/ada", "rest"), 0.0, 10_000, kafka=True),
    Pair("REST -> Kafka, 1", "kafka", _post("/orders/ada", "kafka", 1), _post("/orders/ada", "rest", 1), 0.0, 3_000, kafka=True),
    Pair("gRPC unary -> stub", "grpc", _grpc("grpc"), _grpc("grpc"), 0.75, 20_000),
    Pair(
        "JSON -> gRPC unary",
        "rest-to-grpc",
        _post("/quotes", "rest-to-grpc", status=b"200"),
        _post("/quotes", "rest", status=b"200"),
        0.0,
        20_000,
        cpu_aim=1.2,
    ),
    Pair(
        "gRPC stream -> NDJSON, a message",
        "rest-to-grpc",
        _lines("/items", "rest-to-grpc"),
        _lines("/items", "rest"),
        0.0,
        100_000,
        cpu_aim=0.20,
    ),
    Pair("WebSocket -> stub, a frame each", "websocket", _frames("websocket", ""), _frames("websocket", "/frames"), 0.40, 20_000),
    Pair("WebSocket, streaming echo", "websocket", _frames("websocket", ""), _frames("websocket", "/conversation"), 0.60, 20_000),
)


def _cpu(server: Server, run: Run, count: int) -> tuple[float, Load]:
    """CPU seconds of the server per 10,000, and what the load saw. A tenth goes ahead uncounted."""

    async def measured() -> tuple[float, Load]:
        await run(server, max(count // 10, IN_FLIGHT))
        before = server.cpu()
        seen = await run(server, count)
        return (server.cpu() - before) * 10_000 / count, seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measured())


def measure(pair: Pair, ours: Server, *, quick: bool) -> bool:
    """Both in turn, a few rounds; the best of each counts, since noise only ever adds. Prints one row; False where it misses."""
    rounds, count = (1, pair.count // 4) if quick else (ROUNDS, pair.count)
    with peer(pair.bare) as bare:
        pairs = [(_cpu(bare, pair.bare_run, count), _cpu(ours, pair.our_run, count)) for _ in range(rounds)]
        bare_rss = bare.rss()
    bare_cpu, our_cpu = min(seen[0][0] for seen in pairs), min(seen[1][0] for seen in pairs)
    bare_load = max((seen[0][1] for seen in pairs), key=lambda seen: seen.rate)
    our_load = max((seen[1][1] for seen in pairs), key=lambda seen: seen.rate)
    ratio = our_load.rate / bare_load.rate
    goal = f"{pair.goal:.2f}" if pair.goal else "-"
    verdict = "" if not pair.goal else "ok" if ratio >= pair.goal else "MISSED"
    print(
        f"{pair.name:<32}{bare_load.rate:>9.0f}{our_load.rate:>9.0f}{ratio:>7.2f}{goal:>6} {verdict:<7}"
        f"{bare_cpu:>8.2f}{our_cpu:>8.2f}{bare_cpu / our_cpu:>7.2f}{our_load.median * 1000:>8.2f}"
        f"{bare_rss:>8.0f}{ours.rss():>7.0f}" + (f"   (CPU aim: below {pair.cpu_aim:.2f})" if pair.cpu_aim else ""),
        flush=True,
    )
    return verdict != "MISSED"


HEADER = (
    f"{'':<32}{'bare/s':>9}{'ours/s':>9}{'ratio':>7}{'goal':>6} {'':<7}"
    f"{'bare':>8}{'ours':>8}{'ratio':>7}{'median':>8}{'bare':>8}{'ours':>7}\n"
    f"{'':<32}{'':>9}{'':>9}{'':>7}{'':>6} {'':<7}{'CPU s per 10,000':>16}{'':>7}{'ms':>8}{'RSS MiB':>15}"
)


async def _make_topic(bootstrap: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        # One that is there already is said in the answer, and is as good.
        await admin.create_topics([NewTopic("orders.placed", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


@contextmanager
def broker() -> Iterator[bool]:
    """A Kafka for the benchmarks that need one: KAFKA_BOOTSTRAP, or one of the tests' own. False where there is none."""
    with ExitStack() as stack:
        if not os.environ.get("KAFKA_BOOTSTRAP"):
            try:
                os.environ["KAFKA_BOOTSTRAP"] = stack.enter_context(ScriptBroker()).bootstrap
            except NoKafkaError as error:
                print(error, file=sys.stderr)
                yield False
                return
        asyncio.run(_make_topic(os.environ["KAFKA_BOOTSTRAP"]))
        yield True


def _unjudged(run: Callable[..., object]) -> Callable[..., bool]:
    """A measurement without a goal."""

    def unjudged(*, quick: bool) -> bool:
        run(quick=quick)
        return True

    return unjudged


def _whole(run: Callable[[], bool]) -> Callable[..., bool]:
    """One that has no short form."""

    def whole(*, quick: bool) -> bool:
        del quick
        return run()

    return whole


ALONE: dict[str, Callable[..., bool]] = {
    "fanout": _unjudged(fanout.main),
    "subscribers": _unjudged(subscribers.main),
    "overload": _whole(overload.main),
    "spool": spool.main,
    "start": _whole(start.main),
}
"""What is measured by itself."""


def beside(pairs: Sequence[Pair], *, quick: bool) -> bool:
    """Print the table of the gateway beside the bare libraries; False where a goal is missed."""
    good = True
    with ExitStack() as stack:
        has_kafka = any(pair.kafka for pair in pairs) and stack.enter_context(broker())
        behind = stack.enter_context(peer("backend"))
        os.environ["BENCH_PEER"] = f"127.0.0.1:{behind.ports['backend']}"
        ours = stack.enter_context(gateway())
        print(HEADER)
        for pair in pairs:
            if pair.kafka and not has_kafka:
                print(f"{pair.name:<32} not measured: no Kafka could be had")
                good = False
            else:
                good &= measure(pair, ours, quick=quick)
    return good


def main() -> int:
    """Run what was asked for; 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help=f"only rows whose name holds one of these; also: codec, core, {', '.join(ALONE)}",
    )
    parser.add_argument("--quick", action="store_true", help="one short round each: for a look, not for publishing")
    options = parser.parse_args()

    def wanted(name: str) -> bool:
        return not options.names or any(word.lower() in name.lower() for word in options.names)

    good = True
    if wanted("core"):
        good &= subprocess.run([sys.executable, "-m", "benchmarks.core"], check=False).returncode == 0
    if wanted("codec"):
        good &= codec.main(quick=options.quick)
    if pairs := [pair for pair in PAIRS if wanted(pair.name)]:
        good &= beside(pairs, quick=options.quick)
    for name, run in ALONE.items():
        if wanted(name):
            good &= run(quick=options.quick)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
