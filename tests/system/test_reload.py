"""The config loaded anew under load, through a real process: no request fails, and no stream ends that need not."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect

from tests.system.client import curl, message, rpc
from tests.system.conftest import SHOP, Shop
from tests.system.process import Gateway, on_free_ports

RELOADS = 100
STOCK = 'stock: {body: {sku: "{sku}", quantity: 42}}'
CHAT = "  - name: chat\n"
MORE = "  - {name: more, when: {rest: GET /more}, to: {backend: stub, call: echo}}\n"
BAD = (
    ("tail: orders.placed", "tial: orders.placed"),
    ("kind: grpc", "kind: grcp"),
    ("routes:", "routes: ["),
    (CHAT, MORE.replace("GET /more", "GET /stock/{sku}") + CHAT),
    ("answers:", "kidn: stub\n    answers:"),
)
DRAINED = "drain: {seconds: 2}\n"


def turned(config: str, number: int) -> str:
    """The config in one of its forms: another backend, a route more or less, a policy that counts, another order."""
    if number % 2:
        config = config.replace(STOCK, STOCK.replace("42", str(number)))
    if number % 3:
        config = config.replace(CHAT, MORE + CHAT)
    if number % 5 == 0:
        config = config.replace(
            "    to: {backend: events, tail", "    policies: [{kind: concurrency, limit: 50}]\n    to: {backend: events, tail"
        )
    return config


async def reload(shop: Shop, config: str) -> tuple[int, dict[str, object]]:
    shop.gateway.file.write_text(config)
    answer = await curl(f"{shop.admin}/reload", "-X", "POST")
    return answer.status, answer.json


@dataclass
class Load:
    """Callers that go on until they are told to stop."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    counted: dict[str, int] = field(default_factory=dict)

    async def ask(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """Call again and again; whatever is raised ends the test."""
        while not self.done.is_set():
            await call()
            self.counted[name] = self.counted.get(name, 0) + 1

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.counted.items()))


@pytest.mark.slow
async def test_a_hundred_reloads_under_load_fail_no_request_and_end_no_stream(tmp_path: Path) -> None:
    config = on_free_ports(SHOP.read_text()) + DRAINED
    with Gateway(config, tmp_path) as gateway:
        shop, load = Shop(gateway), Load()
        sent: list[int] = []
        async with (
            aiohttp.ClientSession(shop.rest) as http,
            connect(f"{shop.live}/orders") as orders,
            connect(f"{shop.live}/stock") as stock,
            connect(f"{shop.live}/feed") as feed,
            rpc(shop.rpc) as client,
            http.get("/orders", headers={"Accept": "text/event-stream"}) as sse,
        ):
            watched = client.method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders"))
            await watched.initial_metadata()

            async def order() -> None:
                number = len(sent) + 1
                sent.append(number)
                await orders.send(json.dumps({"customer": "ada", "sku": "tea", "quantity": number}))
                assert "offset" in json.loads(await orders.recv())

            async def get() -> None:
                async with http.get("/stock/tea") as answer:
                    assert (200, "tea") == (answer.status, (await answer.json())["sku"])

            async def ask() -> None:
                async with http.post("/quotes", json={"sku": "tea", "quantity": 2}) as answer:
                    assert (200, 9.5) == (answer.status, (await answer.json())["price"])

            async def frame() -> None:
                await stock.send('{"sku": "tea"}')
                assert "tea" == json.loads(await stock.recv())["sku"]

            async def call() -> None:
                assert "tea" == (await client.call("shop.v1.Stock/Get", sku="tea")).sku

            async with asyncio.TaskGroup() as group:
                for name, one in (("orders", order), ("gets", get), ("asks", ask), ("frames", frame), ("calls", call)):
                    group.create_task(load.ask(name, one))
                for number in range(RELOADS):
                    bad = BAD[number % len(BAD)] if number % 4 == 3 else None
                    text = turned(config, number)
                    status, told = await reload(shop, text.replace(*bad) if bad else text)
                    assert (422 if bad else 200) == status, told
                load.done.set()
            # Every order has come to those who follow them since before the first reload, and in its place.
            for number in sent:
                assert number == json.loads(await asyncio.wait_for(feed.recv(), 20))["body"]["quantity"]
                assert number == json.loads((await watched.read()).body)["quantity"]
                line = b""
                while not line.startswith(b"data:"):
                    line = await sse.content.readline()
                assert number == json.loads(line[5:])["quantity"]
        print(f"\n{RELOADS} reloads: {load}, 3 streams of {len(sent)}")
        gateway.terminate()
        assert 0 == await asyncio.to_thread(gateway.wait)


