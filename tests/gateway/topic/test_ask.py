"""The verb ask."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Headers, Message
from gateway.status import outcome_of
from gateway.target import Target
from gateway.topic import Topics
from gateway.topic.answer import failed_as
from gateway.topic.ask import AskTo
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO
from tests.fake_log import FakeLog, unreachable


@pytest.fixture
def log():
    return FakeLog({"asked": 1, "answered": 1, "answered.more": 1})


@pytest.fixture
async def topics(log):
    async with Topics(log) as topics:
        yield topics


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
        asked.headers.get("x-request-id"),
    )
    assert [(b"yes", JSON)] == [(reply.body, reply.content_type) for reply in exchange.replies]


async def test_replies_find_their_questions_in_any_order(log, topics):
    exchanges = [caller(str(number)) for number in range(3)]
    async with asyncio.TaskGroup() as group:
        for exchange in exchanges:
            group.create_task(handler(topics)(exchange))
        for number in (2, 1, 0):
            asked = await question(log, number)
            answer(log, asked, asked.headers.get("x-request-id").encode())
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


def test_a_reply_topic_cannot_hold_a_variable():
    assert ["reply_to cannot hold a variable: its topic is read before anybody asks"] == list(
        AskTo(backend="b", ask="a", reply_to="r.{x}").refusals(None)
    )
    assert [] == list(AskTo(backend="b", ask="a", reply_to="r").refusals(None))


def test_its_templates_are_told_for_checking():
    assert ("a.{b}",) == AskTo(backend="b", ask="a.{b}", reply_to="r").templates()
    assert ("a", "{k}") == AskTo(backend="b", ask="a", key="{k}", reply_to="r").templates()


def test_what_it_keeps_is_told_for_checking():
    assert {} == AskTo(backend="b", ask="a", reply_to="r").keeps()
    assert {("later", "keep"): 60} == AskTo(backend="b", ask="a", reply_to="r", later={"keep": 60}).keeps()


def test_a_partition_is_for_who_shares_by_partitions():
    with pytest.raises(ValueError, match="reply_partition needs share: partition"):
        AskTo(backend="b", ask="a", reply_to="r", reply_partition=0)


@pytest.mark.parametrize(
    ("said", "needs"),
    [
        ({}, set()),
        ({"later": {}}, {"state"}),
        ({"share": "partition"}, {"state"}),
        ({"share": "partition", "reply_partition": 0}, set()),
    ],
)
def test_it_needs_the_state_for_what_it_keeps_and_for_what_it_claims(said, needs):
    assert needs == AskTo(backend="b", ask="a", reply_to="r", **said).needs()


async def test_headers_have_the_names_that_the_config_gives_them(log, topics):
    names = {"correlation_header": "kafka_correlationId", "reply_to_header": "kafka_replyTopic"}
    exchange = caller("1")
    async with asyncio.TaskGroup() as group:
        group.create_task(handler(topics, **names)(exchange))
        asked = await question(log)
        assert ("answered", None, None) == (
            asked.headers.get("kafka_replyTopic"),
            asked.headers.get(CORRELATION),
            asked.headers.get(REPLY_TO),
        )
        # Kafka gives names in lower case.
        correlation = asked.headers.get("kafka_correlationId")
        log.put("answered", Message(b"yes", headers=Headers((("kafka_correlationid", correlation),))))
    assert [b"yes"] == [reply.body for reply in exchange.replies]


async def test_a_caller_cannot_say_where_the_reply_goes(log, topics):
    names = {"correlation_header": "kafka_correlationId", "reply_to_header": "kafka_replyTopic"}
    own = Headers((("kafka_correlationid", "mine"), ("kafka_replytopic", "elsewhere"), (REPLY_TO, "elsewhere")))
    deadline = asyncio.get_running_loop().time() + 0.2
    exchange = Memory(Message(b"{}", JSON, headers=own), call=Call("1", "rest", "", deadline=deadline))
    with pytest.raises(BackendError):
        await handler(topics, **names)(exchange)
    asked = await question(log)
    assert [None] * 3 == [asked.headers.get(name) for name in ("kafka_correlationid", "kafka_replytopic", REPLY_TO)]
