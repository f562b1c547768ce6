"""The policy `map`."""

from __future__ import annotations

import json

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Memory, Principal
from gateway.message import JSON, Headers, Many, Message
from gateway.policy import Guard
from gateway.policy.map import Config
from gateway.status import failure
from tests.contract.policy import PolicyContract, a_call, echo


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        # What the suite sends is no JSON, and must come back as it went in.
        return Config()


async def through(config: Config, *messages: Message, **call: object) -> Memory:
    exchange = Memory(*messages, call=a_call(**call))
    await config.build("orders", "rest")(exchange, echo)
    return exchange


def a_message(value: object) -> Message:
    return Message(json.dumps(value).encode(), JSON, b"key", Headers((("a", "b"),)), "0:1", 5)


async def test_a_request_is_shaped_for_the_target_and_a_reply_for_the_caller():
    config = Config(request={"n": "=body.a + 1"}, reply={"data": "=body.n * 2", "at": "=call.path", "id": "=params.id"})
    exchange = await through(config, a_message({"a": 1}), params={"id": "7"})
    (reply,) = exchange.replies
    assert {"data": 4, "at": "/orders/ada", "id": "7"} == json.loads(reply.body)
    assert (JSON, b"key", Headers((("a", "b"),)), "0:1", 5) == (
        reply.content_type,
        reply.key,
        reply.headers,
        reply.cursor,
        reply.timestamp,
    )


async def test_everything_of_the_call_can_be_had():
    config = Config(request=["=params.id", "=query.q", "=headers['x-tenant']", "=principal.name", "=call.method", "=body"])
    exchange = await through(
        config,
        Message(b"", JSON),
        params={"id": "7"},
        query=(("q", "1"),),
        headers=Headers((("x-tenant", "eu"),)),
        principal=Principal("ada"),
    )
    assert ["7", "1", "eu", "ada", "POST", None] == json.loads(exchange.replies[0].body)


async def test_each_message_of_a_stream_is_shaped():
    exchange = await through(Config(reply={"n": "=body"}), a_message(1), a_message(2))
    assert [b'{"n":1}', b'{"n":2}'] == [reply.body for reply in exchange.replies]


async def test_a_side_that_is_not_told_goes_through():
    message = a_message({"a": 1})
    assert [b'{"a":1}'] == [reply.body for reply in (await through(Config(request="=body"), message)).replies]
    exchange = await through(Config(reply="=body.a"), message)
    assert [b"1"] == [reply.body for reply in exchange.replies]


async def test_an_error_in_a_conversation_goes_through():
    reply = failure(CallerError(Reason.MALFORMED, "no"), "c-1")
    exchange = Memory(call=a_call())

    async def inside(wrapped):
        await wrapped.send(reply)

    await Config(reply={"a": "=body.nope"}).build("orders", "rest")(exchange, inside)
    assert [reply] == exchange.replies


async def test_a_request_that_cannot_be_shaped_is_the_callers_fault():
    with pytest.raises(CallerError, match="a is missing") as caught:
        await through(Config(request="=body.a"), a_message({}))
    assert Reason.MALFORMED is caught.value.reason


async def test_a_reply_that_cannot_be_shaped_is_the_backends():
    with pytest.raises(BackendError) as caught:
        await through(Config(reply="=body.a"), Message(b"{}", JSON))
    assert Reason.BAD_ANSWER is caught.value.reason


async def test_a_record_that_cannot_be_shaped_is_passed_over_and_that_is_told(caplog):
    exchange = await through(Config(reply="=body.a"), a_message({}), a_message({"a": 1}))
    assert [b"1"] == [reply.body for reply in exchange.replies]
    assert [
        "exchange c-1: the map of replies failed on 1 records, which were passed over; the latest is the one before 0:1: "
    ] == [message.partition("the message is")[0] for message in caplog.messages]


async def test_a_message_over_the_limit_is_not_opened():
    with pytest.raises(CallerError, match=r"\b5 bytes") as caught:
        await through(Config(request="=body", limit=5), Message(b"123456", JSON))
    assert Reason.TOO_LARGE is caught.value.reason
    with pytest.raises(BackendError):
        await through(Config(reply="=body", limit=5), Message(b"123456", JSON))


def test_it_opens_messages_and_says_whose_it_builds():
    assert Config.opens
    assert [Many.REQUESTS, Many.REPLIES, Many.BOTH] == [
        Config(request="=body").builds(),
        Config(reply="=body").builds(),
        Config(request="=body", reply="=body").builds(),
    ]
    assert Guard.MESSAGE is Config(request="=body").build("orders", "rest").guards


def test_what_cannot_work_is_told_when_loading_with_its_place():
    config = Config(request={"a": ["=nope"]}, reply={"=b": 1})
    places = [place for place, _ in config.refusals((), None)]
    assert [("request", "a", 0), ("reply", "=b")] == places
    ((place, text),) = Config().refusals((), None)
    assert ("kind", "shapes nothing: say `request:`, `reply:` or both") == (place, text)
