"""How one caller is sent the events of a topic. What a route's callers see of it is proved in test_tail."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from gateway.exchange import Memory
from gateway.message import JSON, Message
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from gateway.topic.pouring import Events, Pouring, Terms, Wanted
from gateway.topic.ring import Lag
from tests.fake_log import FakeLog

TERMS = Terms("r", Events(JSON), tells=False, slow="wait", behind=Lag(10, 1 << 60, inf))


@pytest.fixture
def log():
    return FakeLog({"t": 1})


class Halting(Memory):
    """Takes one message, and no second one."""

    async def send(self, message):
        if self.replies:
            await asyncio.Event().wait()
        await super().send(message)


async def test_where_it_is_gone_on_with_is_after_the_last_event_that_was_sent_whole(log):
    async with Feeds(log) as feeds, feeds.following("t") as feed:
        pouring = Pouring(Halting(), Follower(feed, {0: 0}), TERMS, Wanted(None, None, None))
        assert "0:0" == pouring.cursor
        task = asyncio.get_running_loop().create_task(pouring.run())
        await asyncio.sleep(0)
        for number in range(3):
            log.put("t", Message(b"%d" % number))
        await until(lambda: pouring.cursor == "0:1")
        await until(lambda: pouring.lag() is not None and pouring.lag().records == 2)
        assert 2 == pouring.lag().bytes
        task.cancel()
        await asyncio.wait([task])
        assert "0:1" == pouring.cursor


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  what it waits for has no event
            await asyncio.sleep(0.001)


async def test_one_that_has_not_been_at_the_live_end_has_no_lag(log):
    for number in range(3):
        log.put("t", Message(b"%d" % number))
    async with Feeds(log) as feeds, feeds.following("t") as feed:
        pouring = Pouring(Halting(), Follower(feed, {0: 0}), TERMS, Wanted(None, None, None))
        task = asyncio.get_running_loop().create_task(pouring.run())
        await until(lambda: pouring.cursor == "0:1")
        assert pouring.lag() is None
        task.cancel()
        await asyncio.wait([task])


async def test_callers_at_one_place_are_sent_one_message_and_others_their_own(log):
    log.put("t", Message(b"x"))
    (record,) = log.topics["t"][0]
    events = Events(JSON)
    shared = events("0:0,1:0", record, {0: 1, 1: 0})
    assert shared is events("0:0,1:0", record, {0: 1, 1: 0})
    assert ("0:1,1:0", "0:1,1:7") == (shared.cursor, events("0:0,1:7", record, {0: 1, 1: 7}).cursor)
    log.remake("t")
    log.put("t", Message(b"y"))
    (other,) = log.topics["t"][0]
    assert b"y" == events("0:0,1:0", other, {0: 1, 1: 0}).body
