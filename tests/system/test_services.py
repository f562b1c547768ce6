"""One entry under `services:` serves the shop's orders over every wire, to a gRPC backend and to a topic."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import grpc.aio
import pytest
from websockets.asyncio.client import connect

from tests.browser import Page
from tests.system.client import curl, message, plain, rpc, streaming
from tests.system.conftest import LOGS, delete
from tests.system.process import ROOT, Gateway

HERE = Path(__file__).parent / "browser"
LOCAL = "{kind: local, path: ':memory:'}"
KAFKA = "{kind: kafka, bootstrap: '${KAFKA_BOOTSTRAP}', create: {partitions: 1}}"
CONFIG = """
contracts: [ROOT/protos]
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  live: {kind: websocket, bind: "127.0.0.1:0"}
backends:
  events: EVENTS
  shop: {kind: grpc, address: "SHOP"}
policies:
  - {kind: cors, origins: ["PAGE"]}
services:
  shop.v1.Orders:
    to: {backend: shop}
    methods:
      Place: {to: {backend: events, publish: TOPIC, key: "{customer}"}}
      Watch: {to: {backend: events, tail: TOPIC}}
"""
ADA = {"customer": "ada", "id": "7", "sku": "tea", "quantity": 2}


@dataclass
class Served:
    """The running gateway, and where its page comes from: another origin."""

    rest: str
    rpc: str
    live: str
    page: str
    topic: str


@asynccontextmanager
async def the_shop() -> AsyncIterator[str]:
    """The shop's own service, which knows ada's seventh order and no other."""

    async def get(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        asked = message("shop.v1.GetOrder").FromString(request)
        if (asked.customer, asked.id) != ("ada", "7"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such order")
        return message("shop.v1.Order", **ADA).SerializeToString()

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("shop.v1.Orders", {"Get": grpc.unary_unary_rpc_method_handler(get)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def a_site(folder: Path) -> AsyncIterator[str]:
    """The page and what it loads, from an origin of its own."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


@pytest.fixture(params=LOGS)
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    topic = f"orders-{uuid4().hex[:8]}"
    environment = {"KAFKA_BOOTSTRAP": request.getfixturevalue("kafka")} if request.param == "kafka" else {}
    site = tmp_path / "site"
    site.mkdir()
    for name, content in (("page.html", HERE / "page.html"), ("connect.js", HERE / "connect.js")):
        (site / name).write_bytes(content.read_bytes())
    (site / "contract.binpb").write_bytes((ROOT / "protos/shop.binpb").read_bytes())
    async with the_shop() as shop, a_site(site) as page:
        config = CONFIG.replace("ROOT", str(ROOT)).replace("SHOP", shop).replace("PAGE", page).replace("TOPIC", topic)
        config = config.replace("EVENTS", KAFKA if environment else LOCAL)
        with await asyncio.to_thread(Gateway, config, tmp_path, environment) as gateway:
            yield Served(gateway.url("public"), gateway.addresses["rpc"], gateway.url("live"), page, topic)
    if environment:
        await delete(environment["KAFKA_BOOTSTRAP"], topic)


async def test_over_rest_by_its_annotations(served: Served) -> None:
    placed = await curl(f"{served.rest}/orders/ada", "--json", '{"sku": "tea", "quantity": 2}')
    assert (201, served.topic, 0) == (placed.status, placed.json["topic"], placed.json["offset"])
    again = await curl(f"{served.rest}/orders", "--json", '{"customer": "bob", "sku": "jam", "quantity": 1}')
    assert (201, 1) == (again.status, again.json["offset"])
    one = await curl(f"{served.rest}/orders/ada/7")
    assert (200, ADA) == (one.status, one.json)
    assert 404 == (await curl(f"{served.rest}/orders/ada/8")).status
    async with streaming(f"{served.rest}/orders?start=earliest", "-H", "accept: application/x-ndjson") as stream:
        assert ["ada", "bob"] == [(await stream.value())["customer"] for _ in range(2)]


async def test_over_grpc_by_its_path(served: Served) -> None:
    async with rpc(served.rpc) as client:
        receipt = plain(await client.call("shop.v1.Orders/Place", customer="ada", sku="tea", quantity=2))
        assert (served.topic, "0") == (receipt["topic"], receipt["offset"])
        assert ADA == plain(await client.call("shop.v1.Orders/Get", customer="ada", id="7"))
        assert (grpc.StatusCode.NOT_FOUND, "") == await client.refusal("shop.v1.Orders/Get", customer="ada", id="8")
        watching = client.method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders", start="earliest"))
        assert "ada" == json.loads(bytes((await anext(aiter(watching))).body))["customer"]
        watching.cancel()


async def test_over_a_websocket_by_the_same_path(served: Served) -> None:
    async with connect(f"{served.live}/shop.v1.Orders/Place") as socket:
        await socket.send('{"customer": "ada", "sku": "tea", "quantity": 2}')
        assert 0 == json.loads(await socket.recv())["offset"]
    async with connect(f"{served.live}/shop.v1.Orders/Get") as socket:
        await socket.send('{"customer": "ada", "id": "7"}')
        assert ADA == json.loads(await socket.recv())
    async with connect(f"{served.live}/shop.v1.Orders/Watch?start=earliest") as socket:
        assert "ada" == json.loads(await socket.recv())["body"]["customer"]


@pytest.mark.parametrize("protocol", ["connect", "grpc_web"])
async def test_over_a_browser_on_a_page_of_another_origin(served: Served, page: Page, protocol: str) -> None:
    await page.open(f"{served.page}/page.html")
    await page.until("document.body && document.body.textContent === 'ready'")

    async def ask(method: str, request: dict[str, object], **options: object) -> object:
        words = ", ".join(json.dumps(word) for word in (protocol, served.rest, "shop.v1.Orders", method, request, options))
        return await page.run(f"ask({words})")

    assert [ADA] == await ask("get", {"customer": "ada", "id": "7"})
    for binary in (True, False):
        (receipt,) = await ask("place", {"customer": "ada", "sku": "tea", "quantity": 2}, useBinaryFormat=binary)
        assert served.topic == receipt["topic"]
    events = await ask("watch", {"start": "earliest"}, many=2)
    assert ["1", "2"] == [event["cursor"].rpartition(":")[2] for event in events]
    assert {"customer": "ada", "sku": "tea", "quantity": 2} == json.loads(base64.b64decode(events[0]["body"]))
    assert {"code": 5, "message": "there is no such order"} == await ask("get", {"customer": "ada", "id": "8"})
    assert {"code": 3} == {"code": (await ask("place", {"customer": "ada"}))["code"]}
    assert {served.page, served.rest} == {"/".join(url.split("/")[:3]) for url in page.asked if url.startswith("http")}


async def test_a_page_of_an_origin_that_is_not_allowed_is_told_nothing(served: Served, page: Page) -> None:
    await page.open(f"{served.page.replace('127.0.0.1', 'localhost')}/page.html")
    await page.until("document.body && document.body.textContent === 'ready'")
    words = ", ".join(
        json.dumps(word) for word in ("connect", served.rest, "shop.v1.Orders", "get", {"customer": "ada", "id": "7"})
    )
    assert "Failed to fetch" in str(await page.run(f"ask({words})"))
