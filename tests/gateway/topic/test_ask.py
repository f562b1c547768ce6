"""The verb ask."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module

import pytest

from gateway.errors import BackendError, Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Headers, Message
from gateway.port import Target
from gateway.status import outcome_of
from gateway.topic import Topics
from gateway.topic.ask import Asking, AskTo, failed_as
from gateway.topic.feed import Feeds
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO
from tests.fake_log import FakeLog, unreachable


@pytest.fixture
def log():
    return FakeLog({"asked": 1, "answered": 1, "answered.more": 1})


@pytest.fixture
async def topics(log):
    async with Topics(log) as topics:
        yield topics


@pytest.fixture
async def asking(log):
    async with Feeds(log) as feeds, Asking(log, feeds) as asking:
        yield asking


def handler(topics, **spec):
    return topics.handler(Target("r", AskTo(backend="b", **{"ask": "asked", "reply_to": "answered", **spec}), fields=json.loads))


def caller(name: str, body: bytes = b"{}", seconds: float = 30) -> Memory:
    return Memory(Message(body, JSON), call=Call(name, "rest", "", deadline=asyncio.get_running_loop().time() + seconds))


async def question(log, number=0):
    """The question with a number, once it is there."""
    async with log.reading("asked", {0: number}) as reader, asyncio.timeout(10):
        while not (records := await reader.read()):
            pass
    return records[0]


def answer(log, asked, body=b"yes", *more):
    headers = Headers(((CORRELATION, asked.headers.get(CORRELATION)), *more))
    log.put(asked.headers.get(REPLY_TO), Message(body, headers=headers))


async def test_a_question_is_a_record_and_its_reply_is_the_answer(log, topics):
    exchange = caller("1", b'{"sku":"tea"}')
    async with asyncio.TaskGroup() as group:
        group.create_task(handler(topics, key="{sku}")(exchange))
        asked = await question(log)
        answer(log, asked)
    assert (b'{"sku":"tea"}', b"tea", "answered", "1") == (
        asked.body,
        asked.key,
        asked.headers.get(REPLY_TO),
        asked.headers.get(CORRELATION),
    )
    assert [(b"yes", JSON)] == [(reply.body, reply.content_type) for reply in exchange.replies]


async def test_replies_find_their_questions_in_any_order(log, topics):
    exchanges = [caller(str(number)) for number in range(3)]
    async with asyncio.TaskGroup() as group:
        for exchange in exchanges:
            group.create_task(handler(topics)(exchange))
        for number in (2, 1, 0):
            asked = await question(log, number)
            answer(log, asked, asked.headers.get(CORRELATION).encode())
    assert [b"0", b"1", b"2"] == [exchange.replies[0].body for exchange in exchanges]


async def test_without_a_reply_in_time_the_outcome_is_unknown(log, topics):
    with pytest.raises(BackendError) as caught:
        await handler(topics)(caller("1", seconds=0.1))
    assert Reason.UNKNOWN_OUTCOME == caught.value.reason


async def test_a_question_that_could_not_be_asked_is_a_definite_failure(log, topics):
    await handler_answered(log, topics)
    log.broken = unreachable()
    with pytest.raises(BackendError) as caught:
        await handler(topics)(caller("2"))
    assert Outcome.FAILED == outcome_of(caught.value)


async def handler_answered(log, topics):
    """One question and answer, so that replies are read already."""
    async with asyncio.TaskGroup() as group:
        group.create_task(handler(topics)(caller("first")))
        answer(log, await question(log))


@pytest.mark.parametrize(
    ("said", "reason"), [("not_found", Reason.NOT_FOUND), ("invalid", Reason.INVALID), ("nonsense", Reason.BACKEND_UNKNOWN)]
)
async def test_an_error_reply_is_an_error_of_its_own_reason(log, topics, said, reason):
    asking = asyncio.gather(handler(topics)(caller("1")), return_exceptions=True)
    answer(log, await question(log), b"", (ERROR, said))
    (error,) = await asking
    assert reason == error.reason


def test_an_error_reply_says_nothing_of_its_own_words():
    assert "secret" not in failed_as("secret").message


async def test_replies_that_nobody_waits_for_are_counted(log, asking):
    await asking.listen("answered")
    log.put("answered", Message(b"?", headers=Headers(((CORRELATION, "nobody"),))))
    log.put("answered", Message(b"?"))
    async with asyncio.timeout(10):
        while asking.unmatched < 2:  # noqa: ASYNC110  counting wakes nobody
            await asyncio.sleep(0)


async def test_a_second_reply_to_one_question_is_counted_and_dropped(log, asking):
    await asking.listen("answered")
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(asking.reply("asked", Message(b"?"), "1", loop.time() + 30))
    await question(log)
    for body in (b"one", b"two"):
        log.put("answered", Message(body, headers=Headers(((CORRELATION, "1"),))))
    assert b"one" == (await waiting).body
    async with asyncio.timeout(10):
        while asking.unmatched < 1:  # noqa: ASYNC110  counting wakes nobody
            await asyncio.sleep(0)


async def test_the_number_of_those_who_wait_is_bounded(log, asking, monkeypatch):
    # The package has a function of the module's name.
    monkeypatch.setattr(import_module("gateway.topic.ask"), "MAX_WAITING", 0)
    with pytest.raises(BackendError) as caught:
        await asking.reply("asked", Message(b"?"), "1", asyncio.get_running_loop().time() + 30)
    assert Reason.OVERLOADED == caught.value.reason
    assert [] == log.topics["asked"][0]


async def test_a_reply_topic_that_is_not_there_is_refused_to_everybody_who_asks(log, asking):
    results = await asyncio.gather(*(asking.listen("absent") for _ in range(3)), return_exceptions=True)
    assert [Reason.REFUSED] * 3 == [result.reason for result in results]


async def test_a_reply_topic_is_asked_for_again_after_a_failure(log, asking):
    log.broken = unreachable()
    with pytest.raises(BackendError):
        await asking.listen("answered")
    log.broken = None
    await asking.listen("answered")


async def test_one_who_leaves_while_the_reply_topic_is_opened_harms_no_other(log, asking):
    opening = asyncio.Event()
    ends = log.ends

    async def slow(topic):
        await opening.wait()
        return await ends(topic)

    log.ends = slow
    async with asyncio.TaskGroup() as group:
        leaver = group.create_task(asking.listen("answered"))
        stayer = group.create_task(asking.listen("answered"))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        opening.set()
    assert leaver.cancelled()
    assert stayer.result() is None
    assert 1 == asking._feeds.open


async def test_those_who_wait_for_the_reply_topic_hear_when_the_gateway_stops(log):
    async def never(topic):
        await asyncio.Event().wait()

    log.ends = never
    async with Feeds(log) as feeds:
        async with Asking(log, feeds) as asking:
            waiting = asyncio.get_running_loop().create_task(asking.listen("answered"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(BackendError) as caught:
            await waiting
    assert Reason.UNREACHABLE == caught.value.reason


def test_a_reply_topic_cannot_hold_a_variable():
    assert ["reply_to cannot hold a variable: its topic is read before anybody asks"] == list(
        AskTo(backend="b", ask="a", reply_to="r.{x}").refusals(None)
    )
    assert [] == list(AskTo(backend="b", ask="a", reply_to="r").refusals(None))


def test_its_templates_are_told_for_checking():
    assert ("a.{b}",) == AskTo(backend="b", ask="a.{b}", reply_to="r").templates()
    assert ("a", "{k}") == AskTo(backend="b", ask="a", key="{k}", reply_to="r").templates()


async def test_replies_that_retention_has_overtaken_are_told_and_read_anew(log, asking, caplog):
    await asking.listen("answered")
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
    await asking.listen("answered")
    log.put("answered", Message(b"?"))
    async with asyncio.timeout(10):
        while asking.unmatched < 1:  # noqa: ASYNC110  counting wakes nobody
            await asyncio.sleep(0)
