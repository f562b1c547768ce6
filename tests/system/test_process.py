"""The process around the exchanges: operators' pages, health and reflection, accounting, how it ends and what outlives it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from tests.system.client import curl, message, rpc, streaming
from tests.system.conftest import SHOP, Shop
from tests.system.process import COMMAND, Gateway, on_free_ports

ROUTES = ["place-order", "feed", "stock", "quote", "answer-quote", "chat"]


async def test_the_admin_pages_tell_alive_ready_and_the_routes(shop: Shop) -> None:
    assert (200, {"status": "alive"}) == ((live := await curl(f"{shop.admin}/livez")).status, live.json)
    ready = await curl(f"{shop.admin}/readyz")
    assert (200, True) == (ready.status, ready.json["ready"])
    assert {"events": {"ready": True}, "stub": {"ready": True}} == ready.json["backends"]
    routes = (await curl(f"{shop.admin}/routes")).json["routes"]
    assert ROUTES == [route["route"] for route in routes]
    calls = {(call["protocol"], call["call"]) for call in routes[1]["calls"]}
    assert {("rest", "GET /orders"), ("grpc", "shop.v1.Orders/Watch"), ("websocket", "/feed")} <= calls


async def test_the_admin_pages_are_read_only_and_few(shop: Shop) -> None:
    assert (405, "GET, HEAD") == ((post := await curl(f"{shop.admin}/livez", "-X", "POST")).status, post.headers["allow"])
    assert 404 == (await curl(f"{shop.admin}/secret")).status
    assert (200, b"") == ((head := await curl(f"{shop.admin}/metrics", "--head")).status, head.body)


async def test_health_is_serving_over_grpc(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        asked = health_pb2.HealthCheckRequest().SerializeToString()
        answer = await client.raw("/grpc.health.v1.Health/Check")(asked)
    assert health_pb2.HealthCheckResponse.SERVING == health_pb2.HealthCheckResponse.FromString(answer).status


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_services_and_their_files(shop: Shop, version: str) -> None:
    async with rpc(shop.rpc) as client:
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        call = client.channel.stream_stream(path)()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
        services = reflection_pb2.ServerReflectionResponse.FromString(await call.read()).list_services_response.service
        names = {service.name for service in services}
        assert {"shop.v1.Orders", "shop.v1.Stock", "shop.v1.Quotes", "shop.v1.Chat", "grpc.health.v1.Health"} <= names
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="shop.v1.Orders")
        await call.write(asked.SerializeToString())
        found = reflection_pb2.ServerReflectionResponse.FromString(await call.read()).file_descriptor_response
        assert any(b"shop/v1/shop.proto" in file for file in found.file_descriptor_proto)
        await call.done_writing()
        assert grpc.StatusCode.OK is await call.code()


async def accounts(admin: str) -> dict[str, float]:
    """The accounting of all exchanges, by its words."""
    counted: dict[str, float] = dict.fromkeys(
        ("accepted", "in_flight", "acknowledged", "failed", "unknown", "stored", "dropped"), 0
    )
    text = (await curl(f"{admin}/metrics")).body.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "polygate_exchanges_accepted_total":
                counted["accepted"] += sample.value
            elif sample.name == "polygate_exchanges_in_flight":
                counted["in_flight"] += sample.value
            elif sample.name == "polygate_exchanges_total":
                counted[sample.labels["outcome"]] += sample.value
    return counted


def balance(counted: dict[str, float]) -> float:
    return counted["accepted"] - sum(value for name, value in counted.items() if name != "accepted")


async def test_what_was_accepted_is_accounted_for_at_any_time(shop: Shop) -> None:
    before = await accounts(shop.admin)
    assert 0 == balance(before)
    async with streaming(f"{shop.rest}/orders"), connect(f"{shop.live}/orders") as socket, rpc(shop.rpc) as client:
        # A stream that stays open, two frames (an order and a bad one), a call, a miss.
        await socket.send('{"customer": "ada", "sku": "tea", "quantity": 2}')
        await socket.send("oops")
        assert "offset" in json.loads(await socket.recv())
        assert "reason" in json.loads(await socket.recv())
        await client.call("shop.v1.Stock/Get", sku="tea")
        await curl(f"{shop.rest}/nowhere")
        during = await accounts(shop.admin)
        assert 0 == balance(during)
        assert before["accepted"] + 5 == during["accepted"]
        assert before["acknowledged"] + 2 == during["acknowledged"]
        assert before["failed"] + 2 == during["failed"]
        assert during["in_flight"] >= 1


async def test_every_exchange_has_its_line_in_the_access_log(own_shop: Shop) -> None:
    answer = await curl(
        f"{own_shop.rest}/stock/tea", "-H", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    )
    own_shop.gateway.terminate()
    assert 0 == own_shop.gateway.wait()
    lines = [json.loads(line) for line in own_shop.gateway.lines if line.startswith("{")]
    (line,) = [line for line in lines if line["id"] == answer.headers["x-request-id"]]
    assert ("stock", "rest", "acknowledged", "GET /stock/tea") == tuple(
        line[name] for name in ("route", "protocol", "outcome", "target")
    )
    assert "0af7651916cd43dd8448eb211c80319c" in line["trace"]


async def test_sigterm_ends_every_conversation_and_exits_0(own_shop: Shop) -> None:
    """A feed over SSE hears of it in-band, a WebSocket gets its close code, a gRPC stream its status."""
    feed = streaming(f"{own_shop.rest}/orders", "-H", "Accept: text/event-stream")
    async with feed as sse, connect(f"{own_shop.live}/feed") as socket, rpc(own_shop.rpc) as client:
        watched = client.method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders"))
        await watched.initial_metadata()
        own_shop.gateway.terminate()
        event = await sse.event()
        assert ("error", "overloaded", True) == (
            event["event"],
            (problem := json.loads(event["data"]))["reason"],
            problem["retryable"],
        )
        await socket.wait_closed()
        assert socket.close_code in {1012, 1013}
        assert grpc.StatusCode.UNAVAILABLE is await watched.code()
    assert 0 == await asyncio.to_thread(own_shop.gateway.wait)


SLOW = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  live: {kind: websocket, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
backends:
  stub: {kind: stub, answers: {slow: {body: {done: true}, delay: 1}}}
routes:
  - name: slow
    when: {rest: GET /slow, websocket: /slow}
    to: {backend: stub, call: slow}
"""


