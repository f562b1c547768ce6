"""A backend that is called over a wire hurts its own routes alone."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

import pytest

from gateway.errors import BackendError, Reason
from gateway.exchange import Call, Memory, new_id
from gateway.exposition import metrics
from gateway.message import Message
from gateway.peer import PeerConfig
from gateway.target import Target, TargetConfig


class Server:
    """A backend whose answers the test decides."""

    def __init__(self):
        self.error = None
        self.release = asyncio.Event()
        self.release.set()
        self.entered = self.left = False

    async def __aenter__(self):
        self.entered = True
        return self

    async def __aexit__(self, *error):
        self.left = True

    async def check(self):
        if self.error is not None:
            raise self.error

    def handler(self, target):
        async def run(exchange):
            await self.release.wait()
            if self.error is not None:
                raise self.error
            await exchange.send(Message(b"done"))

        return run


class Config(PeerConfig):
    kind: Literal["server"] = "server"
    verbs: ClassVar = {}
    most: int = 2

    def calls_at_once(self):
        return self.most

    def connecting(self):
        return Server()


TARGET = Target("r", TargetConfig.model_construct(backend="b"))


def call():
    return Memory(Message(b""), call=Call(new_id(), "rest", "GET /"))


async def test_calls_go_through_and_the_backend_is_entered_and_left():
    peer = Config().build("b")
    async with peer:
        assert peer.backend.entered
        exchange = call()
        await peer.handler(TARGET)(exchange)
        assert [b"done"] == [reply.body for reply in exchange.replies]
    assert peer.backend.left


async def test_one_call_more_than_it_may_have_in_flight_is_refused_at_once():
    async with Config().build("b") as peer:
        peer.backend.release.clear()
        handler = peer.handler(TARGET)
        async with asyncio.TaskGroup() as waiting:
            for _ in range(2):
                waiting.create_task(handler(call()))
            await asyncio.sleep(0)
            assert b'polygate_backend_in_flight{backend="b"} 2.0' in metrics()
            with pytest.raises(BackendError) as refused:
                await handler(call())
            assert Reason.OVERLOADED is refused.value.reason
            peer.backend.release.set()
        await handler(call())


async def test_the_breaker_refuses_what_the_backend_would_not_answer_until_it_is_back():
    async with Config(breaker={"failures": 2, "pause": 0.01, "max_pause": 0.02}).build("b") as peer:
        handler = peer.handler(TARGET)
        peer.backend.error = BackendError(Reason.UNREACHABLE, "away")
        for _ in range(2):
            with pytest.raises(BackendError, match="away"):
                await handler(call())
        with pytest.raises(BackendError, match="does not answer at present"):
            await handler(call())
        assert b'polygate_backend_breaker_open{backend="b"} 1.0' in metrics()
        peer.backend.error = None
        async with asyncio.timeout(10):
            await peer.breaker.closed()
        await handler(call())


async def test_its_check_is_the_backends_own():
    async with Config().build("b") as peer:
        await peer.check()
        peer.backend.error = BackendError(Reason.UNREACHABLE, "away")
        with pytest.raises(BackendError, match="away"):
            await peer.check()
