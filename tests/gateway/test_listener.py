"""What the config of a listener says unless it says otherwise, and what a listener sees."""

from __future__ import annotations

import asyncio

from gateway.breaker import Breaker, BreakerConfig
from gateway.listener import ListenerConfig, View
from gateway.message import Many
from gateway.task import Tasks


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