@pytest.mark.slow
async def test_sigterm_lets_what_is_in_flight_be_answered(tmp_path: Path) -> None:
    with Gateway(SLOW, tmp_path) as gateway:
        async with connect(gateway.url("live", "/slow")) as socket, asyncio.TaskGroup() as group:
            await socket.send("{}")
            asked = [group.create_task(curl(gateway.url("public", "/slow"))) for _ in range(2)]
            while (await accounts(gateway.url("admin")))["in_flight"] < 3:
                pass
            gateway.terminate()
            assert [(200, {"done": True})] * 2 == [(answer.status, answer.json) for answer in await asyncio.gather(*asked)]
            assert {"done": True} == json.loads(await socket.recv())
            await socket.wait_closed()
        assert 0 == await asyncio.to_thread(gateway.wait)


WORK = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
  work: {kind: topic, backend: events, topics: [away, slow], group: g}
backends:
  events: {kind: local, path: "${POLYGATE_VAR}/log.db"}
  away: {kind: http, url: "http://127.0.0.1:9"}
  stub: {kind: stub, answers: {slow: {echo: true, delay: 25}}}
drain: {seconds: 2}
routes:
  - {name: put, when: {rest: "POST /{topic}"}, to: {backend: events, publish: "{topic}"}}
  - {name: away, when: {topic: away}, to: {backend: away, call: POST /work}}
  - {name: slow, when: {topic: slow}, to: {backend: stub, call: slow}}
