"""Every file of config/examples does what it says: each has a case here, which really asks it something."""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from gateway.plan import plan
from gateway.policy.access import flush
from gateway.server import Gateway
from tests.adapters.backend.websocket_server import ENVELOPED, Peer, echo
from tests.gateway.test_signature import SECRET, verified
from tests.system.client import Rpc, curl, message, rpc, streaming
from tests.system.conftest import ON_KAFKA, SHOP
from tests.system.process import ROOT, on_free_ports

EXAMPLES = ROOT / "config/examples"
JSON = ("-H", "Content-Type: application/json")


class Example:
    """One example, served in this process on free ports."""

    def __init__(self, name: str, folder: Path, stack: AsyncExitStack) -> None:
        self._name = name
        self._folder = folder
        self._stack = stack
        self.gateway: Gateway

    async def serve(self, **environment: str) -> None:
        file = self._folder / self._name
        file.write_text(on_free_ports((EXAMPLES / self._name).read_text()))
        planned = plan(file, {"POLYGATE_VAR": str(self._folder), **environment})
        self.gateway = await self._stack.enter_async_context(Gateway(planned))

    async def peer(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> str:
        """Start an HTTP server that ends with the test; its URL."""
        runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        return f"http://{host}:{port}"

    def address(self, listener: str) -> str:
        return str(self.gateway.addresses[listener])

    def rest(self, path: str) -> str:
        return f"http://{self.address('public')}{path}"

    def live(self, path: str) -> str:
        return f"ws://{self.address('live')}{path}"


CASES: dict[str, Callable[[Example], Awaitable[None]]] = {}


def case(function: Callable[[Example], Awaitable[None]]) -> Callable[[Example], Awaitable[None]]:
    """The case of the file that has its name."""
    CASES[f"{function.__name__.rstrip('_').replace('_', '-')}.yaml"] = function
    return function


def test_every_example_has_a_case_and_every_case_an_example() -> None:
    assert sorted([*CASES, ON_KAFKA.name]) == sorted(file.name for file in EXAMPLES.glob("*.yaml"))


def test_every_example_says_in_its_first_line_what_it_shows() -> None:
    for file in EXAMPLES.glob("*.yaml"):
        assert re.match(r"# [A-Z].{30,}\n", file.read_text()), file.name


@pytest.mark.parametrize("name", sorted(file.name for file in EXAMPLES.glob("*.yaml") if file != ON_KAFKA))
async def test_it_does_what_it_says(name: str, tmp_path: Path) -> None:
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        # The access log is the process's own: what this gateway leaves in it would be another test's.
        stack.callback(flush)
        await CASES[name](Example(name, tmp_path, stack))


def test_the_shop_on_kafka_differs_from_the_shop_in_its_backend_alone() -> None:
    ours, theirs = (yaml.safe_load(file.read_text()) for file in (SHOP, ON_KAFKA))
    assert {"local", "kafka"} == {config["backends"].pop("events")["kind"] for config in (ours, theirs)}
    assert [f"../{path}" for path in ours.pop("contracts")] == theirs.pop("contracts")
    assert ours == theirs
    lines = difflib.ndiff(SHOP.read_text().splitlines(), ON_KAFKA.read_text().splitlines())
    changed = [line[2:] for line in lines if line[0] in "+-" and not line[2:].startswith(("#", "contracts:"))]
    assert len(changed) <= 6, changed


# The cases


@case
async def http_backend(example: Example) -> None:
    seen: list[web.BaseRequest] = []

    async def erp(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        if request.method == "POST":
            return web.json_response(
                {"made": json.loads(await request.read())}, status=201, headers={"Location": "/v2/articles/7"}
            )
        return web.json_response({"path": request.path, "lang": request.query.get("lang"), "tenant": request.headers["x-tenant"]})

    await example.serve(ERP_URL=await example.peer(erp))
    answer = await curl(example.rest("/items/green%20tea?lang=en"))
    assert {"path": "/v2/articles/green tea", "lang": "en", "tenant": "shop"} == answer.json
    answer = await curl(example.rest("/items"), "--json", '{"sku":"tea"}', "-H", "Authorization: Bearer secret")
    assert (201, "/v2/articles/7", {"made": {"sku": "tea"}}) == (answer.status, answer.headers["location"], answer.json)
    assert "Bearer secret" == seen[-1].headers["authorization"]
    async with connect(example.live("/items")) as socket:
        await socket.send('{"sku": "milk"}')
        assert {"path": "/v2/articles/milk", "lang": None, "tenant": "shop"} == json.loads(await socket.recv())


@asynccontextmanager
async def shop_server() -> AsyncIterator[str]:
    """A gRPC server of the shop's, by hand."""

    async def stock(asked: Any, context: Any) -> Any:
        if asked.sku == "none":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such tea")
        tenant = dict(context.invocation_metadata()).get("x-tenant")
        assert "shop" == tenant
        return message("shop.v1.StockLevel", sku=asked.sku, quantity=7)

    async def talk(lines: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for line in lines:
            yield message("shop.v1.Line", text=line.text.upper())

    def kind(name: str) -> Any:
        return type(message(name)).FromString

    def write(sent: Any) -> bytes:
        return bytes(sent.SerializeToString())

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "shop.v1.Stock", {"Get": grpc.unary_unary_rpc_method_handler(stock, kind("shop.v1.GetStock"), write)}
            ),
            grpc.method_handlers_generic_handler(
                "shop.v1.Chat", {"Talk": grpc.stream_stream_rpc_method_handler(talk, kind("shop.v1.Line"), write)}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@case
async def grpc_backend(example: Example) -> None:
    async with shop_server() as address:
        await example.serve(SHOP_ADDRESS=address)
        assert {"sku": "tea", "quantity": 7} == (await curl(example.rest("/stock/tea"))).json
        answer = await curl(example.rest("/stock/none"))
        assert (404, "no such tea") == (answer.status, answer.json["detail"])
        async with rpc(example.address("rpc")) as client, connect(example.live("/chat")) as socket:
            assert 7 == (await client.call("shop.v1.Stock/Get", sku="tea")).quantity
            talk = client.method("shop.v1.Chat/Talk")()
            await talk.write(message("shop.v1.Line", text="hello"))
            assert "HELLO" == (await talk.read()).text
            await talk.done_writing()
            for text in ("a", "b"):
                await socket.send(json.dumps({"text": text}))
                assert {"text": text.upper()} == json.loads(await socket.recv())


@case
async def sse_upstream(example: Example) -> None:
    async def ticker(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for price in (1, 2):
            await answer.write(f'id: {price}\ndata: {{"sku": "{request.path[8:]}", "price": {price}}}\n\n'.encode())
        await answer.write_eof()
        return answer

    await example.serve(MARKET_URL=await example.peer(ticker))
    prices = [{"sku": "tea", "price": 1}, {"sku": "tea", "price": 2}]
    assert prices == (await curl(example.rest("/prices/tea"))).lines
    assert prices == (await curl(example.rest("/prices/tea"), "-H", "Accept: application/json")).json
    by_sse = await curl(example.rest("/prices/tea"), "-H", "Accept: text/event-stream")
    assert 2 == by_sse.body.count(b"data: ")
    async with connect(example.live("/prices/tea")) as socket:
        # The server is asked once the caller has spoken.
        await socket.send("{}")
        assert prices == [json.loads(frame) async for frame in socket]


@case
async def answers(example: Example) -> None:
    posted: asyncio.Queue[Any] = asyncio.Queue()

    async def hook(request: web.BaseRequest) -> web.Response:
        posted.put_nowait((request.path, request.headers, await request.read()))
        return web.Response(status=204)

    url = await example.peer(hook)
    await example.serve(HOOKS_URL=url, HOOKS_PLAIN="true", HOOKS_SECRET=SECRET)
    total = {"a": 1, "b": 2, "sum": "ask somebody else"}
    later = ("--json", '{"a": 1, "b": 2}', "-H", "Prefer: respond-async")
    taken = await curl(example.rest("/sums"), *later, "-H", f"Callback-URL: {url}/in/ada")
    assert (202, "accepted") == (taken.status, taken.json["state"])
    answer = await curl(example.rest(f"{taken.headers['location']}?wait=10"))
    assert (200, total) == (answer.status, answer.json)
    async with asyncio.timeout(20):
        path, headers, body = await posted.get()
    verified({name.lower(): value for name, value in headers.items()}, body, SECRET)
    assert ("/in/ada", {"id": taken.json["id"], "state": "done", "body": total}) == (path, json.loads(body)["data"])
    async with connect(example.live("/answers")) as socket:
        await socket.send(json.dumps({"id": taken.json["id"]}))
        assert total == json.loads(await socket.recv())
    refused = await curl(example.rest("/sums"), *later, "-H", "Callback-URL: http://169.254.169.254/latest")
    assert (422, "no callback is made to this URL") == (refused.status, refused.json["detail"])


@case
async def delivery(example: Example) -> None:
    posted: asyncio.Queue[Any] = asyncio.Queue()

    async def hook(request: web.BaseRequest) -> web.Response:
        posted.put_nowait(json.loads(await request.read())["data"])
        return web.Response(status=204)

    url = await example.peer(hook)
    await example.serve(HOOKS_URL=url, HOOKS_PLAIN="true", HOOKS_SECRET=SECRET)
    tea, two = ("--json", '{"sku": "tea"}'), ("--json", '[{"sku": "tea"}, {"sku": "milk"}]')
    once = [await curl(example.rest("/orders/ada"), *tea, "-H", 'Idempotency-Key: "1"') for _ in range(2)]
    assert [(201, 0, None), (201, 0, "true")] == [
        (answer.status, answer.json["offset"], answer.headers.get("idempotency-replayed")) for answer in once
    ]
    for path, offsets in (("/orders/ada", [1, 2]), ("/orders/bob:all", [3, 4])):
        told = await curl(example.rest(path), *two)
        assert (200, offsets) == (told.status, [one["receipt"]["offset"] for one in told.json])
    taken = [await curl(example.rest(path), *tea) for path in ("/returns", "/readings")]
    assert [(202, "stored"), (202, "accepted")] == [(answer.status, answer.json["state"]) for answer in taken]
    later = await curl(example.rest("/quotes"), *tea, "-H", "Prefer: respond-async", "-H", f"Callback-URL: {url}/in/ada")
    assert (202, "accepted") == (later.status, later.json["state"])
    quote = {"sku": "tea", "price": 9.5}
    assert quote == (await curl(example.rest(f"{later.headers['location']}?wait=10"))).json
    async with asyncio.timeout(20):
        assert {"id": later.json["id"], "state": "done", "body": quote} == await posted.get()
    keyed = [await curl(example.rest("/quotes"), *tea, "-H", 'Idempotency-Key: "1"') for _ in range(2)]
    assert [(quote, None), (quote, "true")] == [(answer.json, answer.headers.get("idempotency-replayed")) for answer in keyed]
    other = await curl(example.rest("/quotes"), "--json", '{"sku": "milk"}', "-H", 'Idempotency-Key: "1"')
    assert (422, "invalid") == (other.status, other.json["reason"])
    async with connect(example.live("/mine/ada")) as socket:
        events = [json.loads(await socket.recv()) for _ in range(5)]
        assert [f"0:{number}" for number in range(1, 6)] == [event["cursor"] for event in events]
        await socket.send(json.dumps({"ack": "0:4"}))
    # What is acknowledged is stored though the connection ends; who comes back before that is sent it once more.
    async with asyncio.timeout(20):
        cursor = ""
        while cursor != "0:5":
            async with connect(example.live("/mine/ada")) as socket:
                cursor = json.loads(await socket.recv())["cursor"]
    (gone_on,) = (await curl(example.rest("/orders?start=0:4&limit=1"))).lines
    assert ("0:5", "bob", {"customer": "bob", "sku": "milk"}) == (gone_on["cursor"], gone_on["key"], gone_on["body"])


@case
async def rate_limit(example: Example) -> None:
    await example.serve()
    answers = [await curl(example.rest("/stock/tea"), "-H", "X-Api-Key: one") for _ in range(4)]
    assert [200, 200, 200, 429] == [answer.status for answer in answers]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert 200 == (await curl(example.rest("/stock/tea"), "-H", "X-Api-Key: two")).status
    async with connect(example.live("/stock"), additional_headers={"X-Api-Key": "one"}) as socket:
        await socket.send('{"sku": "tea"}')
        assert "rate_limited" == json.loads(await socket.recv())["reason"]


@case
async def headers(example: Example) -> None:
    async def erp(request: web.BaseRequest) -> web.Response:
        return web.json_response({name: request.headers.get(name) for name in ("x-tenant", "x-debug", "x-color")})

    await example.serve(ERP_URL=await example.peer(erp))
    answer = await curl(example.rest("/items/tea"), "-H", "X-Debug: 1", "-H", "X-Color: green", "-H", "X-Tenant: other")
    assert {"x-tenant": "shop", "x-debug": None, "x-color": "green"} == answer.json
    assert "max-age=63072000" == answer.headers["strict-transport-security"]


@case
async def guards(example: Example) -> None:
    await example.serve()
    answer = await curl(example.rest("/slow"))
    assert (504, "unknown_outcome") == (answer.status, answer.json["reason"])
    assert 200 == (await curl(example.rest("/small"), *JSON, data=b'{"text":"hello"}')).status
    assert 413 == (await curl(example.rest("/small"), *JSON, data=json.dumps({"text": "x" * 100}).encode())).status
    answers = await asyncio.gather(*(curl(example.rest("/alone")) for _ in range(2)))
    assert [503, 504] == sorted(answer.status for answer in answers)


@case
async def ask(example: Example) -> None:
    await example.serve()
    answer = await curl(example.rest("/sums"), "--json", '{"a": 1, "b": [2]}')
    assert (200, {"a": 1, "b": [2], "sum": "ask somebody else"}) == (answer.status, answer.json)
    async with connect(example.live("/sums")) as socket:
        for number in range(20):
            await socket.send(json.dumps({"a": number, "b": 0}))
        assert list(range(20)) == [json.loads(await socket.recv())["a"] for _ in range(20)]


@case
async def webhook(example: Example) -> None:
    posted: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()
    answers = iter([503, 503, 200, 410, 200])

    async def hook(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        posted.put_nowait((request.path, verified(request.headers.items(), body, SECRET), json.loads(body)["number"]))
        return web.Response(text="thank you", status=next(answers))

    await example.serve(HOOK_URL=await example.peer(hook), HOOK_SECRET=SECRET)
    for number in range(3):
        assert 201 == (await curl(example.rest("/orders/ada"), "--json", json.dumps({"number": number}))).status
    # The first is tried until it is taken; the second is refused for good, and kept; each has an id that is its own.
    got = [await posted.get() for _ in range(5)]
    assert [("/hooks/order", number) for number in (0, 0, 0, 1, 2)] == [(path, number) for path, _, number in got]
    ids = [id_ for _, id_, _ in got]
    assert (1, 3) == (len(set(ids[:3])), len(set(ids)))
    (kept,) = (await curl(example.rest("/undelivered?limit=1"))).lines
    assert ("ada", 1) == (kept["key"], kept["body"]["number"])
    told = {name: values for name, values in kept["headers"].items() if name.startswith("polygate-")}
    assert (["orders.placed"], ["1"], ["1"]) == (
        told["polygate-original-topic"],
        told["polygate-original-offset"],
        told["polygate-attempts"],
    )


@case
async def tail_envelope(example: Example) -> None:
    await example.serve()
    receipt = (await curl(example.rest("/orders/ada"), "--json", '{"sku":"tea"}')).json
    for options, read in ((("-H", "Accept: application/json"), lambda answer: answer.json), ((), lambda answer: answer.lines)):
        (event,) = read(await curl(example.rest("/orders?limit=1"), *options))
        assert {"cursor", "key", "timestamp", "headers", "body"} == event.keys()
        assert ("ada", {"customer": "ada", "sku": "tea"}, receipt["timestamp"]) == (
            event["key"],
            event["body"],
            event["timestamp"],
        )
        assert 1 == len(event["headers"]["x-request-id"])
    async with streaming(example.rest("/orders"), "-H", "Accept: text/event-stream") as feed:
        assert {"customer": "ada", "sku": "tea"} == json.loads((await feed.event())["data"])


@case
async def topics_by_field(example: Example) -> None:
    await example.serve()
    async with streaming(example.rest("/eu/orders")) as europe, streaming(example.rest("/us/orders")) as america:
        for region in ("us", "eu"):
            answer = await curl(example.rest(f"/{region}/orders"), "--json", '{"sku":"tea"}')
            assert (201, f"orders.{region}") == (answer.status, answer.json["topic"])
        assert ["eu", "us"] == [(await feed.value())["region"] for feed in (europe, america)]
    for sku in ("tea", "milk", "cup"):
        assert 1 == (await curl(example.rest("/returns"), "--json", f'{{"sku":"{sku}"}}')).json["partition"]


@case
async def legacy(example: Example) -> None:
    await example.serve()
    order = '{"CUSTNO":"ada","DATE":"03.02.2024","POS":[{"ART":"tea","QTY":"2"},{"ART":"milk","QTY":"1","NOTE":"cold"}]}'
    answer = await curl(example.rest("/till/7/order"), "--json", order)
    assert (201, {"STATUS": "OK", "NO": "0-0"}) == (answer.status, answer.json)
    lines = [{"sku": "tea", "quantity": 2}, {"sku": "milk", "quantity": 1, "note": "cold"}]
    placed = {"reference": "7/ada", "customer": "ada", "placed": "2024-02-03", "source": "till", "priority": 0, "lines": lines}
    for path, expected in (("/orders-of/ada", [placed]), ("/orders-of/ada?lines=3", []), ("/orders-of/bob", [])):
        answer = await curl(example.rest(path), "-H", "Accept: application/json")
        assert expected == answer.json
    answer = await curl(example.rest("/till/7/order"), "--json", '{"CUSTNO":"ada","DATE":"03.02.2024"}')
    assert (400, "the message is not what this route needs: POS is missing") == (answer.status, answer.json["detail"])
    for written in (("-d", "customer=ada&sku=tea&quantity=2"), ("-F", "customer=ada", "-F", "sku=tea", "-F", "quantity=2")):
        assert 201 == (await curl(example.rest("/order-form"), *written)).status
    answer = await curl(example.rest("/order-form"), "-d", "customer=ada&sku=tea&quantity=two")
    assert (400, "/quantity") == (answer.status, answer.json["errors"][0]["pointer"])
    answer = await curl(example.rest("/export/tea"), "--json", '{"quantity":2,"place":"shelf 3, left"}')
    assert 201 == answer.status
    for extra, currency in ((("-H", "X-Region: eu"), "EUR"), ((), "USD")):
        assert currency == (await curl(example.rest("/price/tea"), *extra)).json["currency"]
    assert "EUR" == (await curl(example.rest("/price/tea?region=eu"))).json["currency"]


@case
async def tls(example: Example) -> None:
    folder = example._folder
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    where = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    await asyncio.to_thread(subprocess.run, [*words, *where], check=True, capture_output=True)
    await example.serve(TLS_CERT=str(folder / "cert.pem"), TLS_KEY=str(folder / "key.pem"))
    expected = {"sku": "tea", "quantity": 42}
    answer = await curl(example.rest("/stock/tea").replace("http:", "https:"), "--cacert", str(folder / "cert.pem"))
    assert expected == answer.json
    trusted = ssl.create_default_context(cafile=folder / "cert.pem")
    async with connect(example.live("/stock").replace("ws:", "wss:"), ssl=trusted) as socket:
        await socket.send('{"sku": "tea"}')
        assert expected == json.loads(await socket.recv())
    credentials = grpc.ssl_channel_credentials((folder / "cert.pem").read_bytes())
    async with grpc.aio.secure_channel(example.address("rpc"), credentials) as channel:
        assert 42 == (await Rpc(channel).call("shop.v1.Stock/Get", sku="tea")).quantity


@case
async def bytes_(example: Example) -> None:
    async def thumbnail(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"small " + await request.read(), content_type=request.headers["content-type"])

    await example.serve(IMAGES_URL=await example.peer(thumbnail))
    image = b"\x89PNG\xff\x00{"
    answer = await curl(example.rest("/files/logo.png"), "-H", "Content-Type: image/png", data=image)
    assert (201, "files") == (answer.status, answer.json["topic"])
    async with connect(example.live("/files")) as socket:
        await socket.send(image)
        assert 1 == json.loads(await socket.recv())["offset"]
    for event in (await curl(example.rest("/files?limit=2"))).lines:
        assert ("base64", "iVBOR/8Aew==") == (event["encoding"], event["body"])
    answer = await curl(example.rest("/thumbnails"), "-H", "Content-Type: image/png", data=image)
    assert ("image/png", b"small " + image) == (answer.type, answer.body)


@case
async def stub(example: Example) -> None:
    await example.serve()
    assert {"sku": "tea", "quantity": 42} == (await curl(example.rest("/stock/tea"))).json
    assert b'{ "a" : [1] }' == (await curl(example.rest("/echo"), *JSON, data=b'{ "a" : [1] }')).body
    assert {"done": True} == (await curl(example.rest("/late"))).json
    assert [{"tick": "tea"}] * 3 == (await curl(example.rest("/many/tea"))).lines
    answer = await curl(example.rest("/gone"))
    assert (404, "there is no such thing", "NOT_FOUND") == (answer.status, answer.json["detail"], answer.json["code"])
    *ticks, broken = (await curl(example.rest("/breaks"))).lines
    assert ([{"tick": 1}] * 2, "backend_unavailable") == (ticks, broken["error"]["reason"])
    async with connect(example.live("/gone")) as socket:
        for _ in range(2):
            await socket.send("{}")
            assert "backend_not_found" == json.loads(await socket.recv())["reason"]


@case
async def json_api(example: Example) -> None:
    await example.serve()
    async with connect(example.live("/notes/live")) as feed, connect(example.live("/notes")) as socket:
        assert 201 == (await curl(example.rest("/notes/ada"), "--json", '{"text": "hello", "mood": {"x": [1.5, null]}}')).status
        await socket.send('{"author": "bob", "text": "hi"}')
        assert 1 == json.loads(await socket.recv())["offset"]
        first, second = [json.loads(await feed.recv()) for _ in range(2)]
    assert ("ada", {"author": "ada", "text": "hello", "mood": {"x": [1.5, None]}}) == (first["key"], first["body"])
    assert ("bob", {"author": "bob", "text": "hi"}) == (second["key"], second["body"])
    answer = await curl(example.rest("/notes/ada"), "--json", '{"author": "bob"}')
    assert (400, "/author") == (answer.status, answer.json["errors"][0]["pointer"])


@case
async def websocket_backend(example: Example) -> None:
    async def prices(peer: Peer, socket: ServerConnection) -> None:
        asked = json.loads(await socket.recv())
        for number in range(3):
            await socket.send(json.dumps({**asked, "price": number}))

    async with Peer(prices=prices, quote=echo, chat=ENVELOPED["echo"]).serving() as peer:
        await example.serve(FEEDS_URL=peer.address)
        answer = await curl(example.rest("/prices/eu"), *JSON, "-H", "Accept: application/x-ndjson", data=b'{"sku": "tea"}')
        assert [{"market": "eu", "sku": "tea", "price": number} for number in range(3)] == answer.lines
        assert "shop" == peer.requests[0].headers["x-tenant"]
        assert {"sku": "tea"} == (await curl(example.rest("/quotes"), "--json", '{"sku": "tea"}')).json
        lines = b'{"text": "a"}\n{"text": "b"}\n'
        answer = await curl(example.rest("/chat/tea"), "-H", "Content-Type: application/x-ndjson", data=lines)
        assert [{"room": "tea", "text": text} for text in "ab"] == answer.lines
        async with connect(example.live("/chat/tea")) as socket:
            await socket.send('{"text": "a"}')
            assert {"room": "tea", "text": "a"} == json.loads(await socket.recv())


@case
async def services(example: Example) -> None:
    await example.serve()
    placed = await curl(example.rest("/orders/ada"), "--json", '{"sku":"tea","quantity":2}')
    assert (201, "orders") == (placed.status, placed.json["topic"])
    async with rpc(example.address("rpc")) as client, connect(example.live("/shop.v1.Orders/Place")) as socket:
        assert "orders" == (await client.call("shop.v1.Orders/Place", customer="bob", sku="tea", quantity=1)).topic
        await socket.send('{"customer": "eve", "sku": "tea", "quantity": 3}')
        assert "orders" == json.loads(await socket.recv())["topic"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("shop.v1.Orders/Get", customer="ada", id="7")
        assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
    assert ["ada", "bob", "eve"] == [order["customer"] for order in (await curl(example.rest("/orders?limit=3"))).lines]
    connect_unary = ("-H", "Connect-Protocol-Version: 1", "--json", '{"sku":"tea"}')
    assert {"sku": "tea", "quantity": 42} == (await curl(example.rest("/shop.v1.Stock/Get"), *connect_unary)).json
    assert {"sku": "tea", "quantity": 42} == (await curl(example.rest("/stock/tea"))).json
    quote = {"sku": "tea", "quantity": 2, "price": 9.5}
    assert quote == (await curl(example.rest("/quotes/tea/2"))).json
    assert quote == (await curl(example.rest("/quotes"), "--json", '{"sku":"tea","quantity":2}')).json
    assert 404 == (await curl(example.rest("/orders/ada/7"))).status


@case
async def json_schema(example: Example) -> None:
    await example.serve()
    answer = await curl(example.rest("/orders/ada"), "--json", '{"sku":"tea","price":9.5}')
    assert (200, {"customer": "ada", "total": 9.5}) == (answer.status, answer.json)
    answer = await curl(example.rest("/orders/Ada"), "--json", '{"sku":"cup","price":"9","colour":"red"}')
    assert (422, "invalid") == (answer.status, answer.json["reason"])
    assert {"/customer", "/sku", "/price", "/colour"} == {error["pointer"] for error in answer.json["errors"]}
    assert {"customer": "ada", "total": 9} == (await curl(example.rest("/orders?customer=ada&sku=tea&price=9"))).json
    answer = await curl(example.rest("/orders/ada"), "--json", '{"sku":"tea","price":900}')
    assert (502, "bad_answer") == (answer.status, answer.json["reason"])
    async with connect(example.live("/orders")) as socket:
        await socket.send('{"customer": "ada", "sku": "tea"}')
        assert ["/price"] == [error["pointer"] for error in json.loads(await socket.recv())["errors"]]