async def test_a_bad_file_is_told_to_whoever_had_it_loaded(own_shop: Shop) -> None:
    config = own_shop.gateway.file.read_text()
    status, told = await reload(own_shop, config.replace("tail: orders.placed", "tial: orders.placed"))
    assert (422, "refused") == (status, told["outcome"])
    (problem,) = told["problems"]
    assert ("routes[1].to.tial", 'unknown field; did you mean "tail"?') == (problem["path"], problem["text"])
    assert config.splitlines().index("    to: {backend: events, tail: orders.placed}") + 1 == problem["line"]
    assert (200, "unchanged") == ((answer := await reload(own_shop, config))[0], answer[1]["outcome"])
    # By a signal, in the log.
    own_shop.gateway.file.write_text("oops")
    own_shop.gateway.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while "a config is a mapping" not in own_shop.gateway.errors.read_text():  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)
    assert 200 == (await curl(f"{own_shop.rest}/stock/tea")).status


async def test_a_bad_file_under_watch_is_told_in_the_log_and_counted_and_the_running_one_stays(tmp_path: Path) -> None:
    config = on_free_ports(SHOP.read_text()) + "reload: {watch: true, every: 0.1}\n"
    bad = config.replace("tail: orders.placed", "tial: orders.placed")
    with Gateway(config, tmp_path) as gateway:
        shop = Shop(gateway)

        async def seen(text: str) -> None:
            async with asyncio.timeout(20):
                while text not in gateway.errors.read_text():  # noqa: ASYNC110  another process writes it
                    await asyncio.sleep(0.05)

        async def stale() -> bool:
            return b"\npolygate_config_stale 1" in (await curl(f"{shop.admin}/metrics")).body

        async with connect(f"{shop.live}/feed") as feed:
            gateway.file.write_text(bad)
            await seen("the one before is served on")
            line = bad[: bad.index("tial")].count("\n") + 1
            told = f'gateway.yaml:{line} routes[1].to.tial: unknown field; did you mean "tail"?'
            assert told in gateway.errors.read_text()
            assert await stale()
            # What runs is the one before, with the streams that it had.
            answer = await curl(f"{shop.rest}/orders/ada", "--json", '{"sku": "tea", "quantity": 2}')
            assert 201 == answer.status
            assert "tea" == json.loads(await feed.recv())["body"]["sku"]
            gateway.file.write_text(config.replace("quantity: 42", "quantity: 43"))
            await seen("the config was loaded anew")
            assert 43 == (await curl(f"{shop.rest}/stock/tea")).json["quantity"]
            assert not await stale()


async def test_listeners_of_every_kind_that_change_keep_their_ports(own_shop: Shop) -> None:
    config = own_shop.gateway.file.read_text()
    changed = (
        config.replace("{kind: rest,", "{kind: rest, body_seconds: 20,")
        .replace("{kind: grpc,", "{kind: grpc, first_message_s: 5,")
        .replace("{kind: websocket,", "{kind: websocket, max_queue: 8,")
        .replace("{kind: admin,", "{kind: admin, check_seconds: 1,")
        .replace("group: quotes,", "group: quotes, retry: {seconds: 0.2},")
    )
    for text in (changed, config):
        status, told = await reload(own_shop, text)
        assert 200 == status, told
        assert {"public", "rpc", "live", "admin", "quotes"} == set(told["listeners"]["changed"])
        assert 200 == (await curl(f"{own_shop.rest}/stock/tea")).status
        async with connect(f"{own_shop.live}/stock") as socket, rpc(own_shop.rpc) as client:
            await socket.send('{"sku": "tea"}')
            assert "tea" == json.loads(await socket.recv())["sku"]
            assert "tea" == (await client.call("shop.v1.Stock/Get", sku="tea")).sku
        answer = await curl(f"{own_shop.rest}/quotes", "--json", '{"sku": "tea", "quantity": 2}')
        assert 9.5 == answer.json["price"]
