"""The verb tail."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, EndOfMessages, Memory
from gateway.message import JSON, NO_HEADERS, Headers, Many, Message
from gateway.port import Target
from gateway.topic import Topics
from gateway.topic.opening import MAX_LIMIT, SNAPSHOT_LIMIT, Opening, opening_of
from gateway.topic.tail import TailTo
from tests.fake_log import FakeLog


@pytest.fixture
def log():
    return FakeLog({"t": 1, "t.eu": 1, "wide": 3})


@pytest.fixture
async def topics(log):
    async with Topics(log) as topics:
        yield topics


class Caller(Memory):
    """Keeps what it gets, and tells when there is enough."""

    def __init__(self, request: dict | None = None, **call) -> None:
        many = Many.REPLIES if request is not None else Many.BOTH
        requests = (Message(json.dumps(request).encode(), JSON),) if request is not None else ()
        protocol = "rest" if request is not None else "websocket"
        super().__init__(*requests, call=Call("1", protocol, "GET /", **{"many": many, **call}))
        self.more = asyncio.Event()
        self.said: asyncio.Queue[dict | None] = asyncio.Queue()

    def say(self, **fields):
        """As one message, from a caller that may send many."""
        self.said.put_nowait(fields)

    def leave(self):
        self.said.put_nowait(None)

    async def receive(self):
        if not self.call.many & Many.REQUESTS:
            return await super().receive()
        fields = await self.said.get()
        if fields is None:
            raise EndOfMessages
        return Message(json.dumps(fields).encode(), JSON)

    async def accept(self, headers=NO_HEADERS):
        await super().accept(headers)
        self.more.set()

    async def send(self, message):
        await super().send(message)
        self.more.set()

    async def reach(self, count):
        async with asyncio.timeout(10):
            while self.headers is None or len(self.replies) < count:
                self.more.clear()
                await self.more.wait()
        return [message.body for message in self.replies]


def handler(topics, topic="t", **spec):
    return topics.handler(Target("r", TailTo(backend="b", tail=topic, **spec), fields=json.loads))


def fill(log, count, topic="t"):
    for number in range(count):
        log.put(topic, Message(b"%d" % number))


async def running(topics, caller, *args, **spec):
    """Run a tail until its caller has enough: returns the task and the caller."""
    return asyncio.get_running_loop().create_task(handler(topics, *args, **spec)(caller))


async def left(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_a_tail_starts_at_the_end_unless_told(log, topics):
    fill(log, 3)
    caller = Caller({})
    task = await running(topics, caller)
    assert [] == await caller.reach(0)
    log.put("t", Message(b"new"))
    assert [b"new"] == await caller.reach(1)
    await left(task)


async def test_the_target_may_start_at_earliest(log, topics):
    fill(log, 3)
    caller = Caller({"limit": 3})
    await handler(topics, start="earliest")(caller)
    assert [b"0", b"1", b"2"] == [message.body for message in caller.replies]


async def test_a_message_has_the_record_s_key_headers_and_time_and_the_cursor_after_it(log, topics):
    place = log.put("t", Message(b"{}", key=b"k", headers=Headers((("a", "b"),))))
    caller = Caller({"start": "earliest", "limit": 1})
    await handler(topics)(caller)
    assert [Message(b"{}", JSON, b"k", Headers((("a", "b"),)), "0:1", place.timestamp)] == caller.replies


async def test_a_cursor_means_after_this_one(log, topics):
    fill(log, 5)
    first = Caller({"start": "earliest", "limit": 2})
    await handler(topics)(first)
    second = Caller({"start": first.replies[-1].cursor, "limit": 3})
    await handler(topics)(second)
    assert [b"2", b"3", b"4"] == [message.body for message in second.replies]


async def test_a_cursor_knows_every_partition(log, topics):
    for number in range(30):
        log.put("wide", Message(b"%d" % number, key=b"%d" % number))
    first = Caller({"start": "earliest", "limit": 11})
    await handler(topics, "wide")(first)
    second = Caller({"start": first.replies[-1].cursor, "limit": 19})
    await handler(topics, "wide")(second)
    assert {b"%d" % number for number in range(30)} == {message.body for message in (*first.replies, *second.replies)}


async def test_last_event_id_wins_over_start(log, topics):
    fill(log, 3)
    caller = Caller({"start": "earliest", "limit": 1}, headers=Headers((("last-event-id", "0:2"),)))
    await handler(topics)(caller)
    assert [b"2"] == [message.body for message in caller.replies]


async def test_a_caller_that_may_send_many_asks_in_its_url_and_need_not_speak(log, topics):
    fill(log, 3)
    caller = Caller(query=(("start", "earliest"), ("limit", "2")))
    await handler(topics)(caller)
    assert [b"0", b"1"] == [message.body for message in caller.replies]


@pytest.mark.parametrize("query", [(("startt", "x"),), (("limit", "1"), ("limit", "2"))])
async def test_what_such_a_url_does_not_take_is_refused(topics, query):
    with pytest.raises(CallerError) as caught:
        await handler(topics)(Caller(query=query))
    assert Reason.MALFORMED == caught.value.reason


async def test_a_caller_that_sends_nothing_asks_for_nothing(log, topics):
    class Silent(Caller):
        async def receive(self):
            raise EndOfMessages

    caller = Silent(many=Many.REPLIES)
    task = await running(topics, caller)
    await caller.reach(0)
    fill(log, 1)
    assert [b"0"] == await caller.reach(1)
    await left(task)


async def test_an_empty_request_asks_for_nothing(log, topics):
    caller = Memory(Message(b"", JSON), call=Call("1", "grpc", "", many=Many.REPLIES, snapshot=True))
    fill(log, 1)
    await handler(topics)(caller)
    assert [b"0"] == [message.body for message in caller.replies]


async def test_the_topic_may_come_from_the_path_or_the_request(log, topics):
    fill(log, 1, "t.eu")
    by_path = Caller({"start": "earliest", "limit": 1}, params={"region": "eu"})
    await handler(topics, "t.{region}")(by_path)
    by_field = Caller({"start": "earliest", "limit": 1, "region": "eu"})
    await handler(topics, "t.{region}")(by_field)
    assert [b"0"] == [message.body for message in by_path.replies] == [message.body for message in by_field.replies]


async def test_a_snapshot_runs_from_earliest_to_the_end_as_it_stood(log, topics):
    fill(log, 3)

    class Meanwhile(Caller):
        async def accept(self, headers=NO_HEADERS):
            await super().accept(headers)
            fill(log, 2)

    caller = Meanwhile({}, snapshot=True)
    await handler(topics)(caller)
    assert [b"0", b"1", b"2"] == [message.body for message in caller.replies]


async def test_a_snapshot_of_an_empty_topic_is_empty(topics):
    caller = Caller({}, snapshot=True)
    await handler(topics)(caller)
    assert [] == caller.replies
    assert NO_HEADERS == caller.headers


async def test_a_snapshot_ends_where_the_last_offset_holds_no_record(log, topics):
    follower = Caller({})
    task = await running(topics, follower)
    await follower.reach(0)
    fill(log, 2)
    await follower.reach(2)
    log.mark("t")
    caller = Caller({}, snapshot=True)
    async with asyncio.timeout(10):
        await handler(topics)(caller)
    assert [b"0", b"1"] == [message.body for message in caller.replies]
    await left(task)


async def test_a_snapshot_stops_in_the_middle_of_what_the_feed_holds(log, topics):
    follower = Caller({})
    task = await running(topics, follower)
    await follower.reach(0)
    fill(log, 2)
    await follower.reach(2)
    ends = log.ends

    async def earlier(topic):
        log.ends = ends
        at = await ends(topic)
        fill(log, 2)
        await follower.reach(4)
        return at

    log.ends = earlier
    caller = Caller({"start": "0:0"}, snapshot=True)
    log.ends = ends
    # The end is asked for after the place; records come in between.
    starts = log.starts

    async def then(topic):
        log.ends = earlier
        return await starts(topic)

    log.starts = then
    caller = Caller({}, snapshot=True)
    await handler(topics)(caller)
    assert [b"0", b"1"] == [message.body for message in caller.replies]
    await left(task)


@pytest.mark.parametrize("cursor", ["1:0", "0:4", f"0:{10**19 - 1}", "nonsense", "0"])
async def test_a_cursor_that_is_none_of_this_topic_is_refused(log, topics, cursor):
    fill(log, 3)
    caller = Caller({"start": cursor})
    with pytest.raises(CallerError) as caught:
        await handler(topics)(caller)
    assert Reason.MALFORMED == caught.value.reason
    assert ["/start"] == [detail.pointer for detail in caught.value.details]
    assert caller.headers is None


async def test_a_cursor_that_retention_has_overtaken_is_refused(log, topics):
    fill(log, 5)
    log.drop("t", 3)
    caller = Caller({"start": "0:2"})
    with pytest.raises(CallerError) as caught:
        await handler(topics)(caller)
    assert Reason.INVALID == caught.value.reason
    assert caller.headers is None


async def test_an_unknown_topic_is_refused_before_anything_is_accepted(topics):
    caller = Caller({})
    with pytest.raises(BackendError) as caught:
        await handler(topics, "absent")(caller)
    assert Reason.REFUSED == caught.value.reason
    assert caller.headers is None


@pytest.mark.parametrize(
    ("fields", "opening"),
    [
        ({}, Opening("latest", None)),
        ({"start": "", "limit": 0}, Opening("latest", None)),
        ({"start": None, "limit": None}, Opening("latest", None)),
        ({"start": "earliest", "limit": 5}, Opening("earliest", 5)),
        ({"limit": "5"}, Opening("latest", 5)),
        ({"limit": "0"}, Opening("latest", None)),
        ({"limit": MAX_LIMIT}, Opening("latest", MAX_LIMIT)),
    ],
)
def test_what_a_caller_asks_for_is_read(fields, opening):
    assert opening == opening_of(fields, "latest", snapshot=False)


def test_a_snapshot_starts_at_earliest_and_is_bounded_unless_told():
    assert Opening("earliest", SNAPSHOT_LIMIT) == opening_of({}, "latest", snapshot=True)
    assert Opening("latest", 5) == opening_of({"start": "latest", "limit": 5}, "latest", snapshot=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 1},
        {"start": ["earliest"]},
        *({"limit": limit} for limit in ("-1", "1.5", "x", "\u0665", "9" * 19, "9" * 5000, -1, 1.5, True, [1], 2**63)),
    ],
)
def test_what_cannot_be_asked_for_is_refused(fields):
    with pytest.raises(CallerError) as caught:
        opening_of(fields, "latest", snapshot=False)
    assert Reason.MALFORMED == caught.value.reason
    assert [f"/{name}" for name in fields] == [detail.pointer for detail in caught.value.details]


def test_its_template_is_told_for_checking():
    assert ("t.{x}",) == TailTo(backend="b", tail="t.{x}").templates()
    assert TailTo.streams is Many.REPLIES


async def test_only_what_the_filter_shows_is_sent_and_the_cursor_goes_on(topics, log):
    for number in range(10):
        log.put("t", Message(json.dumps({"n": number}).encode()))
    caller = Caller({"start": "earliest", "limit": 3})
    await handler(topics, filter="body.n % 3 == 0")(caller)
    assert [0, 3, 6] == [json.loads(message.body)["n"] for message in caller.replies]
    assert ["0:1", "0:4", "0:7"] == [message.cursor for message in caller.replies]


async def test_a_snapshot_ends_though_nothing_is_shown(topics, log):
    fill(log, 10)
    caller = Caller({}, snapshot=True)
    await handler(topics, filter="false")(caller)
    assert [] == caller.replies


async def test_a_caller_without_a_request_may_say_in_its_url_what_the_filter_asks_for(topics, log):
    log.put("t", Message(b'{"tenant": "a"}'))
    log.put("t", Message(b'{"tenant": "b"}'))
    caller = Caller(query=(("start", "earliest"), ("limit", "1"), ("tenant", "b")))
    await handler(topics, filter="body.tenant == query.tenant")(caller)
    assert [b'{"tenant": "b"}'] == [message.body for message in caller.replies]
    with pytest.raises(CallerError, match="the query takes tenant and start and limit and credit, once each"):
        await handler(topics, filter="body.tenant == query.tenant")(Caller(query=(("nope", "b"),)))


def test_a_filter_that_cannot_work_is_refused_when_loading():
    (refusal,) = TailTo(backend="b", tail="t", filter="body.").refusals(None)
    assert refusal.startswith("filter: 'body.': column 6")
    assert () == TailTo(backend="b", tail="t", filter="body.n > 1").refusals(None)
