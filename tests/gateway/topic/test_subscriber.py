"""Subscribers: what one has not acknowledged it is sent again, wherever it comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import replace

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, EndOfMessages, Memory
from gateway.message import JSON, NO_HEADERS, Many, Message, Notice
from gateway.target import Target
from gateway.topic import Topics, subscriber
from gateway.topic.shelf import Shelf
from gateway.topic.subscriber import Subscribers
from gateway.topic.tail import TailTo
from tests.fake_log import FakeLog

PATIENCE_S = 10


@pytest.fixture
def log():
    return FakeLog({"t": 1, "wide": 3})


@pytest.fixture
async def state():
    async with Shelf(kept(), "state", max_bytes=1 << 20, max_age=400 * 86_400) as state:
        yield state


def kept():
    return FakeLog({}, (int(time.time() * 1000) for _ in itertools.count()))


@pytest.fixture
async def gateway(log, state):
    """One gateway's handler of the route; another one is made by calling `other`."""
    async with Topics(log) as topics:
        yield handler(topics, state)


@pytest.fixture
async def other(log, state):
    async with Topics(log) as topics:
        yield handler(topics, state)


def handler(topics, state, topic="t", start="earliest", **more):
    subscribers = {"name": "{subscriber}", **more}
    spec = TailTo(backend="b", tail=topic, start=start, on_gap="tell", subscribers=subscribers)
    return topics.handler(Target("r", spec, fields=json.loads, state=state))


class Caller(Memory):
    """A WebSocket's caller."""

    def __init__(self, name="ada", **query) -> None:
        asked = tuple({"subscriber": name, **query}.items()) if name else tuple(query.items())
        super().__init__(call=Call(f"{next(IDS)}", "websocket", "/feed", many=Many.BOTH, query=asked))
        self.more = asyncio.Event()
        self.said: asyncio.Queue[dict | None] = asyncio.Queue()

    async def accept(self, headers=NO_HEADERS):
        await super().accept(headers)
        self.more.set()

    async def send(self, message):
        await super().send(message)
        self.more.set()

    async def receive(self):
        fields = await self.said.get()
        if fields is None:
            raise EndOfMessages
        return Message(json.dumps(fields).encode(), JSON)

    async def reach(self, count):
        async with asyncio.timeout(PATIENCE_S):
            while self.headers is None or len(self.replies) < count:
                self.more.clear()
                await self.more.wait()
        return [message.body for message in self.replies]

    def ack(self, number):
        """Of the event of this number, counted from 0."""
        self.said.put_nowait({"ack": self.replies[number].cursor})


IDS = itertools.count()


def fill(log, *bodies):
    for body in bodies:
        log.put("t", Message(body))


def running(handler, caller):
    return asyncio.get_running_loop().create_task(handler(caller))


async def leave(caller, task):
    caller.said.put_nowait(None)
    async with asyncio.timeout(PATIENCE_S):
        await task


async def stored(state, cursor, name="ada"):
    async with asyncio.timeout(PATIENCE_S):
        known = await state.get(f"subscriber:r:{name}")
        while known != cursor.encode():
            known = await state.changed(f"subscriber:r:{name}", known)


async def test_what_was_not_acknowledged_is_sent_again_on_any_gateway(log, state, gateway, other):
    fill(log, b"0", b"1", b"2", b"3")
    first = Caller()
    task = running(gateway, first)
    await first.reach(4)
    first.ack(1)
    await leave(first, task)
    await stored(state, "0:2")
    second = Caller()
    task = running(other, second)
    assert [b"2", b"3"] == await second.reach(2)
    await leave(second, task)


async def test_what_comes_while_a_subscriber_is_away_is_sent_to_it_though_it_never_acknowledged(log, gateway, other, state):
    first = Caller(start="latest")
    task = running(gateway, first)
    await first.reach(0)
    await leave(first, task)
    fill(log, b"meanwhile")
    second = Caller(start="latest")
    task = running(other, second)
    assert [b"meanwhile"] == await second.reach(1)
    await leave(second, task)


async def test_each_name_has_a_place_of_its_own(log, state, gateway):
    fill(log, b"0", b"1")
    ada, bob = Caller("ada"), Caller("bob")
    tasks = [running(gateway, ada), running(gateway, bob)]
    await ada.reach(2)
    await bob.reach(2)
    ada.ack(1)
    await stored(state, "0:2")
    for caller, task in zip((ada, bob), tasks, strict=True):
        await leave(caller, task)
    bob = Caller("bob")
    task = running(gateway, bob)
    assert [b"0", b"1"] == await bob.reach(2)
    await leave(bob, task)


async def test_no_name_is_in_the_way_of_another(log, gateway):
    """What the gateway keeps of one beside its place was under the name of the other."""
    fill(log, b"0")
    callers = [Caller("ada"), Caller("ada:holder")]
    tasks = [running(gateway, caller) for caller in callers]
    for caller in callers:
        await caller.reach(1)
    for caller, task in zip(callers, tasks, strict=True):
        await leave(caller, task)


