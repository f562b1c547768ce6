"""What has become of a question, by its id."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.framing import SSE
from gateway.message import JSON, Many, Message, Notice
from gateway.status import outcome_of
from gateway.topic.log import ERROR
from gateway.topic.result import ResultBelow, ResultsOf
from tests.fake_log import FakeLog
from tests.gateway.topic.kept import asked, asker, reply, state_log


@pytest.fixture
def log():
    return FakeLog({"asked": 1, "answered": 1})


@pytest.fixture
async def gateway(log):
    async with asker(log, state_log()) as gateway:
        yield gateway


async def done(gateway, log, *more):
    """The id of a question that has its answer."""
    secret = await gateway.later()
    reply(log, await asked(log), b'{"price":9}', *more)
    return secret


async def test_a_question_without_an_answer_is_pending(gateway):
    secret = await gateway.later()
    exchange = await gateway.fetch(secret)
    ((message,), headers) = exchange.replies, exchange.headers
    assert ("202", "1", "no-store") == tuple(headers.get(name) for name in (":status", "retry-after", "cache-control"))
    assert {"id": secret, "state": "pending"} == json.loads(message.body)
    assert isinstance(message, Notice)


async def test_the_answer_is_given_as_it_came(gateway, log):
    secret = await done(gateway, log)
    exchange = await gateway.fetch(secret, ("prefer", "wait=30"))
    assert [(b'{"price":9}', JSON)] == [(message.body, message.content_type) for message in exchange.replies]
    assert ("no-store", None) == (exchange.headers.get("cache-control"), exchange.headers.get(":status"))


async def test_a_refusal_of_the_answering_side_is_given_as_such(gateway, log):
    secret = await done(gateway, log, (ERROR, "invalid"))
    with pytest.raises(BackendError) as caught:
        await gateway.fetch(secret, ("prefer", "wait=30"))
    assert Reason.INVALID is caught.value.reason


async def test_an_answer_can_be_fetched_more_than_once(gateway, log):
    secret = await done(gateway, log)
    first = await gateway.fetch(secret, ("prefer", "wait=30"))
    assert first.replies[0].body == (await gateway.fetch(secret)).replies[0].body


@pytest.mark.parametrize("secret", ["nobodys", "later-" + "0" * 40])
async def test_an_id_that_nobody_was_given_is_not_found(gateway, secret):
    with pytest.raises(CallerError) as caught:
        await gateway.fetch(secret)
    assert Reason.NOT_FOUND is caught.value.reason


async def test_an_id_is_good_for_the_topic_alone_that_was_asked(log):
    kept = state_log()
    log.topics["other"] = [[]]
    async with asker(log, kept) as gateway, asker(log, kept, ask="other") as other:
        secret = await gateway.later()
        with pytest.raises(CallerError) as caught:
            await other.fetch(secret)
    assert Reason.NOT_FOUND is caught.value.reason


async def test_who_waits_too_short_hears_that_it_is_pending(gateway):
    secret = await gateway.later()
    exchange = await gateway.fetch(secret, ("prefer", "wait=30"), seconds=0.2)
    assert "202" == exchange.headers.get(":status")
    exchange = await gateway.fetch(secret, query=(("wait", "0"),))
    assert "202" == exchange.headers.get(":status")


async def test_who_waits_long_enough_gets_the_answer_once_it_is_there(gateway, log):
    secret = await gateway.later()
    waiting = asyncio.get_running_loop().create_task(gateway.fetch(secret, query=(("wait", "30"),)))
    await asyncio.sleep(0.05)
    reply(log, await asked(log))
    assert b'{"price":9}' == (await waiting).replies[0].body


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "86401", "٣"])
async def test_a_wait_that_is_no_time_is_refused(gateway, wait):
    secret = await gateway.later()
    with pytest.raises(CallerError) as caught:
        await gateway.fetch(secret, query=(("wait", wait),))
    assert Reason.MALFORMED is caught.value.reason


async def test_an_event_stream_has_one_event_once_the_answer_is_there(gateway, log):
    secret = await gateway.later()
    call = Call("2", "rest", "GET /quotes", params={"id": secret}, many=Many.REPLIES, accepts=SSE)
    exchange = Memory(call=call)
    waiting = asyncio.get_running_loop().create_task(gateway.results(exchange))
    async with asyncio.timeout(10):
        while exchange.headers is None:  # noqa: ASYNC110  a test waits for what nobody tells
            await asyncio.sleep(0.001)
    assert [] == exchange.replies
    reply(log, await asked(log))
    await waiting
    assert [b'{"price":9}'] == [message.body for message in exchange.replies]


async def test_who_waits_hears_when_the_time_is_over(log):
    async with asker(log, state_log(), later={"keep": 1}) as gateway:
        secret = await gateway.later()
        with pytest.raises(CallerError) as caught:
            await gateway.fetch(secret, ("prefer", "wait=30"))
    assert Reason.NOT_FOUND is caught.value.reason


@pytest.mark.parametrize("protocol", ["websocket", "topic"])
async def test_the_id_may_be_a_field_of_the_message(gateway, log, protocol):
    secret = await done(gateway, log)
    exchange = Memory(Message(json.dumps({"id": secret, "wait": 30}).encode(), JSON), call=Call("2", protocol, "/answers"))
    await gateway.results(exchange)
    assert b'{"price":9}' == exchange.replies[0].body


@pytest.mark.parametrize("body", [b"{}", b'{"id":""}', b'{"id":7}'])
async def test_a_message_without_an_id_is_refused(gateway, body):
    with pytest.raises(CallerError) as caught:
        await gateway.results(Memory(Message(body, JSON), call=Call("2", "websocket", "/answers")))
    assert Reason.MALFORMED is caught.value.reason


async def test_a_wire_with_one_type_of_reply_waits_and_then_fails_for_certain(gateway):
    secret = await gateway.later()
    with pytest.raises(BackendError) as caught:
        await gateway.fetch(secret, protocol="grpc", seconds=0.2)
    assert (Reason.TIMED_OUT, Outcome.FAILED) == (caught.value.reason, outcome_of(caught.value))


async def test_a_wire_with_one_type_of_reply_gets_the_answer(gateway, log):
    secret = await gateway.later()
    waiting = asyncio.get_running_loop().create_task(gateway.fetch(secret, protocol="grpc"))
    reply(log, await asked(log))
    assert b'{"price":9}' == (await waiting).replies[0].body


def test_it_needs_the_state():
    assert {"state"} == ResultsOf(backend="b", results="asked").needs()


def test_what_is_below_a_question_needs_no_contract_with_an_id():
    class Request:
        name, binary, fields = "Ask", True, ("sku",)

    class Contract:
        request = Request

    assert ["Ask has no field id, by which a caller could say which answer it wants"] == list(
        ResultsOf(backend="b", results="asked").refusals(Contract)
    )
    assert [] == list(ResultBelow(backend="b", results="asked").refusals(Contract))
