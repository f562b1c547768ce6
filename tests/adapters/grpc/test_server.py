"""A server that listens on whatever a caller sends."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from gateway.message import PROTOBUF, Message
from tests.adapters.ingress.grpc_driver import PATH, GrpcDriver
from tests.contract.driver import serving
from tests.contract.ingress import future, within
from tests.http2 import connected, data, request


@pytest.mark.slow
async def test_a_path_that_is_not_utf_8_stops_neither_the_listener_nor_what_runs(caplog):
    started, go_on = future(), asyncio.Event()

    async def handler(exchange):
        body = (await exchange.receive()).body
        if body == b"wait":
            started.set_result(None)
            await go_on.wait()
        await exchange.send(Message(b"ok", PROTOBUF))

    driver = GrpcDriver()
    async with driver.listening(serving(handler)) as address, asyncio.TaskGroup() as group:
        waiting = group.create_task(driver.ask(b"wait"))
        await within(started)
        for _ in range(3):
            async with connected(address) as peer:
                await peer.say(request(b"/a\xff/b"), data(b"", end=True))
                await peer.hear()
            async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                assert await channel.unary_unary(PATH)(b"", wait_for_ready=True, timeout=10) == b"ok"
        go_on.set()
    assert (b"ok",) == waiting.result().bodies
