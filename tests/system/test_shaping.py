"""Messages in other shapes and formats, end to end: over the wires, through the translations, to a target and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from gateway.plan import plan
from gateway.server import Gateway
from tests.system.client import rpc
from tests.system.process import ROOT

CONFIG = """
contracts: [%(shop)s]
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
backends:
  events: {kind: local, path: ":memory:"}
  stub:
    kind: stub
    answers:
      level: {body: {ART: "{ART}", QTY: "42"}}
      eu: {body: {at: eu}}
      us: {body: {at: us}}
      all: {body: {at: all}}
      echo: {echo: true}
  erp: {kind: http, url: "%(erp)s"}
routes:
  - name: stock
    when: {rest: "GET /stock/{sku}", grpc: shop.v1.Stock/Get}
    policies:
      - kind: map
        request: {ART: =body.sku, BY: =call.protocol}
        reply: {sku: =body.ART, quantity: =int(body.QTY)}
    to: {backend: stub, call: level}
  - name: place
    when: {rest: ["POST /orders/{customer}", "POST /orders"], grpc: shop.v1.Orders/Place}
    to: {backend: events, publish: orders, format: protobuf, key: "{customer}"}
  - name: untyped
    when: {rest: "POST /untyped"}
    to: {backend: events, publish: untyped}
  - name: shown
    when: {rest: "GET /shown"}
    to: {backend: events, tail: untyped, start: earliest, filter: body.n == query.n}
  - name: line
    when: {rest: "POST /lines"}
    contract: shop.v1.Orders/Place
    to: {backend: events, publish: untyped, format: csv}
  - name: erp
    when: {rest: "POST /erp"}
    policies: [{kind: map, request: {id: =body.n, tags: =body.tags}, reply: {was: =body}}]
    to: {backend: erp, call: POST /form, format: form}
  - name: bare
    when: {rest: ["GET /bare/{id}", "POST /bare/{id}"]}
    policies: [{kind: map, request: {id: =params.id, q: =query.?q, body: =body}, reply: {got: =body}}]
    to: {backend: stub, call: echo}
  - {name: eu, when: {rest: "GET /where"}, if: 'headers["x-region"] == "eu"', to: {backend: stub, call: eu}}
  - {name: us, when: {rest: "GET /where"}, if: query.region == "us", to: {backend: stub, call: us}}
  - {name: all, when: {rest: "GET /where"}, to: {backend: stub, call: all}}
  - {name: only, when: {rest: "GET /only"}, if: query.region == "us", to: {backend: stub, call: us}}
"""
FORM = "application/x-www-form-urlencoded"


class Erp:
    """An HTTP server that speaks forms."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.seen.append((request.content_type, await request.read()))
        return web.Response(body=b"state=done&tag=a&tag=b", content_type=FORM)


@pytest.fixture
def erp() -> Erp:
    return Erp()