"""


@pytest.mark.parametrize(("topic", "within"), [("away", 1.5), ("slow", 5)])
@pytest.mark.slow
async def test_sigterm_leaves_a_record_that_cannot_be_delivered_in_time_to_the_next(
    tmp_path: Path, topic: str, within: float
) -> None:
    with Gateway(WORK, tmp_path) as gateway:
        assert 201 == (await curl(gateway.url("public", f"/{topic}"), "--json", "{}")).status
        while (await accounts(gateway.url("admin")))["accepted"] < 2:
            pass
        gateway.terminate()
        async with asyncio.timeout(within):
            assert 0 == await asyncio.to_thread(gateway.wait)
    with Gateway(WORK, tmp_path) as gateway:
        async with asyncio.timeout(5):
            while (await accounts(gateway.url("admin")))["accepted"] < 1:
                pass


@pytest.mark.slow
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    config = on_free_ports(SHOP.read_text())
    acknowledged: list[int] = []
    with Gateway(config, tmp_path) as gateway:
        async with connect(gateway.url("live", "/orders")) as socket:
            for number in range(1, 301):
                await socket.send(json.dumps({"customer": "ada", "sku": "tea", "quantity": number}))
                if number > 16:
                    acknowledged.append(json.loads(await socket.recv())["offset"])
            # Sixteen more are on their way.
            gateway.kill()
    with Gateway(config, tmp_path) as gateway:
        kept = (await curl(gateway.url("public", "/orders?limit=1000"), "-H", "Accept: application/json")).json
        later = await curl(gateway.url("public", "/orders/ada"), "--json", '{"sku": "tea", "quantity": 1}')
    assert list(range(284)) == acknowledged
    assert list(range(1, len(kept) + 1)) == [order["quantity"] for order in kept]
    assert len(kept) >= len(acknowledged)
    assert len(kept) == later.json["offset"]


@pytest.mark.slow
async def test_a_question_that_was_asked_before_kill_9_is_answered_after_the_restart(tmp_path: Path) -> None:
    """The consumer group goes on where it stood: at least once, and nothing twice that was committed."""
    config = on_free_ports(SHOP.read_text())
    with Gateway(config, tmp_path) as gateway:
        assert 200 == (await curl(gateway.url("public", "/quotes"), "--json", '{"sku": "tea", "quantity": 2}')).status
        gateway.kill()
    with Gateway(config, tmp_path) as gateway:
        answer = await curl(gateway.url("public", "/quotes"), "--json", '{"sku": "milk", "quantity": 3}')
    assert {"sku": "milk", "quantity": 3, "price": 9.5} == answer.json


def test_it_says_what_listens_where_and_a_line_to_try_each_route(own_shop: Shop) -> None:
    said = own_shop.gateway.lines
    assert {"public", "rpc", "live", "admin"} == own_shop.gateway.addresses.keys()
    tried = {line.split()[0]: line for line in said[said.index("routes, and a line to try each:") + 1 :]}
    assert ROUTES == list(tried)
    assert re.search(r"curl -s --json '.*' http://127\.0\.0\.1:\d+/orders/ada", tried["place-order"])


@pytest.mark.parametrize("listener", ["public", "admin", "rpc", "live"])
def test_a_port_that_is_taken_is_told_and_exits_3(own_shop: Shop, tmp_path: Path, listener: str) -> None:
    taken = own_shop.gateway.addresses[listener]
    kind = {"public": "rest", "rpc": "grpc", "live": "websocket", "admin": "admin"}[listener]
    file = tmp_path / "other.yaml"
    file.write_text(f'listeners: {{mine: {{kind: {kind}, bind: "{taken}"}}}}\n')
    done = subprocess.run([COMMAND, "run", str(file)], capture_output=True, text=True, timeout=30, check=False)
    assert 3 == done.returncode, done
    # Before it, grpcio's core writes a line of its own.
    assert done.stderr.splitlines()[-1].startswith("polygate: listener mine: "), done.stderr
    assert "Traceback" not in done.stderr
