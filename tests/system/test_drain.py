"""How a process ends on SIGTERM: in which order, what its callers are told, and how long it takes (`-s` shows that)."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from websockets.asyncio.client import connect

from tests import http2
from tests.kafka_broker import Broker
from tests.system.client import Stream, curl, streaming
from tests.system.conftest import delete
from tests.system.process import Gateway
from tests.system.test_process import accounts

CONFIG = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  live: {kind: websocket, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
backends:
  log: {kind: local, path: ":memory:"}
  stub: {kind: stub, answers: {fast: {body: {}}, slow: {body: {}, delay: 1}, late: {body: {}, delay: 25}}}
routes:
  - {name: put, when: {rest: POST /feed}, to: {backend: log, publish: t}}
  - {name: feed, when: {rest: GET /feed, websocket: /feed}, to: {backend: log, tail: t}}
  - {name: fast, when: {rest: GET /fast}, to: {backend: stub, call: fast}}
  - {name: slow, when: {rest: GET /slow}, to: {backend: stub, call: slow}}
  - {name: late, when: {rest: GET /late}, to: {backend: stub, call: late}}
"""


class Ending:
    """A gateway that is told to end. `seconds` is how long it took from the first signal on."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.since = 0.0

    def terminate(self) -> None:
        self.since = self.since or time.monotonic()
        self.gateway.terminate()

    async def stopping(self) -> None:
        """It has seen the signal."""
        async with asyncio.timeout(20):
            while "stopping" not in self.gateway.errors.read_text():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.01)

    async def ended(self, what: str) -> float:
        """Its exit code is 0."""
        assert 0 == await asyncio.to_thread(self.gateway.wait), self.gateway.errors.read_text()
        seconds = time.monotonic() - self.since
        print(f"\ndrain: {what}: {seconds:.2f} s")
        return seconds


@contextmanager
def running(tmp_path: Path, drain: str, config: str = CONFIG) -> Iterator[Ending]:
    with Gateway(f"{config}drain: {{{drain}}}\n", tmp_path) as gateway:
        yield Ending(gateway)


async def test_an_idle_gateway_is_gone_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 30") as ending:
        async with aiohttp.ClientSession() as session:
            # With connections that are kept alive by callers who ask for nothing.
            async with session.get(ending.gateway.url("public", "/fast")) as answer:
                assert 200 == answer.status
            ending.terminate()
            assert await ending.ended("with an idle connection") < 30


async def test_readiness_fails_first_while_calls_are_still_taken(tmp_path: Path) -> None:
    with running(tmp_path, "pause: 1.5, seconds: 5") as ending:
        url = ending.gateway.url
        assert 200 == (await curl(url("admin", "/readyz"))).status
        ending.terminate()
        while 200 == (ready := await curl(url("admin", "/readyz"))).status:
            pass
        assert (503, "the gateway is stopping") == (ready.status, ready.json["reason"])
        fast = await curl(url("public", "/fast"))
        assert (200, "close") == (fast.status, fast.headers["connection"])
        assert await ending.ended("with a pause of 1.5 s") >= 1.5


async def test_nothing_is_accepted_any_more_while_what_runs_is_answered_and_told_that_the_connection_closes(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "seconds: 10") as ending:
        host, port = ending.gateway.addresses["public"].rsplit(":", 1)
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            slow = group.create_task(session.get(ending.gateway.url("public", "/slow")))
            while (await accounts(ending.gateway.url("admin")))["in_flight"] < 1:
                pass
            ending.terminate()
            refused = False
            while not refused:
                try:
                    socket.create_connection((host, int(port)), timeout=5).close()
                    await asyncio.sleep(0.01)
                except ConnectionRefusedError:
                    refused = True
            assert not slow.done()
            async with await slow as answer:
                assert (200, "close") == (answer.status, answer.headers["Connection"])
        await ending.ended("with a request that takes 1 s")


async def test_a_grpc_connection_is_told_to_go_elsewhere(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 5") as ending:
        async with http2.connected(ending.gateway.addresses["rpc"]) as connection, asyncio.timeout(20):
            # Once the connection is there: it has its settings.
            await connection.say(http2.request(end=True))
            while (await connection.frame())[0] != http2.HEADERS:
                pass
            ending.terminate()
            while (await connection.frame())[0] != http2.GOAWAY:
                pass
        await ending.ended("with an idle gRPC connection")


async def test_a_stream_that_was_sent_nothing_ends_with_its_place_too(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 4") as ending:
        url = ending.gateway.url
        # A topic is there once something was written to it.
        written = (await curl(url("public", "/feed"), "--json", "{}")).json
        cursor = f"{written['partition']}:{written['offset'] + 1}"
        async with (
            streaming(url("public", "/feed"), "-H", "Accept: text/event-stream") as feed,
            connect(url("live", "/feed")) as live,
        ):
            ending.terminate()
            event = await feed.event()
            assert ("error", cursor) == (event["event"], event["id"])
            await live.wait_closed()
            assert (1012, f"restarting; cursor={cursor}") == (live.close_code, live.close_reason)
        await ending.ended("with streams that were sent nothing")


async def test_streams_end_spread_over_the_first_half_of_the_window_each_with_its_place(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 4") as ending:
        url = ending.gateway.url
        ends: list[float] = []
        async with AsyncExitStack() as stack:
            feeds = [
                await stack.enter_async_context(streaming(url("public", "/feed"), "-H", "Accept: text/event-stream"))
                for _ in range(10)
            ]
            live = [await stack.enter_async_context(connect(url("live", "/feed"))) for _ in range(5)]
            assert 201 == (await curl(url("public", "/feed"), "--json", "{}")).status
            cursor = {(await feed.event())["id"] for feed in feeds}
            assert cursor == {json.loads(await one.recv())["cursor"] for one in live}
            ending.terminate()

            async def end(feed: Stream) -> None:
                event = await feed.event()
                ends.append(time.monotonic() - ending.since)
                assert ("error", "overloaded") == (event["event"], json.loads(event["data"])["reason"])

            await asyncio.gather(*(end(feed) for feed in feeds))
            for one in live:
                await one.wait_closed()
                assert (1012, f"restarting; cursor={next(iter(cursor))}") == (one.close_code, one.close_reason)
        assert max(ends) - min(ends) >= 0.5
        took = await ending.ended("with 10 event streams and 5 WebSockets, of 4 s")
        print(f"drain: the streams ended {min(ends):.2f} to {max(ends):.2f} s after the signal")
        assert took < 4 + 1


async def test_what_outlasts_the_window_is_told_that_its_outcome_is_unknown_and_the_exit_is_0(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 1") as ending:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

            async def ask() -> None:
                answer = await session.get(ending.gateway.url("public", "/late"))
                assert (503, "unknown") == (answer.status, (await answer.json())["outcome"])

            group.create_task(ask())
            while (await accounts(ending.gateway.url("admin")))["in_flight"] < 1:
                pass
            ending.terminate()
            assert await ending.ended("with a request that outlasts a window of 1 s") < 5


async def test_a_second_signal_is_fast(tmp_path: Path) -> None:
    with running(tmp_path, "seconds: 60") as ending:
        sse = streaming(ending.gateway.url("public", "/feed"), "-H", "Accept: text/event-stream")
        async with connect(ending.gateway.url("live", "/feed")), sse:
            ending.terminate()
            await ending.stopping()
            ending.terminate()
            assert await ending.ended("by a second signal, of 60 s") < 10


DEAD = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  work: {kind: topic, backend: events, topics: [work], group: g}
backends:
  events: {kind: kafka, bootstrap: ["127.0.0.1:%d"]}
  stub: {kind: stub, answers: {done: {body: {}}}}
routes:
  - {name: put, when: {rest: POST /put}, to: {backend: events, publish: t}}
  - {name: work, when: {topic: work}, to: {backend: stub, call: done}}
"""


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "is silent"])
@pytest.mark.parametrize("signals", [1, 2])
async def test_it_ends_with_0_before_the_deadline_though_the_broker_is_dead(
    tmp_path: Path, *, silent: bool, signals: int
) -> None:
    """One that is gone, or that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        if not silent:
            broker.close()
        with running(tmp_path, "seconds: 8", DEAD % port) as ending:
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

                async def put() -> None:
                    async with session.post(ending.gateway.url("public", "/put"), json={}) as answer:
                        assert answer.status in {502, 503, 504}

                for _ in range(4):
                    group.create_task(put())
                await asyncio.sleep(0.2)
                ending.terminate()
                for _ in range(signals - 1):
                    await ending.stopping()
                    ending.terminate()
                took = await ending.ended(f"with a broker that {'is silent' if silent else 'refuses'}, {signals} signals, of 8 s")
            assert took < 8 + 1


LIVE = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
backends:
  events: {kind: kafka, bootstrap: ["%s"], create: {partitions: 1}}
routes:
  - {name: put, when: {rest: POST /put}, to: {backend: events, publish: %s}}
  - {name: drop, when: {rest: POST /drop}, to: {backend: events, publish: %s, ack: none}}
  - {name: feed, when: {rest: GET /feed}, to: {backend: events, tail: %s}}
"""


