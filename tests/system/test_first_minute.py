"""Every line of the shop's table, as a newcomer meets it: with curl, a gRPC client and a WebSocket client."""

from __future__ import annotations

import asyncio
import json
import re
from uuid import uuid4

import grpc.aio
import pytest
from websockets.asyncio.client import connect

from tests.system.client import curl, message, plain, rpc
from tests.system.conftest import Shop

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PROBLEM = {"type", "title", "status", "detail", "reason", "code", "retryable", "outcome", "id"}


def customer() -> str:
    """A name that no other test orders under."""
    return f"ada-{uuid4().hex[:8]}"


def order(who: str, sku: str = "tea", quantity: int = 2) -> str:
    return json.dumps({"customer": who, "sku": sku, "quantity": quantity})


async def test_the_very_first_order_is_answered_201_with_partition_0_and_offset_0(own_shop: Shop) -> None:
    answer = await curl(f"{own_shop.rest}/orders/ada", "--json", '{"sku": "tea", "quantity": 2}')
    assert (201, "application/json") == (answer.status, answer.type)
    timestamp = answer.json.pop("timestamp")
    assert {"topic": "orders.placed", "partition": 0, "offset": 0, "timestamp": timestamp} == answer.json
    assert TIMESTAMP.fullmatch(timestamp)


async def test_orders_by_rest_get_receipts_whose_offsets_go_up_by_one(shop: Shop) -> None:
    receipts = [(await curl(f"{shop.rest}/orders/{customer()}", "--json", '{"sku": "tea", "quantity": 2}')) for _ in range(2)]
    assert [201, 201] == [answer.status for answer in receipts]
    first, second = (answer.json for answer in receipts)
    assert {"topic", "partition", "offset", "timestamp"} == first.keys()
    assert (shop.orders, 0, first["offset"] + 1) == (second["topic"], second["partition"], second["offset"])


