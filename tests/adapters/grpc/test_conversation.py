"""One RPC as an exchange."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import CallerError, Reason
from gateway.exchange import EndOfMessages
from gateway.message import PROTOBUF, Many, Message
from gateway.status import failure
from tests.adapters.ingress.grpc_driver import PATH, GrpcDriver
from tests.contract.driver import serving
from tests.contract.ingress import future, within


@pytest.mark.parametrize("number", range(5))
async def test_a_stream_that_is_broken_off_is_not_taken_for_complete(number):
    ends = future()

    async def handler(exchange):
        try:
            while True:
                await exchange.receive()
        except EndOfMessages:
            ends.set_result("complete")
        except asyncio.CancelledError:
            ends.set_result("cancelled")
            raise

    driver = GrpcDriver()
    async with driver.listening(serving(handler, Many.REQUESTS)), driver.conversing() as talk:
        await talk.send(b"1")
        await talk.leave()
        assert await within(ends) == "cancelled"


async def test_a_stream_has_its_id_from_the_start():
    go_on = asyncio.Event()

    async def handler(exchange):
        await exchange.accept()
        await go_on.wait()

    driver = GrpcDriver()
    async with driver.listening(serving(handler, Many.REPLIES)):
        call = driver.channel.unary_stream(PATH)(b"")
        assert "x-request-id" in dict(await call.initial_metadata())
        go_on.set()
        assert [body async for body in call] == []


async def test_an_error_among_messages_ends_the_stream_with_its_status():
    async def handler(exchange):
        await exchange.send(Message(b"1", PROTOBUF))
        await exchange.send(failure(CallerError(Reason.MALFORMED, "not this one"), "id"))

    driver = GrpcDriver()
    async with driver.listening(serving(handler, Many.BOTH)):
        answer = await driver.ask()
    assert (b"1",) == answer.bodies
    assert Reason.MALFORMED.value == answer.reason


async def test_a_bidirectional_caller_may_listen_first():
    async def handler(exchange):
        try:
            async with asyncio.timeout(0.3):
                await exchange.receive()
        except TimeoutError:
            await exchange.send(Message(b"still here", PROTOBUF))

    driver = GrpcDriver(first_message_s=0.05)
    async with driver.listening(serving(handler, Many.BOTH)), driver.conversing() as talk:
        assert await talk.receive() == b"still here"
