"""Webhooks from a topic of the embedded log to a real server that is away, comes, says no and is slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.plan import plan
from gateway.server import Gateway
from tests.kafka_broker import free_port
from tests.system.client import curl

CONFIG = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
  work:
    kind: topic
    backend: events
    topics: [orders]
    group: g
    order: key
    retry: {attempts: 3, seconds: 0.02, max_pause: 0.05}
    dead_letter: dead
backends:
  events: {kind: local, path: ":memory:"}
  hook: {kind: http, url: "${HOOK}", breaker: {failures: 2, pause: 0.05, max_pause: 0.1}}
routes:
  - name: place
    when: {rest: "POST /orders/{customer}"}
    to: {backend: events, publish: orders, key: "{customer}"}
  - name: post
    when: {topic: orders}
    policies: [{kind: deadline, seconds: 0.5}, {kind: observe, log: none}]
    to: {backend: hook, call: POST /hook, reply: none}
  - name: dead
    when: {rest: GET /dead}
    to: {backend: events, tail: dead, envelope: true, start: earliest}
"""

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer, port: int) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


class Shop:
    """A gateway, and orders by the customers that place them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def url(self, path: str, listener: str = "public") -> str:
        return f"http://{self._gateway.addresses[listener]}{path}"

    async def place(self, *customers: str) -> None:
        for customer in customers:
            assert 201 == (await curl(self.url(f"/orders/{customer}"), "--json", "{}")).status

    async def dead(self) -> list[tuple[str, str, str]]:
        """The key, the reason and the attempts of every dead letter that there is."""
        events = (await curl(self.url("/dead"), "-H", "Accept: application/json")).json
        told = [(event["key"], event["headers"]) for event in events]
        return [(key, headers["polygate-error"][0], headers["polygate-attempts"][0]) for key, headers in told]

    async def counted(self, metric: str) -> float:
        """The sum of what a metric has for this listener."""
        text = (await curl(self.url("/metrics", "admin"))).body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric + "{"))


@asynccontextmanager
async def shop(folder: Path, port: int) -> AsyncIterator[Shop]:
    file = folder / "gateway.yaml"
    file.write_text(CONFIG)
    async with asyncio.timeout(60), Gateway(plan(file, {"HOOK": f"http://127.0.0.1:{port}"})) as gateway:
        yield Shop(gateway)


class Receiver:
    """Keeps whose orders came, and answers as it is told."""

    def __init__(self, *answers: web.Response) -> None:
        self.came: list[str] = []
        self._answers = iter(answers)
        self._more = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.came.append(json.loads(await request.read())["customer"])
        self._more.set()
        return next(self._answers, web.Response())

    async def reach(self, count: int) -> list[str]:
        while len(self.came) < count:
            self._more.clear()
            await self._more.wait()
        return self.came


async def test_records_wait_for_a_receiver_that_is_away_without_spending_their_tries(tmp_path: Path) -> None:
    port, receiver = free_port(), Receiver()
    async with shop(tmp_path, port) as one:
        paused = await one.counted("polygate_topic_pauses_total")
        await one.place("ada", "bob", "ada", "eve")
        while await one.counted("polygate_topic_pauses_total") < paused + 3:  # noqa: ASYNC110  a counter tells nobody
            await asyncio.sleep(0.05)
        async with serving(receiver, port):
            assert ["ada", "ada", "bob", "eve"] == sorted(await receiver.reach(4))
            assert [] == await one.dead()


async def test_a_receiver_that_answers_but_never_takes_a_record_gets_rid_of_it_and_holds_up_no_other(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        customer = json.loads(await request.read())["customer"]
        came.append(customer)
        return web.Response(status={"busy": 503, "gone": 410}.get(customer, 200))

    port = free_port()
    came: list[str] = []
    async with serving(answer, port), shop(tmp_path, port) as one:
        await one.place("busy", "gone", "ada", "busy")
        while len(await one.dead()) < 3:  # noqa: ASYNC110  asked as a caller would
            await asyncio.sleep(0.05)
        dead = sorted(await one.dead())
    assert [("busy", "backend_unavailable", "3")] * 2 + [("gone", "backend_failed_precondition", "1")] == dead
    assert (6, 1, 1) == (came.count("busy"), came.count("gone"), came.count("ada"))


async def test_a_receiver_is_not_asked_again_before_it_wants_to_be_and_that_holds_up_no_other_key(tmp_path: Path) -> None:
    port = free_port()
    receiver = Receiver(web.Response(status=429, headers={"retry-after": "3600"}))
    async with serving(receiver, port), shop(tmp_path, port) as one:
        await one.place("ada")
        await receiver.reach(1)
        for number in range(2, 12):
            await one.place("bob")
            await receiver.reach(number)
        # And leaving does not wait for the hour to pass.
    assert ["ada", *["bob"] * 10] == receiver.came


async def test_a_receiver_that_hangs_has_so_long_for_each_try_as_the_deadline_says(tmp_path: Path) -> None:
    hung = 0

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal hung
        if hung < 2:
            hung += 1
            await asyncio.Event().wait()
        done.set()
        return web.Response()

    port, done = free_port(), asyncio.Event()
    async with serving(answer, port), shop(tmp_path, port) as one:
        await one.place("ada")
        await done.wait()
        assert [] == await one.dead()