async def test_an_order_by_grpc_gets_a_receipt(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        answer = plain(await client.call("shop.v1.Orders/Place", customer=customer(), sku="tea", quantity=2))
    assert (shop.orders, 0) == (answer["topic"], answer["partition"])
    assert TIMESTAMP.fullmatch(answer["timestamp"])


async def test_every_order_frame_is_answered_by_one_receipt_frame_in_order(shop: Shop) -> None:
    async with connect(f"{shop.live}/orders") as socket:
        for number in range(40):
            await socket.send(order(customer(), quantity=number + 1))
        receipts = [json.loads(await socket.recv()) for _ in range(40)]
    offsets = [receipt["offset"] for receipt in receipts]
    assert sorted(offsets) == offsets
    assert {frozenset({"topic", "partition", "offset", "timestamp"})} == {frozenset(receipt) for receipt in receipts}


@pytest.mark.parametrize("path", ["/orders", "/stock", "/quotes"])
async def test_a_bad_frame_is_answered_by_its_problem_object_and_the_socket_stays_open(shop: Shop, path: str) -> None:
    async with connect(f"{shop.live}{path}") as socket:
        for frame in ("{", '{"sku": 7}', '{"nonsense": true}', "[]", "NaN"):
            await socket.send(frame)
            problem = json.loads(await socket.recv())
            assert PROBLEM <= problem.keys(), problem
            assert (400, "malformed", False, "failed") == tuple(
                problem[name] for name in ("status", "reason", "retryable", "outcome")
            )
        await socket.send(order(customer()) if path == "/orders" else json.dumps({"sku": "tea", **QUANTITY.get(path, {})}))
        good = json.loads(await socket.recv())
        assert "reason" not in good


QUANTITY = {"/quotes": {"quantity": 2}}


async def test_a_bad_frame_between_good_ones_is_answered_in_its_place(shop: Shop) -> None:
    async with connect(f"{shop.live}/stock") as socket:
        for frame in ('{"sku": "a"}', "oops", '{"sku": "b"}'):
            await socket.send(frame)
        answers = [json.loads(await socket.recv()) for _ in range(3)]
    assert ["a", None, "b"] == [answer.get("sku") for answer in answers]
    assert "malformed" == answers[1]["reason"]


async def test_records_are_the_same_whatever_the_wire(shop: Shop) -> None:
    who = customer()
    async with connect(f"{shop.live}/feed") as feed, connect(f"{shop.live}/orders") as socket, rpc(shop.rpc) as client:
        await curl(f"{shop.rest}/orders/{who}", "--json", '{"sku": "tea", "quantity": 2}')
        binary = message("shop.v1.PlaceOrder", customer=who, sku="tea", quantity=2).SerializeToString()
        # The path says who, and nothing else may say it again.
        unnamed = message("shop.v1.PlaceOrder", sku="tea", quantity=2).SerializeToString()
        await curl(f"{shop.rest}/orders/{who}", "-H", "Content-Type: application/x-protobuf", data=unnamed)
        await client.call("shop.v1.Orders/Place", customer=who, sku="tea", quantity=2)
        await socket.send(order(who))
        await socket.recv()
        await socket.send(binary)
        await socket.recv()
        events: list[dict[str, object]] = []
        while len(events) < 5:
            event = json.loads(await feed.recv())
            if event["key"] == who:
                events.append(event)
    assert [{"customer": who, "sku": "tea", "quantity": 2}] * 5 == [event["body"] for event in events]


BAD_ORDERS = [
    "",
    "{",
    "[]",
    "null",
    '"tea"',
    "{}",
    '{"sku": "tea"}',
    '{"quantity": 2}',
    '{"sku": "tea", "quantity": 2, "colour": "mauve"}',
    '{"sku": "tea", "quantity": 2.5}',
    '{"sku": "tea", "quantity": "two"}',
    '{"sku": "tea", "quantity": 3000000000}',
    '{"sku": ["tea"], "quantity": 2}',
    '{"sku": "tea", "quantity": 2, "quantity": 3}',
    '{"sku": "tea", "quantity": 2} {}',
    '{"sku": "tea", "quantity": 2, "customer": "bob"}',
]


@pytest.mark.parametrize("body", BAD_ORDERS)
async def test_any_other_order_is_400_with_a_problem_that_echoes_no_value(shop: Shop, body: str) -> None:
    answer = await curl(f"{shop.rest}/orders/ada", "-H", "Content-Type: application/json", data=body.encode())
    assert (400, "application/problem+json", "malformed") == (answer.status, answer.type, answer.json["reason"])
    assert answer.headers["x-request-id"] == answer.json["id"]
    assert b"mauve" not in answer.body


async def test_an_order_without_its_fields_is_invalid_argument_over_grpc(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        assert (grpc.StatusCode.INVALID_ARGUMENT, "malformed") == await client.refusal("shop.v1.Orders/Place", sku="tea")


@pytest.mark.parametrize("method", ["shop.v1.Orders/Place", "shop.v1.Stock/Get", "shop.v1.Quotes/Ask"])
async def test_a_message_of_no_bytes_lacks_what_is_required(shop: Shop, method: str) -> None:
    async with rpc(shop.rpc) as client:
        assert (grpc.StatusCode.INVALID_ARGUMENT, "malformed") == await client.refusal(method)


async def test_an_order_in_protobuf_has_its_customer_from_the_path_and_must_have_the_rest(shop: Shop) -> None:
    async def placed(**fields: object) -> tuple[int, object]:
        binary = message("shop.v1.PlaceOrder", **fields).SerializeToString()
        answer = await curl(f"{shop.rest}/orders/ada", "-H", "Content-Type: application/x-protobuf", data=binary)
        return answer.status, answer.json["detail"] if answer.status == 400 else None

    assert (201, None) == await placed(sku="tea", quantity=2)
    assert (400, "quantity is required") == await placed(sku="tea")
    assert (400, "sku is required") == await placed()


async def test_stock_is_42_on_every_wire(shop: Shop) -> None:
    expected = {"sku": "tea", "quantity": 42}
    answer = await curl(f"{shop.rest}/stock/tea")
    assert (200, "application/json", expected) == (answer.status, answer.type, answer.json)
    async with rpc(shop.rpc) as client, connect(f"{shop.live}/stock") as socket:
        assert expected == plain(await client.call("shop.v1.Stock/Get", sku="tea"))
        await socket.send('{"sku": "tea"}')
        assert expected == json.loads(await socket.recv())


async def test_a_quote_is_asked_over_topics_and_answered_on_every_wire(shop: Shop) -> None:
    expected = {"sku": "tea", "quantity": 2, "price": 9.5}
    answer = await curl(f"{shop.rest}/quotes", "--json", '{"sku": "tea", "quantity": 2}')
    assert (200, expected) == (answer.status, answer.json)
    async with rpc(shop.rpc) as client, connect(f"{shop.live}/quotes") as socket:
        assert expected == plain(await client.call("shop.v1.Quotes/Ask", sku="tea", quantity=2))
        await socket.send('{"sku": "tea", "quantity": 2}')
        assert expected == json.loads(await socket.recv())


async def test_quotes_asked_at_once_get_their_own_answers(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        asked = [client.call("shop.v1.Quotes/Ask", sku=f"tea-{number}", quantity=number) for number in range(1, 31)]
        answers = await asyncio.gather(*asked)
    assert [(f"tea-{number}", number) for number in range(1, 31)] == [(answer.sku, answer.quantity) for answer in answers]


async def test_chat_sends_every_line_back_over_grpc_before_the_next_is_said(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        talk = client.method("shop.v1.Chat/Talk")()
        heard = []
        for text in ("hello", "", "你好"):
            await talk.write(message("shop.v1.Line", text=text))
            heard.append((await talk.read()).text)
        await talk.done_writing()
        assert ["hello", "", "你好"] == heard
        assert grpc.aio.EOF is await talk.read()
        assert grpc.StatusCode.OK is await talk.code()


async def test_chat_sends_every_line_back_over_a_websocket(shop: Shop) -> None:
    async with connect(f"{shop.live}/chat") as socket:
        for text in ("hello", "你好"):
            await socket.send(json.dumps({"text": text}))
            assert {"text": text} == json.loads(await socket.recv())
        line = message("shop.v1.Line", text="binary").SerializeToString()
        await socket.send(line)
        assert line == await socket.recv()
    assert 1000 == socket.close_code


async def test_head_and_options_are_answered(shop: Shop) -> None:
    head = await curl(f"{shop.rest}/stock/tea", "--head")
    assert (200, b"", "application/json") == (head.status, head.body, head.type)
    options = await curl(f"{shop.rest}/orders", "-X", "OPTIONS")
    assert (204, {"GET", "HEAD", "OPTIONS"}) == (options.status, set(options.headers["allow"].split(", ")))


async def test_what_has_no_route_is_404_405_and_501(shop: Shop) -> None:
    answer = await curl(f"{shop.rest}/nowhere/secret-name")
    assert (404, "not_found") == (answer.status, answer.json["reason"])
    assert b"secret-name" not in answer.body
    answer = await curl(f"{shop.rest}/stock/tea", "-X", "DELETE")
    assert (405, {"GET", "HEAD", "OPTIONS"}) == (answer.status, set(answer.headers["allow"].split(", ")))
    assert 501 == (await curl(f"{shop.rest}/stock/tea", "-X", "BREW")).status


async def test_a_type_that_is_not_served_is_415_or_406(shop: Shop) -> None:
    xml = ("-H", "Content-Type: application/xml")
    answer = await curl(f"{shop.rest}/orders/ada", *xml, data=b"<order/>")
    assert (415, "unsupported") == (answer.status, answer.json["reason"])
    assert "application/json" in answer.headers["accept"]
    answer = await curl(f"{shop.rest}/stock/tea", "-H", "Accept: image/png")
    assert (406, "unacceptable") == (answer.status, answer.json["reason"])
    assert 406 == (await curl(f"{shop.rest}/orders", "-H", "Accept: image/png")).status


async def test_a_method_without_a_route_is_unimplemented(shop: Shop) -> None:
    async with rpc(shop.rpc) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.raw("/shop.v1.Orders/Cancel")(b"")
    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()


async def test_a_reply_comes_in_protobuf_where_the_caller_accepts_that(shop: Shop) -> None:
    answer = await curl(f"{shop.rest}/stock/tea", "-H", "Accept: application/x-protobuf")
    assert "application/x-protobuf" == answer.type
    assert message("shop.v1.StockLevel", sku="tea", quantity=42).SerializeToString() == answer.body
