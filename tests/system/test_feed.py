"""The feed of the shop's table: three ways over HTTP, gRPC and WebSocket, with cursors that hold on all of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.system.client import curl, message, rpc, streaming
from tests.system.conftest import Shop

NDJSON, SSE, ARRAY = (("-H", f"Accept: {kind}") for kind in ("application/x-ndjson", "text/event-stream", "application/json"))
EVENT = {"cursor", "key", "timestamp", "headers", "body"}


async def place(shop: Shop, *skus: str) -> list[dict[str, Any]]:
    """Order each, and give the bodies of the records that this makes."""
    who = f"ada-{uuid4().hex[:8]}"
    orders = [{"customer": who, "sku": sku, "quantity": 2} for sku in skus]
    async with connect(f"{shop.live}/orders") as socket:
        for order in orders:
            await socket.send(json.dumps(order))
            assert "offset" in json.loads(await socket.recv())
    return orders


async def events(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await socket.recv()) for _ in range(count)]


async def placed(shop: Shop, *skus: str) -> list[dict[str, Any]]:
    """Order each, and give the events that a WebSocket feed opened before shows of them."""
    async with connect(f"{shop.live}/feed") as feed:
        await place(shop, *skus)
        return await events(feed, len(skus))


async def test_over_ndjson_it_sends_bare_bodies_from_latest_on(shop: Shop) -> None:
    async with streaming(f"{shop.rest}/orders", *NDJSON) as feed:
        assert (200, "application/x-ndjson") == (feed.status, feed.headers["content-type"])
        orders = await place(shop, "tea", "milk")
        assert orders == [await feed.value() for _ in orders]


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/x-ndjson, text/event-stream;q=0.5", ""])
async def test_a_caller_that_takes_anything_gets_ndjson(shop: Shop, accept: str) -> None:
    async with streaming(f"{shop.rest}/orders", "-H", f"Accept: {accept}" if accept else "Accept;") as feed:
        assert "application/x-ndjson" == feed.headers["content-type"]


async def test_over_sse_it_sends_the_cursor_as_id_and_the_body_as_data(shop: Shop) -> None:
    async with streaming(f"{shop.rest}/orders", *SSE) as feed, connect(f"{shop.live}/feed") as other:
        assert (200, "text/event-stream") == (feed.status, feed.headers["content-type"])
        orders = await place(shop, "tea", "milk")
        for order, event in zip(orders, await events(other, 2), strict=True):
            sent = await feed.event()
            assert {"id": event["cursor"], "data": json.dumps(order)} == {**sent, "data": json.dumps(json.loads(sent["data"]))}


async def test_over_a_websocket_it_sends_events(shop: Shop) -> None:
    async with connect(f"{shop.live}/feed") as feed:
        (order,) = await place(shop, "tea")
        (event,) = await events(feed, 1)
    assert EVENT == event.keys()
    assert (order, order["customer"]) == (event["body"], event["key"])
    assert ["x-request-id"] == [name for name in event["headers"] if name == "x-request-id"]


async def test_over_grpc_it_sends_events(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        feed = client.method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders"))
        await feed.initial_metadata()
        (order,) = await place(shop, "tea")
        event = await feed.read()
        feed.cancel()
    assert "polygate.v1.Event" == event.DESCRIPTOR.full_name
    assert (order, order["customer"].encode()) == (json.loads(event.body), event.key)
    assert event.timestamp.seconds > 1_700_000_000


async def seen_by_sse(shop: Shop, query: str, count: int, *options: str) -> list[Any]:
    async with streaming(f"{shop.rest}/orders{query}", *SSE, *options) as feed:
        return [json.loads((await feed.event())["data"])["sku"] for _ in range(count)]


async def test_a_cursor_means_after_this_one_on_every_wire(shop: Shop) -> None:
    (first, second, third) = await placed(shop, "a", "b", "c")
    async with rpc(shop.rpc) as client:
        cursor = first["cursor"]
        assert ["b", "c"] == await seen_by_sse(shop, f"?start={cursor}", 2)
        lines = (await curl(f"{shop.rest}/orders?start={cursor}&limit=2", *NDJSON)).lines
        assert ["b", "c"] == [line["sku"] for line in lines]
        array = await curl(f"{shop.rest}/orders?start={cursor}&limit=2", *ARRAY)
        assert ["b", "c"] == [order["sku"] for order in array.json]
        async with connect(f"{shop.live}/feed?start={cursor}&limit=2") as feed:
            assert [second, third] == [json.loads(frame) async for frame in feed]
            assert 1000 == feed.close_code
        watched = [event async for event in client.method("shop.v1.Orders/Watch")(watch(cursor, 2))]
        assert [second["cursor"], third["cursor"]] == [event.cursor for event in watched]


def watch(start: str, limit: int = 0) -> Any:
    return message("shop.v1.WatchOrders", start=start, limit=limit)


async def test_a_cursor_given_by_sse_or_grpc_holds_on_the_other_wires(shop: Shop) -> None:
    (first, _, _) = await placed(shop, "a", "b", "c")
    async with rpc(shop.rpc) as client:
        async with streaming(f"{shop.rest}/orders?start={first['cursor']}", *SSE) as feed:
            given = (await feed.event())["id"]
        (by_grpc,) = [event async for event in client.method("shop.v1.Orders/Watch")(watch(first["cursor"], 1))]
        assert given == by_grpc.cursor
        async with connect(f"{shop.live}/feed?start={given}&limit=1") as socket:
            assert "c" == json.loads(await socket.recv())["body"]["sku"]


async def test_last_event_id_wins_over_start(shop: Shop) -> None:
    (first, second, _) = await placed(shop, "a", "b", "c")
    resumed = ("-H", f"Last-Event-ID: {second['cursor']}")
    assert ["c"] == await seen_by_sse(shop, f"?start={first['cursor']}", 1, *resumed)
    assert ["c"] == await seen_by_sse(shop, "?start=earliest", 1, *resumed)


async def test_earliest_is_the_first_record_and_latest_the_next_one(shop: Shop) -> None:
    await place(shop, "a")
    earliest = await curl(f"{shop.rest}/orders?start=earliest&limit=1", *NDJSON)
    assert earliest.lines == (await curl(f"{shop.rest}/orders?start=0:0&limit=1", *NDJSON)).lines
    async with streaming(f"{shop.rest}/orders?start=latest", *NDJSON) as latest:
        orders = await place(shop, "next")
        assert orders == [await latest.value()]


async def test_limit_ends_the_stream_cleanly(shop: Shop) -> None:
    await place(shop, "a", "b")
    answer = await curl(f"{shop.rest}/orders?start=earliest&limit=2", *NDJSON)
    assert (200, 2) == (answer.status, len(answer.lines))
    answer = await curl(f"{shop.rest}/orders?start=earliest&limit=1", *SSE)
    assert 1 == answer.body.count(b"data: ")


async def test_a_limit_of_0_is_none_whatever_the_wire(shop: Shop) -> None:
    (first, second) = await placed(shop, "a", "b")
    async with rpc(shop.rpc) as client:
        query = f"?start={first['cursor']}&limit=0"
        assert ["b"] == await seen_by_sse(shop, query, 1)
        assert [second["body"]] == (await curl(f"{shop.rest}/orders{query}", *ARRAY)).json
        async with connect(f"{shop.live}/feed{query}") as feed:
            assert [second] == await events(feed, 1)
        call = client.method("shop.v1.Orders/Watch")(watch(first["cursor"]))
        assert second["cursor"] == (await call.read()).cursor
        call.cancel()


async def test_a_json_array_runs_from_earliest_to_the_end_as_it_stood(shop: Shop) -> None:
    (first, second, third) = await placed(shop, "a", "b", "c")
    answer = await curl(f"{shop.rest}/orders", *ARRAY)
    assert (200, "application/json") == (answer.status, answer.type)
    earliest = (await curl(f"{shop.rest}/orders?start=earliest&limit=1", *NDJSON)).lines
    assert earliest == answer.json[:1]
    since = await curl(f"{shop.rest}/orders?start={first['cursor']}", *ARRAY)
    assert [second["body"], third["body"]] == since.json
    assert [] == (await curl(f"{shop.rest}/orders?start={third['cursor']}", *ARRAY)).json
    assert [] == (await curl(f"{shop.rest}/orders?start=latest", *ARRAY)).json


async def test_a_json_array_has_a_thousand_elements_unless_told(shop: Shop) -> None:
    (mark,) = await placed(shop, "mark")
    await crowd(shop, 1010)
    start = f"start={mark['cursor']}"
    assert list(range(1, 1001)) == [order["quantity"] for order in (await curl(f"{shop.rest}/orders?{start}", *ARRAY)).json]
    assert 1000 == len((await curl(f"{shop.rest}/orders", *ARRAY)).json)
    assert 1010 == len((await curl(f"{shop.rest}/orders?{start}&limit=5000", *ARRAY)).json)
    assert 3 == len((await curl(f"{shop.rest}/orders?limit=3", *ARRAY)).json)


async def crowd(shop: Shop, count: int) -> None:
    """So many orders, by frames that do not wait for each other."""
    async with connect(f"{shop.live}/orders") as socket:
        sent = 0
        for number in range(count):
            await socket.send(json.dumps({"customer": "crowd", "sku": "tea", "quantity": number + 1}))
            if number - sent >= 10:
                await socket.recv()
                sent += 1
        for _ in range(count - sent):
            assert "offset" in json.loads(await socket.recv())


WRONG = [
    "?start=yesterday",
    "?start=0:-1",
    "?start=7:0",
    "?limit=-1",
    "?limit=ten",
    "?limit=1.5",
    "?limit=99999999999999999999",
    "?colour=red",
    "?limit=1&limit=2",
    "?start=%zz",
    "?start=%ff",
]


@pytest.mark.parametrize("query", WRONG)
async def test_anything_else_is_400(shop: Shop, query: str) -> None:
    answer = await curl(f"{shop.rest}/orders{query}")
    assert (400, "malformed") == (answer.status, answer.json["reason"])


@pytest.mark.parametrize("query", WRONG)
async def test_anything_else_refuses_the_websocket_with_400(shop: Shop, query: str) -> None:
    websocket = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13")
    key = ("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    answer = await curl(shop.gateway.url("live", f"/feed{query}").replace("ws:", "http:"), *websocket, *key)
    assert (400, "malformed") == (answer.status, answer.json["reason"])


@pytest.mark.parametrize(("start", "limit"), [("yesterday", 0), ("7:0", 0), ("", -1)])
async def test_anything_else_is_invalid_argument_over_grpc(shop: Shop, start: str, limit: int) -> None:
    async with rpc(shop.rpc) as client:
        call = client.method("shop.v1.Orders/Watch")(watch(start, limit))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
