"""The verb tail."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from gateway.errors import BackendError, CallerError, Reason, Resume
from gateway.exchange import Call, EndOfMessages, Memory
from gateway.message import JSON, NO_HEADERS, Headers, Many, Message, Notice
from gateway.target import Target
from gateway.topic import Topics, ring, slow
from gateway.topic.event import EVENT
from gateway.topic.gap import SKIPPED
from gateway.topic.log import rfc3339
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
        told = {"id": "1", "protocol": protocol, "target": "GET /", "many": many, **call}
        super().__init__(*requests, call=Call(**told))
        self.more = asyncio.Event()
        self.said: asyncio.Queue[dict | None] = asyncio.Queue()

    def say(self, **fields):
        """As one message, from a caller that may send many."""
        self.said.put_nowait(fields)

    def leave(self):
        self.said.put_nowait(None)

    async def receive(self):
        if self.call.protocol == "rest":
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
    assert Headers(((":cursor", "0:0"),)) == caller.headers


async def test_where_a_caller_starts_is_known_before_there_is_an_event(log, topics):
    """Who is let go of and was sent nothing would else pass over what comes until it is back."""
    fill(log, 3)
    caller = Caller({})
    task = asyncio.get_running_loop().create_task(handler(topics)(caller))
    async with asyncio.timeout(10):
        while caller.headers is None:  # noqa: ASYNC110  a turn each is what is waited for
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert Headers(((":cursor", "0:3"),)) == caller.headers


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


# Gaps


def gap(message):
    assert isinstance(message, Notice)
    assert "gap" == message.name
    told = json.loads(message.body)
    assert told["to"] == message.cursor
    return told["from"], told["to"], told["reason"], told["records"]


def bodies(caller):
    return [message.body for message in caller.replies if not isinstance(message, Notice)]


async def test_a_cursor_that_retention_has_overtaken_is_told_as_a_gap_where_the_route_says_so(log, topics):
    fill(log, 5)
    log.drop("t", 3)
    caller = Caller({"start": "0:1", "limit": 2})
    await handler(topics, on_gap="tell")(caller)
    assert ("0:1", "0:3", "retention", 2) == gap(caller.replies[0])
    assert [b"3", b"4"] == bodies(caller)


async def test_a_cursor_at_the_first_record_still_held_has_no_gap(log, topics):
    fill(log, 5)
    log.drop("t", 3)
    caller = Caller({"start": "0:3", "limit": 2})
    await handler(topics, on_gap="tell")(caller)
    assert [b"3", b"4"] == [message.body for message in caller.replies]


async def test_a_snapshot_tells_a_gap_too(log, topics):
    fill(log, 5)
    log.drop("t", 3)
    caller = Caller({"start": "0:1"}, snapshot=True)
    await handler(topics, on_gap="tell")(caller)
    assert ("0:1", "0:3", "retention", 2) == gap(caller.replies[0])
    assert [b"3", b"4"] == bodies(caller)


class Stuck(Caller):
    """Takes a few messages, and the next ones only once it is told to."""

    def __init__(self, *args, takes, **call):
        super().__init__(*args, **call)
        self.takes = takes
        self.goes_on = asyncio.Event()
        self.stuck = asyncio.Event()

    async def send(self, message):
        if len(self.replies) >= self.takes:
            self.stuck.set()
            await self.goes_on.wait()
        await super().send(message)


@pytest.fixture
def small(monkeypatch):
    """Slices of four records, of which the gateway holds sixteen in memory."""
    monkeypatch.setattr(ring, "BATCH", 4)
    monkeypatch.setattr(ring, "RING_RECORDS", 16)


async def behind(log, topics, more, *, keys=False, takes=2, caller=None, fills=4, **spec):
    """A caller that took two records live and then no more while `more` came, and that now takes them again."""
    caller = caller or Stuck({}, takes=takes)
    task = await running(topics, caller, **spec)
    quick = Caller({})
    other = await running(topics, quick, slow="wait")
    await asyncio.gather(caller.reach(0), quick.reach(0))
    fill(log, fills)
    async with asyncio.timeout(10):
        await caller.stuck.wait()
    for number in range(fills, fills + more):
        log.put("t", Message(b"%d" % number, key=b"%d" % (number % 3) if keys else None))
        await quick.reach(number + 1)
    caller.goes_on.set()
    return caller, task, other


async def test_retention_that_overtakes_a_caller_while_it_is_sent_events_is_told_as_a_gap(log, topics, small):
    caller = Stuck({}, takes=2)
    task = await running(topics, caller, on_gap="tell")
    quick = Caller({})
    other = await running(topics, quick)
    await asyncio.gather(caller.reach(0), quick.reach(0))
    fill(log, 4)
    async with asyncio.timeout(10):
        await caller.stuck.wait()
    for number in range(4, 40):
        log.put("t", Message(b"%d" % number))
        await quick.reach(number + 1)
    log.drop("t", 30)
    caller.goes_on.set()
    await caller.reach(4 + 1 + 10)
    told = [message for message in caller.replies if isinstance(message, Notice)]
    assert [("0:4", "0:30", "retention", 26)] == [gap(one) for one in told]
    assert [b"%d" % number for number in (*range(4), *range(30, 40))] == bodies(caller)
    await left(task)
    await left(other)


async def test_retention_that_overtakes_a_caller_ends_its_stream_where_gaps_are_refused(log, topics, small):
    caller, task, other = await behind(log, topics, 0)
    for number in range(4, 40):
        log.put("t", Message(b"%d" % number))
    await caller.reach(40)
    await left(task)
    await left(other)
    late = Stuck({"start": "0:0"}, takes=1)
    task = await running(topics, late)
    async with asyncio.timeout(10):
        await late.stuck.wait()
    for number in range(40, 700):
        log.put("t", Message(b"%d" % number))
    log.drop("t", 650)
    late.goes_on.set()
    with pytest.raises(CallerError) as caught:
        await task
    assert Reason.INVALID == caught.value.reason
    last = late.replies[-1].cursor
    assert [Resume(last)] == [detail for detail in caught.value.details if isinstance(detail, Resume)]


async def test_a_record_that_cannot_be_shown_is_passed_over_and_those_behind_it_are_sent(log, topics, caplog):
    class Picky(Caller):
        async def send(self, message):
            if message.body == b"1":
                raise BackendError(Reason.BAD_ANSWER, "cannot be shown")
            await super().send(message)

    before = SKIPPED.values().get(("r", "unreadable"), 0)
    fill(log, 3)
    caller = Picky({"start": "earliest", "limit": 2})
    await handler(topics)(caller)
    assert [(b"0", "0:1"), (b"2", "0:3")] == [(message.body, message.cursor) for message in caller.replies]
    assert before + 1 == SKIPPED.values()["r", "unreadable"]
    assert "t/0/1" in caplog.text
    caller = Picky({"start": "earliest", "limit": 2})
    await handler(topics, on_gap="tell")(caller)
    assert ("0:1", "0:2", "unreadable", 1) == gap(caller.replies[1])
    assert [b"0", b"2"] == bodies(caller)


async def test_any_other_error_of_the_way_out_ends_the_stream_with_the_cursor_to_go_on_with(log, topics):
    class Broken(Caller):
        async def send(self, message):
            if len(self.replies) == 2:
                raise BackendError(Reason.UNREACHABLE, "broken")
            await super().send(message)

    fill(log, 5)
    with pytest.raises(BackendError) as caught:
        await handler(topics)(Broken({"start": "earliest"}))
    assert (Resume("0:2"),) == caught.value.details


# Slow callers


async def test_a_slow_caller_is_sent_everything_unless_the_route_says_otherwise(log, topics, small):
    caller, task, other = await behind(log, topics, 36, behind={"records": 5})
    assert [b"%d" % number for number in range(40)] == await caller.reach(40)
    await left(task)
    await left(other)


async def test_a_slow_caller_goes_on_with_the_newest_and_is_told_what_is_missing(log, topics, small):
    caller, task, other = await behind(log, topics, 10, slow="drop_oldest", behind={"records": 5})
    await caller.reach(4 + 1 + 5)
    told = [message for message in caller.replies if isinstance(message, Notice)]
    assert [("0:4", "0:9", "slow", 5)] == [gap(one) for one in told]
    assert [b"%d" % number for number in (*range(4), *range(9, 14))] == bodies(caller)
    await left(task)
    await left(other)


async def test_one_that_fell_out_of_memory_goes_on_with_what_is_there(log, topics, small):
    caller, task, other = await behind(log, topics, 36, slow="drop_oldest", behind={"records": 5})
    await caller.reach(4 + 1 + 5)
    assert [b"%d" % number for number in (*range(4), *range(35, 40))] == bodies(caller)
    await left(task)
    await left(other)


async def test_a_caller_that_starts_in_the_past_is_not_slow_before_it_has_caught_up(log, topics, small):
    fill(log, 100)
    caller = Caller({"start": "earliest", "limit": 100})
    await handler(topics, slow="drop_oldest", behind={"records": 5})(caller)
    assert [b"%d" % number for number in range(100)] == [message.body for message in caller.replies]


async def test_of_each_key_a_slow_caller_is_sent_the_newest_alone(log, topics, small):
    caller, task, other = await behind(log, topics, 12, keys=True, slow="conflate", behind={"records": 5})
    await caller.reach(4 + 3)
    assert [b"%d" % number for number in (*range(4), 13, 14, 15)] == bodies(caller)
    assert ["0:14", "0:15", "0:16"] == [message.cursor for message in caller.replies[-3:]]
    log.put("t", Message(b"live", key=b"0"))
    assert b"live" == (await caller.reach(8))[-1]
    await left(task)
    await left(other)


async def test_the_newest_of_a_key_is_sent_though_it_fell_out_of_memory(log, topics, small):
    caller = Stuck({}, takes=2)
    task = await running(topics, caller, slow="conflate", behind={"records": 5})
    quick = Caller({})
    other = await running(topics, quick)
    await asyncio.gather(caller.reach(0), quick.reach(0))
    fill(log, 4)
    async with asyncio.timeout(10):
        await caller.stuck.wait()
    log.put("t", Message(b"rare", key=b"rare"))
    for number in range(60):
        log.put("t", Message(b"%d" % number, key=b"often"))
        await quick.reach(5 + number + 1)
    caller.goes_on.set()
    async with asyncio.timeout(10):
        while caller.replies[-1].body != b"59":
            caller.more.clear()
            await caller.more.wait()
    assert b"rare" in bodies(caller)
    assert len(bodies(caller)) < 20
    await left(task)
    await left(other)


async def test_records_without_a_key_are_never_conflated(log, topics, small):
    caller, task, other = await behind(log, topics, 12, slow="conflate", behind={"records": 5})
    assert [b"%d" % number for number in range(16)] == await caller.reach(16)
    await left(task)
    await left(other)


async def test_a_slow_caller_is_let_go_of_with_the_cursor_to_go_on_with_though_it_takes_nothing(log, topics, monkeypatch):
    monkeypatch.setattr(slow, "LOOK_S", 0.01)
    caller = Stuck({}, takes=2)
    task = await running(topics, caller, slow="disconnect", behind={"records": 5})
    await caller.reach(0)
    fill(log, 20)
    with pytest.raises(CallerError) as caught:
        async with asyncio.timeout(10):
            await task
    assert (Reason.SLOW_CALLER, (Resume("0:2"),)) == (caught.value.reason, caught.value.details)
    after = Caller({"start": "0:2", "limit": 18})
    await handler(topics)(after)
    assert [b"%d" % number for number in range(2, 20)] == [message.body for message in after.replies]


@pytest.mark.parametrize("bound", [{"bytes": 3}, {"seconds": 0.05}])
async def test_too_far_is_told_in_bytes_and_in_seconds_too(log, topics, monkeypatch, bound):
    monkeypatch.setattr(slow, "LOOK_S", 0.01)
    caller = Stuck({}, takes=2)
    task = await running(topics, caller, slow="disconnect", behind=bound)
    await caller.reach(0)
    fill(log, 9)
    with pytest.raises(CallerError) as caught:
        async with asyncio.timeout(10):
            await task
    assert Reason.SLOW_CALLER == caught.value.reason


async def test_a_caller_that_keeps_up_is_never_let_go_of(log, topics, monkeypatch):
    monkeypatch.setattr(slow, "LOOK_S", 0.001)
    caller = Caller({})
    task = await running(topics, caller, slow="disconnect", behind={"records": 1, "seconds": 5})
    for number in range(20):
        await caller.reach(number)
        fill(log, 1)
        await asyncio.sleep(0.002)
    await caller.reach(20)
    await left(task)


# Callers who talk


async def test_a_caller_that_gives_credit_is_sent_no_more_than_that(log, topics):
    fill(log, 10)
    caller = Caller(query=(("start", "earliest"), ("credit", "2")))
    task = await running(topics, caller)
    assert [b"0", b"1"] == await caller.reach(2)
    caller.say(credit=3)
    assert [b"0", b"1", b"2", b"3", b"4"] == await caller.reach(5)
    caller.say(credit=1)
    assert 6 == len(await caller.reach(6))
    await left(task)


async def test_a_caller_over_a_websocket_who_leaves_ends_its_stream(log, topics):
    caller = Caller()
    task = await running(topics, caller)
    await caller.reach(0)
    caller.leave()
    async with asyncio.timeout(10):
        await task


async def test_a_caller_over_grpc_asks_with_its_first_message_and_listens_on_after_its_last(log, topics):
    fill(log, 3)
    caller = Caller(protocol="grpc")
    caller.say(start="earliest", limit=4)
    caller.leave()
    task = await running(topics, caller)
    assert [b"0", b"1", b"2"] == await caller.reach(3)
    fill(log, 1)
    await caller.reach(4)
    async with asyncio.timeout(10):
        await task


async def test_a_caller_over_a_websocket_whose_method_takes_one_message_asks_with_it_beside_its_url_and_gives_credit(log, topics):
    fill(log, 3)
    caller = Caller(many=Many.REPLIES, query=(("start", "0:1"),))
    caller.say(credit=1)
    task = await running(topics, caller)
    assert [b"1"] == await caller.reach(1)
    caller.say(credit=2)
    caller.leave()
    assert [b"1", b"2"] == await caller.reach(2)
    fill(log, 1)
    assert 3 == len(await caller.reach(3))
    await left(task)


@pytest.mark.parametrize("said", [{"nonsense": 1}, {"ack": "0:1"}, {"credit": -1}, {"credit": "x"}])
async def test_what_a_caller_cannot_say_ends_its_stream(log, topics, said):
    caller = Caller()
    task = await running(topics, caller)
    await caller.reach(0)
    caller.say(**said)
    with pytest.raises(CallerError) as caught:
        async with asyncio.timeout(10):
            await task
    assert Reason.MALFORMED == caught.value.reason
    assert [Resume("0:0")] == [detail for detail in caught.value.details if isinstance(detail, Resume)]


async def test_credit_is_counted_with_the_records_that_cannot_be_shown_given_back(log, topics):
    class Picky(Caller):
        async def send(self, message):
            if message.body == b"0":
                raise BackendError(Reason.BAD_ANSWER, "cannot be shown")
            await super().send(message)

    fill(log, 3)
    caller = Picky(query=(("start", "earliest"), ("credit", "2")))
    task = await running(topics, caller)
    assert [b"1", b"2"] == await caller.reach(2)
    await left(task)


# Times


async def test_a_caller_may_start_at_a_time(log, topics):
    places = [log.put("t", Message(b"%d" % number)) for number in range(5)]
    caller = Caller({"start": rfc3339(places[3].timestamp), "limit": 2})
    await handler(topics)(caller)
    assert [b"3", b"4"] == [message.body for message in caller.replies]


def test_gaps_and_acknowledgements_that_a_contract_has_no_place_for_are_refused_when_loading():
    bare = contract(reply="shop.v1.Order")
    old = contract(reply=EVENT, fields=("cursor",))
    event = contract(reply=EVENT)
    for spec in ({"on_gap": "tell"}, {"slow": "drop_oldest"}):
        assert "a gap can be told" in TailTo(backend="b", tail="t", **spec).refusals(bare)[0]
        assert "a gap can be told" in TailTo(backend="b", tail="t", **spec).refusals(old)[0]
        assert () == TailTo(backend="b", tail="t", **spec).refusals(event) == TailTo(backend="b", tail="t", **spec).refusals(None)
    named = {"on_gap": "tell", "subscribers": {"name": "{who}"}}
    assert "make the method bidirectional" in TailTo(backend="b", tail="t", **named).refusals(event)[0]
    both = contract(reply=EVENT, many=Many.BOTH)
    assert "has no field ack" in TailTo(backend="b", tail="t", **named).refusals(both)[0]
    assert () == TailTo(backend="b", tail="t", **named).refusals(contract(reply=EVENT, many=Many.BOTH, asks=("ack",)))
    assert "say on_gap: tell" in TailTo(backend="b", tail="t", subscribers={"name": "{who}"}).refusals(None)[0]


def contract(reply, fields=("cursor", "gap"), many=Many.REPLIES, asks=()):
    def kind(name, fields):
        return SimpleNamespace(name=name, fields=fields)

    return SimpleNamespace(request=kind("shop.v1.Ask", asks), reply=kind(reply, fields), many=many)