async def test_no_more_is_sent_than_may_be_unacknowledged(log, state):
    fill(log, *(b"%d" % number for number in range(10)))
    async with Topics(log) as topics:
        caller = Caller()
        task = running(handler(topics, state, unacked=3), caller)
        await caller.reach(3)
        caller.ack(1)
        assert [b"0", b"1", b"2", b"3", b"4"] == await caller.reach(5)
        caller.ack(0)  # of what is acknowledged already: nothing changes
        caller.ack(4)
        assert 8 == len(await caller.reach(8))
        await leave(caller, task)


async def test_an_acknowledgement_of_an_earlier_event_after_that_of_a_later_one_takes_nothing_back(log, state, gateway, other):
    """As where one is done with several events at once, and the last of them first."""
    fill(log, b"0", b"1", b"2", b"3")
    caller = Caller()
    task = running(gateway, caller)
    await caller.reach(4)
    caller.ack(2)
    caller.ack(0)
    await leave(caller, task)
    await stored(state, "0:3")
    second = Caller()
    task = running(other, second)
    assert [b"3"] == await second.reach(1)
    await leave(second, task)


async def test_a_subscriber_that_the_path_names_acknowledges_as_any_other(log, state, gateway):
    """The path's variables are in each of its messages."""
    fill(log, b"0", b"1")
    caller = Caller(None)
    caller.call = replace(caller.call, params={"subscriber": "ada"})
    task = running(gateway, caller)
    await caller.reach(2)
    caller.said.put_nowait({"ack": caller.replies[0].cursor, "subscriber": "ada"})
    await stored(state, "0:1")
    await leave(caller, task)


async def test_a_new_connection_takes_over_from_the_one_before(log, gateway, other):
    fill(log, b"0")
    first, second = Caller(), Caller()
    before = running(gateway, first)
    await first.reach(1)
    after = running(other, second)
    await second.reach(1)
    with pytest.raises(CallerError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await before
    assert Reason.TAKEN_OVER == caught.value.reason
    fill(log, b"1")
    assert [b"0", b"1"] == await second.reach(2)
    await leave(second, after)


@pytest.mark.parametrize("ack", ["0:7", "nonsense", 5])
async def test_an_acknowledgement_of_what_was_not_sent_here_ends_the_stream(log, gateway, ack):
    fill(log, b"0")
    caller = Caller()
    task = running(gateway, caller)
    await caller.reach(1)
    caller.said.put_nowait({"ack": ack})
    with pytest.raises(CallerError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await task
    assert Reason.MALFORMED == caught.value.reason


async def test_an_acknowledgement_before_anything_was_sent_is_refused(log, gateway):
    fill(log, b"0")
    caller = Caller("")
    caller.call = Call("1", "grpc", "/feed.v1.Feed/Mine", many=Many.BOTH)
    caller.said.put_nowait({"subscriber": "ada", "ack": "0:1"})
    with pytest.raises(CallerError) as caught:
        await gateway(caller)
    assert (Reason.MALFORMED, None) == (caught.value.reason, caller.headers)


async def test_a_gap_is_acknowledged_as_an_event_is(log, state, gateway):
    fill(log, b"0", b"1", b"2")
    first = Caller()
    task = running(gateway, first)
    await first.reach(3)
    first.ack(0)
    await stored(state, "0:1")
    await leave(first, task)
    log.drop("t", 3)
    second = Caller()
    task = running(gateway, second)
    await second.reach(1)
    assert isinstance(second.replies[0], Notice)
    second.ack(0)
    await stored(state, "0:3")
    await leave(second, task)


async def test_an_acknowledgement_waits_while_the_state_is_away(log, state, monkeypatch, caplog):
    monkeypatch.setattr(subscriber, "BACKOFF_S", (0.001, 0.002))
    fill(log, b"0", b"1")
    async with Topics(log) as topics:
        caller = Caller()
        task = running(handler(topics, state), caller)
        await caller.reach(2)
        put, tries = state.put, []

        async def away(*args):
            tries.append(args)
            if len(tries) < 3:
                raise BackendError(Reason.UNREACHABLE, "away")
            await put(*args)

        monkeypatch.setattr(state, "put", away)
        caller.ack(1)
        await stored(state, "0:2")
        assert 3 == len(tries)
        assert "waits" in caplog.text
        await leave(caller, task)


@pytest.mark.parametrize("query", [{}, {"subscriber": ""}])
async def test_a_caller_without_a_name_is_refused(gateway, query):
    with pytest.raises(CallerError) as caught:
        await gateway(Caller("", **query))
    assert Reason.MALFORMED == caught.value.reason


async def test_a_caller_that_cannot_acknowledge_is_refused(gateway):
    caller = Memory(Message(b'{"subscriber": "ada"}', JSON), call=Call("1", "rest", "GET /", many=Many.REPLIES))
    with pytest.raises(CallerError) as caught:
        await gateway(caller)
    assert Reason.NOT_IMPLEMENTED == caught.value.reason


def test_a_route_with_subscribers_needs_the_gateway_s_state():
    named = Subscribers(name="{subscriber}")
    spec = TailTo(backend="b", tail="t", on_gap="tell", subscribers=named)
    assert ({"state"}, Many.BOTH) == (spec.needs(), spec.many(None))
    assert (frozenset(), Many.REPLIES) == (TailTo(backend="b", tail="t").needs(), TailTo(backend="b", tail="t").many(None))
