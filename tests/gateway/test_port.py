"""What a config model says of itself unless it says otherwise."""

from __future__ import annotations

import asyncio

from gateway.breaker import Breaker, BreakerConfig
from gateway.codec import Contract
from gateway.message import Many
from gateway.port import ListenerConfig, TargetConfig, View
from gateway.task import Tasks


def test_a_target_that_calls_streams_as_its_contract_says_and_another_as_its_verb():
    class Call(TargetConfig):
        verb = "call"

    class Feed(TargetConfig):
        verb = "tail"
        streams = Many.REPLIES

    contract = Contract("t.S/M", None, None, Many.BOTH)
    assert Many.BOTH == Call(backend="b").many(contract)
    assert Many.NEITHER == Call(backend="b").many(None)
    assert Many.REPLIES == Feed(backend="b").many(contract)


def test_a_listener_takes_a_path_and_messages_of_any_size_unless_it_says_otherwise():
    class Wire(ListenerConfig):
        def build(self, name, view):
            raise NotImplementedError

    assert ("", "/feed") == Wire.pattern("/feed")
    assert Many.NEITHER == Wire.shape(None)
    assert Wire(kind="wire").limit() is None


async def test_a_view_knows_the_breakers_of_the_backends_that_have_one():
    class Guarded:
        breaker = Breaker("stock", BreakerConfig(), lambda: asyncio.sleep(0), Tasks())

    view = View(lambda *_: None, backends={"stock": Guarded(), "events": object()})
    assert Guarded.breaker is view.breaker("stock")
    assert view.breaker("events") is view.breaker("nobody") is None