@pytest.fixture
async def topic(broker: Broker) -> AsyncIterator[str]:
    """Yield a topic of this test's own."""
    name = f"drained-{uuid4().hex[:8]}"
    yield name
    broker.resume()
    await delete(broker.bootstrap, name)


@pytest.mark.broker
async def test_what_was_only_accepted_reaches_the_broker_before_the_end(broker: Broker, topic: str, tmp_path: Path) -> None:
    config = LIVE % (broker.bootstrap, topic, topic, topic)
    with running(tmp_path / "one", "seconds: 10", config) as ending:
        async with aiohttp.ClientSession(ending.gateway.url("public")) as session:
            async with session.post("/put", json={}) as answer:
                assert 201 == answer.status

            async def drop(number: int) -> None:
                async with session.post("/drop", json={"n": number}) as answer:
                    assert 202 == answer.status

            await asyncio.gather(*(drop(number) for number in range(500)))
            ending.terminate()
        await ending.ended("with 500 records that were only accepted")
    with running(tmp_path / "two", "seconds: 1", config) as ending:
        found = (await curl(ending.gateway.url("public", "/feed?limit=1000"), "-H", "Accept: application/json")).json
    assert list(range(500)) == sorted(one["n"] for one in found if one)


@pytest.mark.broker
async def test_it_ends_with_0_before_the_deadline_though_the_broker_has_stopped_with_records_of_ours(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    with running(tmp_path, "seconds: 5", LIVE % (broker.bootstrap, topic, topic, topic)) as ending:
        async with aiohttp.ClientSession(ending.gateway.url("public")) as session, asyncio.TaskGroup() as group:
            async with session.post("/put", json={}) as answer:
                assert 201 == answer.status
            broker.pause()

            async def put() -> None:
                try:
                    async with session.post("/put", json={}) as answer:
                        assert answer.status in {201, 503, 504}  # the broker may have had it just before
                except aiohttp.ClientConnectionError:
                    pass  # cut at the deadline

            for _ in range(20):
                group.create_task(put())
            await asyncio.sleep(0.2)
            ending.terminate()
            took = await ending.ended("with a broker that has stopped, of 5 s")
        assert took < 5
