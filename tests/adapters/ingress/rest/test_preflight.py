"""Pages of other origins, through a whole gateway: one policy for REST, Connect and gRPC-Web."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.plan import plan
from gateway.server import Gateway

SHOP = "https://shop.example"
CONFIG = """\
contracts: [{contract}]
listeners: {{public: {{kind: rest, bind: "127.0.0.1:0"}}}}
backends: {{stub: {{kind: stub, answers: {{stock: {{body: {{sku: "{{sku}}", quantity: 42}}}}}}}}}}
{file}
routes:
  - name: stock
    when: {{rest: "GET /stock/{{sku}}", grpc: shop.v1.Stock/Get}}
    policies: [{{kind: rate, limit: 1, per: minute}}{own}]
    to: {{backend: stub, call: stock}}
"""
CORS = f"{{kind: cors, origins: [{SHOP}]}}"
CONTRACT = Path("protos/shop.binpb").resolve()
STOCK, GET = "/stock/tea", "/shop.v1.Stock/Get"


@asynccontextmanager
async def calling(tmp_path, *, everywhere: bool):
    file = tmp_path / "gateway.yaml"
    places = {"file": f"policies: [{CORS}]", "own": ""} if everywhere else {"file": "", "own": f", {CORS}"}
    file.write_text(CONFIG.format(contract=CONTRACT, **places))
    async with Gateway(plan(file, {})) as gateway, aiohttp.ClientSession(f"http://{gateway.addresses['public']}") as session:
        yield session


def preflight(session, path, method, origin=SHOP):
    return session.options(path, headers={"origin": origin, "access-control-request-method": method})


@pytest.fixture(params=[True, False], ids=["of the file", "of the route"])
def everywhere(request):
    return request.param


@pytest.mark.parametrize(("path", "method"), [(STOCK, "GET"), (GET, "POST")])
async def test_a_preflight_is_answered_before_all_that_could_refuse_the_call(tmp_path, everywhere, path, method):
    async with calling(tmp_path, everywhere=everywhere) as session:
        for _ in range(3):
            async with preflight(session, path, method) as response:
                assert (204, SHOP) == (response.status, response.headers["access-control-allow-origin"])
                assert method in response.headers["access-control-allow-methods"]
        async with session.get(STOCK, headers={"origin": SHOP}) as response:
            assert 200 == response.status


async def test_every_protocols_answers_and_refusals_can_be_read(tmp_path, everywhere):
    asks = [
        {"method": "GET", "url": STOCK},
        {"method": "GET", "url": STOCK},
        {"method": "GET", "url": STOCK, "headers": {"accept": "image/png"}},
        {"method": "POST", "url": GET, "headers": {"content-type": "application/json", "connect-protocol-version": "2"}},
        {"method": "POST", "url": GET, "headers": {"content-type": "application/xml", "connect-protocol-version": "1"}},
        {"method": "POST", "url": GET, "headers": {"content-type": "application/grpc-web", "grpc-timeout": "x"}},
    ]
    statuses = []
    async with calling(tmp_path, everywhere=everywhere) as session:
        for ask in asks:
            async with session.request(**{**ask, "headers": {"origin": SHOP, **ask.get("headers", {})}}) as response:
                statuses.append(response.status)
                assert [SHOP] == response.headers.getall("access-control-allow-origin")
                assert "*" == response.headers["access-control-expose-headers"]
    assert [200, 429, 406, 400, 415, 200] == statuses


async def test_a_miss_can_be_read_where_the_whole_file_says_so(tmp_path):
    async with calling(tmp_path, everywhere=True) as session, session.get("/no", headers={"origin": SHOP}) as response:
        assert (404, SHOP) == (response.status, response.headers["access-control-allow-origin"])


async def test_another_origin_is_refused_in_the_words_of_what_it_asked(tmp_path, everywhere):
    async with calling(tmp_path, everywhere=everywhere) as session:
        async with preflight(session, GET, "POST", "https://evil.example") as response:
            assert (403, "forbidden") == (response.status, (await response.json(content_type=None))["reason"])
        headers = {"origin": "https://evil.example", "connect-protocol-version": "1", "content-type": "application/json"}
        async with session.post(GET, json={"sku": "tea"}, headers=headers) as response:
            assert (403, "permission_denied") == (response.status, (await response.json())["code"])


async def test_without_a_policy_a_preflight_is_a_question_for_the_methods(tmp_path):
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(contract=CONTRACT, file="", own=""))
    async with (
        Gateway(plan(file, {})) as gateway,
        aiohttp.ClientSession(f"http://{gateway.addresses['public']}") as session,
        preflight(session, STOCK, "GET") as response,
    ):
        assert (204, "GET, HEAD, OPTIONS") == (response.status, response.headers["allow"])
        assert "access-control-allow-origin" not in response.headers
