"""Who waits for which reply, and whose the others are."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.errors import BackendError, Reason
from gateway.message import Headers, Message
from gateway.topic import reply as module
from gateway.topic.feed import Feeds
from gateway.topic.log import CORRELATION, REPLY_PARTITION, REPLY_TO
from gateway.topic.reply import FOREIGN, LATE, UNMATCHED, Replies
from gateway.topic.seat import Seat
from tests.fake_log import FakeLog, unreachable


@pytest.fixture
def log():
    return FakeLog({"asked": 1, "answered": 1, "answered.more": 3})


@pytest.fixture
async def replies(log):
    async with Feeds(log) as feeds, Replies(log, feeds) as replies:
        yield replies


@pytest.fixture
def way(replies, request):
    return replies.way(request.node.name, "answered", (CORRELATION, REPLY_TO))


def put(log, correlation, body=b"?", topic="answered", partition=None):
    log.put(topic, Message(body, headers=Headers(((CORRELATION, correlation),))), partition)


async def counted(metric, way, number):
    """Wait until a counter has come to a number."""
    async with asyncio.timeout(10):
        while metric.values().get((way.backend,), 0) < number:  # noqa: ASYNC110  counting wakes nobody
            await asyncio.sleep(0)
    return metric.values()[way.backend,]


def asked(replies, log, correlations, seconds=30):
    async def send(correlation):
        correlations.append(correlation)
        log.put("asked", Message(b"?", headers=Headers(((CORRELATION, correlation),))))

    return replies.reply(send, asyncio.get_running_loop().time() + seconds)


async def test_replies_to_no_question_are_told_from_late_ones_and_from_those_of_other_gateways(log, replies, way):
    await replies.listen(way)
    correlations = []
    with pytest.raises(BackendError) as caught:
        await asked(replies, log, correlations, seconds=0.01)
    assert Reason.UNKNOWN_OUTCOME == caught.value.reason
    put(log, correlations[0])
    put(log, "0123456789ab-1")
    put(log, "somebody's own")
    log.put("answered", Message(b"?"))
    assert [1, 1, 2] == [await counted(metric, way, number) for metric, number in ((LATE, 1), (FOREIGN, 1), (UNMATCHED, 2))]


async def test_a_second_reply_to_one_question_is_late(log, replies, way):
    await replies.listen(way)
    correlations = []
    waiting = asyncio.get_running_loop().create_task(asked(replies, log, correlations))
    await asyncio.sleep(0)
    for body in (b"one", b"two"):
        put(log, correlations[0], body)
    assert b"one" == (await waiting).body
    assert 1 == await counted(LATE, way, 1)


async def test_the_number_of_those_who_wait_is_bounded(log, replies, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 0)
    with pytest.raises(BackendError) as caught:
        await asked(replies, log, [])
    assert Reason.OVERLOADED == caught.value.reason
    assert [] == log.topics["asked"][0]


async def test_a_reply_topic_that_is_not_there_is_refused_to_everybody_who_asks(replies):
    way = replies.way("b", "absent", (CORRELATION, REPLY_TO))
    results = await asyncio.gather(*(replies.listen(way) for _ in range(3)), return_exceptions=True)
    assert [Reason.REFUSED] * 3 == [result.reason for result in results]


async def test_a_reply_topic_is_asked_for_again_after_a_failure(log, replies, way):
    log.broken = unreachable()
    with pytest.raises(BackendError):
        await replies.listen(way)
    log.broken = None
    await replies.listen(way)


async def test_one_who_leaves_while_the_reply_topic_is_opened_harms_no_other(log, replies, way):
    opening = asyncio.Event()
    ends = log.ends

    async def slow(topic):
        await opening.wait()
        return await ends(topic)

    log.ends = slow
    async with asyncio.TaskGroup() as group:
        leaver = group.create_task(replies.listen(way))
        stayer = group.create_task(replies.listen(way))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        opening.set()
    assert leaver.cancelled()
    assert stayer.result() is None
    assert 1 == replies._feeds.open


async def test_those_who_wait_for_the_reply_topic_hear_when_the_gateway_stops(log):
    async def never(topic):
        await asyncio.Event().wait()

    log.ends = never
    async with Feeds(log) as feeds:
        async with Replies(log, feeds) as replies:
            way = replies.way("b", "answered", (CORRELATION, REPLY_TO))
            waiting = asyncio.get_running_loop().create_task(replies.listen(way))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(BackendError) as caught:
            await waiting
    assert Reason.UNREACHABLE == caught.value.reason


async def test_replies_that_retention_has_overtaken_are_told_and_read_anew(log, replies, way, caplog):
    await replies.listen(way)
    log.broken = unreachable()
    log.wake()
    async with asyncio.timeout(10):
        while "the log is away" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)
    for _ in range(3):
        log.put("answered", Message(b"?"))
    log.drop("answered", 2)
    log.broken = None
    async with asyncio.timeout(10):
        while "read anew" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)
    await replies.listen(way)
    log.put("answered", Message(b"?"))
    assert 1 == await counted(UNMATCHED, way, 1)


def seat(fixed=None, state=None):
    return Seat("b", "answered.more", fixed=fixed, state=state)


async def test_replies_come_back_on_the_gateways_own_partition_and_those_on_others_are_not_read(log, replies, request):
    way = replies.way(request.node.name, "answered.more", (CORRELATION, REPLY_TO), seat(2))
    await replies.listen(way)
    correlations = []
    assert "2" == way.asked(Headers(), "1").get(REPLY_PARTITION)
    waiting = asyncio.get_running_loop().create_task(asked(replies, log, correlations))
    await asyncio.sleep(0)
    put(log, "nobody", topic="answered.more", partition=1)
    put(log, correlations[0], b"yes", "answered.more", 2)
    assert b"yes" == (await waiting).body
    assert {} == {labels: number for labels, number in UNMATCHED.values().items() if labels == (way.backend,)}


async def test_a_partition_that_cannot_be_read_for_a_while_is_read_on_from_where_it_was(log, replies, caplog, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    way = replies.way("b", "answered.more", (CORRELATION, REPLY_TO), seat(0))
    await replies.listen(way)
    correlations = []
    waiting = asyncio.get_running_loop().create_task(asked(replies, log, correlations))
    await asyncio.sleep(0)
    log.broken = unreachable()
    log.wake()
    async with asyncio.timeout(10):
        while "the log is away" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)
    put(log, correlations[0], b"yes", "answered.more", 0)
    log.broken = None
    assert b"yes" == (await waiting).body


async def test_a_partition_that_the_reply_topic_does_not_have_is_refused(replies):
    with pytest.raises(BackendError) as caught:
        await replies.listen(replies.way("b", "answered.more", (CORRELATION, REPLY_TO), seat(7)))
    assert Reason.REFUSED == caught.value.reason


def test_targets_whose_replies_come_back_on_one_topic_share_a_partition_of_it(replies):
    way = partial(replies.way, "b", "answered.more", (CORRELATION, REPLY_TO))
    assert way(seat(1)).seat is way(seat(1)).seat
    assert way(seat(1)).seat is not way(seat(2)).seat
