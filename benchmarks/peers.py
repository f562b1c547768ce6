"""The bare libraries by hand: what a good engineer would write without a gateway. `python -m benchmarks.peers NAME PORT`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.log import access_logger

STREAMED = 1000
PROTOS = Path(__file__).parents[1] / "protos" / "shop.binpb"


async def _http(app: web.Application, port: int, log: logging.Logger | None = None) -> None:
    runner = web.AppRunner(app, access_log=log)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def rest_logged(port: int) -> None:
    """The same with the library's own access log, as `web.run_app` has it and as we have ours."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    await rest(port, access_logger)


async def rest(port: int, log: logging.Logger | None = None) -> None:
    """One aiohttp route that answers JSON."""

    async def stock(request: web.Request) -> web.Response:
        return web.json_response({"sku": request.match_info["sku"], "quantity": 42})

    app = web.Application()
    app.router.add_get("/stock/{sku}", stock)
    await _http(app, port, log)


async def kafka(port: int) -> None:
    """An order over aiohttp and aiokafka: it is checked, sent with its key, and its receipt answered."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP"], acks="all", enable_idempotence=True)
    await producer.start()

    async def place(request: web.Request) -> web.Response:
        try:
            order = json.loads(await request.read())
            customer, sku, quantity = request.match_info["customer"], str(order["sku"]), int(order["quantity"])
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": "malformed"}, status=400)
        body = json.dumps({"customer": customer, "sku": sku, "quantity": quantity}).encode()
        sent = await producer.send_and_wait("orders.placed", body, key=customer.encode())
        at = datetime.fromtimestamp(sent.timestamp / 1000, UTC).isoformat()
        receipt = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset, "timestamp": at}
        return web.json_response(receipt, status=201)

    app = web.Application()
    app.router.add_post("/orders/{customer}", place)
    await _http(app, port)


async def grpc(port: int) -> None:
    """One grpc.aio unary method with its generated types."""
    import grpc.aio

    get, level = shop_type("GetStock"), shop_type("StockLevel")

    async def stock(request: object, _context: object) -> object:
        return level(sku=request.sku, quantity=42)  # type: ignore[attr-defined]

    handler = grpc.unary_unary_rpc_method_handler(
        stock, request_deserializer=get.FromString, response_serializer=level.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Stock", {"Get": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(PROTOS.read_bytes()).file:
        pool.Add(file)
    return pool


def shop_type(name: str) -> Any:
    """A generated type of the shop's contract."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"shop.v1.{name}"))


async def backend(port: int) -> None:
    """The gRPC server behind those that translate: it answers bytes that were made before."""
    import grpc.aio

    # bench.v1.Item: id "item-00042", quantity 7, price 9.5, in_stock; and shop.v1.Quote: sku "tea", quantity 2, price 9.5.
    item = b"\x0a\x0aitem-00042\x10\x07\x19\0\0\0\0\0\0\x23\x40\x20\x01"
    quote = b"\x0a\x03tea\x10\x02\x19\0\0\0\0\0\0\x23\x40"

    async def ask(_request: bytes, _context: object) -> bytes:
        return quote

    async def list_items(_request: bytes, context: Any) -> None:
        for _ in range(STREAMED):
            await context.write(item)

    server = grpc.aio.server()
    ask_handler: Any = grpc.unary_unary_rpc_method_handler(ask)
    list_handler: Any = grpc.unary_stream_rpc_method_handler(list_items)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("shop.v1.Quotes", {"Ask": ask_handler}),
            grpc.method_handlers_generic_handler("bench.v1.Items", {"List": list_handler}),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


async def rest_to_grpc(port: int) -> None:
    """Aiohttp in front of that server, translating by protobuf's own json_format: one answer, and a stream as NDJSON."""
    import grpc.aio
    from google.protobuf import json_format

    ask, quote, item = shop_type("AskQuote"), shop_type("Quote"), shop_type("Quote")
    channel = grpc.aio.insecure_channel(os.environ["BENCH_PEER"])
    asked = channel.unary_unary(
        "/shop.v1.Quotes/Ask", request_serializer=ask.SerializeToString, response_deserializer=quote.FromString
    )
    listed: Any = channel.unary_stream("/bench.v1.Items/List", response_deserializer=item.FromString)

    async def quotes(request: web.Request) -> web.Response:
        try:
            message = json_format.Parse(await request.read(), ask())
        except json_format.ParseError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.Response(text=json_format.MessageToJson(await asked(message), indent=None), content_type="application/json")

    async def items(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        async for message in listed(b""):
            await response.write(json_format.MessageToJson(message, indent=None).encode() + b"\n")
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post("/quotes", quotes)
    app.router.add_get("/items", items)
    await _http(app, port)


async def websocket(port: int) -> None:
    """One websockets handler that sends every frame back."""
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for frame in connection:
            await connection.send(frame)

    async with serve(echo, "127.0.0.1", port, compression=None):
        await asyncio.Event().wait()


PEERS: dict[str, Callable[[int], Awaitable[None]]] = {
    "rest": rest,
    "rest-logged": rest_logged,
    "kafka": kafka,
    "grpc": grpc,
    "websocket": websocket,
    "backend": backend,
    "rest-to-grpc": rest_to_grpc,
}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(PEERS[sys.argv[1]](int(sys.argv[2])))  # type: ignore[arg-type]