@pytest.fixture
async def gateway(tmp_path, erp):
    runner = web.ServerRunner(web.Server(erp), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    (tmp_path / "gateway.yaml").write_text(CONFIG % {"shop": ROOT / "protos/shop.binpb", "erp": f"http://{host}:{port}"})
    try:
        async with Gateway(plan(tmp_path / "gateway.yaml")) as served:
            yield served
    finally:
        await runner.cleanup()


@pytest.fixture
async def http(gateway) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{gateway.addresses['public']}") as session:
        yield session


async def posted(http, path, body, kind, **headers):
    async with http.post(path, data=body, headers={"content-type": kind, **headers}) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_callers_contract_and_a_targets_own_shape_meet_in_a_map(http, gateway):
    async with http.get("/stock/tea") as answer:
        assert (200, {"sku": "tea", "quantity": 42}) == (answer.status, await answer.json())
    async with rpc(str(gateway.addresses["rpc"])) as caller:
        level = await caller.call("shop.v1.Stock/Get", sku="tea")
    assert ("tea", 42) == (level.sku, level.quantity)


async def test_a_call_without_a_body_is_mapped_from_path_and_query_and_its_body_is_null(http):
    for ask in (http.get, http.post):
        async with ask("/bare/7?q=x") as answer:
            assert (200, {"got": {"id": "7", "q": "x", "body": None}}) == (answer.status, await answer.json())


async def test_a_call_that_has_no_body_and_is_mapped_refuses_one(http):
    async with http.get("/bare/7", data=b'{"a": 1}') as answer:
        assert (400, "malformed") == (answer.status, (await answer.json(content_type=None))["reason"])


@pytest.mark.parametrize(
    ("path", "body"), [("/orders", "customer=ada&sku=tea&quantity=2"), ("/orders/ada", "sku=tea&quantity=2")]
)
async def test_a_form_is_read_by_the_contracts_types(http, path, body):
    status, told = await posted(http, path, body, FORM)
    assert (201, "orders") == (status, told["topic"])


async def test_what_the_path_has_said_no_form_may_say_again(http):
    status, told = await posted(http, "/orders/ada", "customer=ada&sku=tea&quantity=2", FORM)
    assert (400, "malformed") == (status, told["reason"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("customer=ada&sku=tea&quantity=two", "quantity"),
        ("customer=ada&sku=tea&quantity=1.0", "quantity"),
        ("customer=ada&sku=tea&quantity=2&quantity=3", "quantity"),
        ("customer=ada&sku=tea&quantity=2&nope=1", "nope"),
        ("customer=ada&sku=tea", "quantity"),
    ],
)
async def test_what_a_form_says_is_as_strict_as_a_query(http, body, pointer):
    status, told = await posted(http, "/orders", body, FORM)
    assert 400 == status
    assert pointer in json.dumps(told)


async def test_a_form_in_parts_is_the_same_and_a_file_in_it_is_refused(http):
    form = aiohttp.FormData()
    for name, text in (("customer", "ada"), ("sku", "tea"), ("quantity", "2")):
        form.add_field(name, text, content_type="text/plain; charset=utf-8")
    async with http.post("/orders", data=form()) as answer:
        assert 201 == answer.status
    form = aiohttp.FormData()
    form.add_field("sku", b"x", filename="x.png")
    async with http.post("/orders", data=form()) as answer:
        assert (400, True) == (answer.status, "a file in it" in (await answer.json(content_type=None))["detail"])


@pytest.mark.parametrize(("origin", "status"), [(None, 201), ("own", 201), ("https://evil.example", 403), ("null", 403)])
async def test_a_form_of_another_sites_page_is_refused(http, gateway, origin, status):
    own = f"http://{gateway.addresses['public']}"
    headers = {} if origin is None else {"origin": own if origin == "own" else origin}
    assert status == (await posted(http, "/orders", "customer=ada&sku=tea&quantity=2", FORM, **headers))[0]


async def test_without_a_contract_a_form_is_an_object_of_texts(http):
    assert 201 == (await posted(http, "/untyped", "n=1&tag=a&tag=b", FORM))[0]
    assert 201 == (await posted(http, "/untyped", '{"n": "2"}', "application/json"))[0]
    assert 201 == (await posted(http, "/untyped", "3,x", "text/csv"))[0]
    async with http.get("/shown?n=1", headers={"accept": "application/json"}) as answer:
        assert [{"n": "1", "tag": ["a", "b"]}] == await answer.json()
    assert 415 == (await posted(http, "/untyped", "n=1", "text/plain"))[0]


async def test_a_contract_gives_the_columns_of_csv(http):
    assert 201 == (await posted(http, "/lines", '{"customer": "ada", "sku": "a,b", "quantity": 2}', "application/json"))[0]
    assert 201 == (await posted(http, "/lines", 'ada,"a,b",2\r\n', "text/csv"))[0]
    for line in ("ada,tea", "ada,tea,two", "ada,tea,2\nada,tea,3"):
        assert 400 == (await posted(http, "/lines", line, "text/csv"))[0]


async def test_a_target_is_sent_a_form_and_its_answer_read_as_one(http, erp):
    status, told = await posted(http, "/erp", '{"n": 7, "tags": ["a", "b c"]}', "application/json")
    assert (200, {"was": {"state": "done", "tag": ["a", "b"]}}) == (status, told)
    assert [(FORM, b"id=7&tags=a&tags=b+c")] == erp.seen


@pytest.mark.parametrize(
    ("path", "headers", "at"),
    [
        ("/where", {"X-Region": "eu"}, "eu"),
        ("/where?region=us", {"X-Region": "eu"}, "eu"),
        ("/where?region=us", {}, "us"),
        ("/where?region=uk", {"X-Region": "uk"}, "all"),
        ("/where", {}, "all"),
    ],
)
async def test_a_condition_decides_which_route_has_a_call(http, path, headers, at):
    async with http.get(path, headers=headers) as answer:
        assert at == (await answer.json())["at"]


async def test_a_call_for_which_no_condition_holds_has_no_route(http):
    async with http.get("/only") as answer:
        assert 404 == answer.status
    async with http.get("/only?region=us") as answer:
        assert 200 == answer.status


async def test_a_request_that_cannot_be_shaped_is_told_what_is_missing(http):
    status, told = await posted(http, "/erp", '{"n": 7}', "application/json")
    assert (400, "the message is not what this route needs: tags is missing") == (status, told["detail"])
