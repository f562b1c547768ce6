"""The translation of one route, with formats of the test's own."""

from __future__ import annotations

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Memory
from gateway.message import BYTES, JSON, TEXT, Headers, Message
from gateway.policy import Guard
from gateway.status import allowed, failure
from gateway.translate import Translate, downloading, presenting
from tests.contract.policy import Behaviour, a_call, echo


def upper(body, _fields):
    return body.upper()


def lower(body, _fields):
    return body.lower()


def same(body, _fields):
    return body


def listing(body, given):
    """Shows what was merged into the body."""
    return body + repr([*given.params.items(), *given.query]).encode()


def a_translation(**settings) -> Translate:
    """From text to upper-case text, which is what the target takes; JSON is left alone."""
    return Translate(
        **{
            "requests": {TEXT: upper, JSON: same},
            "replies": {TEXT: presenting(lower, TEXT), JSON: presenting(same, JSON)},
            "content_type": JSON,
            **settings,
        }
    )


async def through(translate, *requests, inside=echo, **call) -> list[Message]:
    exchange = Memory(*requests, call=a_call(**call))
    await translate(exchange, inside)
    return exchange.replies


class TestContract(Behaviour):
    """It is a policy too, if one that no file names."""

    @pytest.fixture
    def policy(self):
        return Translate({JSON: same, BYTES: same}, {JSON: presenting(same, JSON), BYTES: presenting(same, BYTES)}, BYTES)


async def test_requests_come_to_the_target_in_its_format_and_replies_to_the_caller_in_his():
    seen = []

    async def inside(exchange):
        seen.append(await exchange.receive())
        await exchange.send(Message(b"REPLY", JSON, b"k", Headers((("a", "b"),)), "0:1", 7))

    replies = await through(a_translation(), Message(b"abc", TEXT, b"k"), inside=inside)
    assert [Message(b"ABC", JSON, b"k")] == seen
    assert [Message(b"reply", TEXT, b"k", Headers((("a", "b"),)), "0:1", 7)] == replies


async def test_a_caller_is_answered_in_what_it_accepts_or_else_as_it_last_spoke():
    assert [JSON] == [reply.content_type for reply in await through(a_translation(), Message(b"a", TEXT), accepts=JSON)]
    replies = await through(a_translation(), Message(b"a", TEXT), Message(b"b", JSON))
    assert [TEXT, JSON] == [reply.content_type for reply in replies]


async def test_one_that_has_not_spoken_is_answered_in_json():
    async def inside(exchange):
        await exchange.send(Message(b"X", BYTES))

    assert [Message(b"X", JSON)] == await through(a_translation(), inside=inside)


async def test_a_type_that_is_not_served_is_refused_with_those_that_are():
    with pytest.raises(CallerError) as raised:
        await through(a_translation(), Message(b"a", "image/png"))
    assert (Reason.UNSUPPORTED, (TEXT, JSON)) == (raised.value.reason, allowed(raised.value))


async def test_unless_there_is_a_way_for_any_other():
    (reply,) = await through(a_translation(otherwise=lambda _kind: upper), Message(b"a", "image/png"))
    assert b"A" == reply.body


async def test_what_needs_no_translation_is_the_same_message():
    message = Message(b"{}", JSON)
    (reply,) = await through(a_translation(), message)
    assert message is reply


async def test_path_variables_and_where_said_the_query_are_merged():
    requests = {JSON: listing}
    call = {"params": {"a": "1"}, "query": (("b", "2"),)}
    (reply,) = await through(a_translation(requests=requests), Message(b"", JSON), **call)
    assert b"[('a', '1')]" == reply.body
    (reply,) = await through(a_translation(requests=requests, query=True), Message(b"", JSON), **call)
    assert b"[('a', '1'), ('b', '2')]" == reply.body


async def test_an_error_among_the_replies_is_left_alone():
    error = failure(CallerError(Reason.INVALID, "x"), "c-1")

    async def inside(exchange):
        await exchange.send(error)

    (reply,) = await through(a_translation(), inside=inside, accepts=TEXT)
    assert error is reply


async def test_a_reply_that_does_not_fit_is_the_backends_fault():
    def refuses(_body, _fields):
        raise CallerError(Reason.MALFORMED, "x")

    with pytest.raises(BackendError) as raised:
        await through(a_translation(replies={JSON: presenting(refuses, JSON)}), Message(b"1", JSON))
    assert Reason.BAD_ANSWER is raised.value.reason


async def test_an_opaque_target_gets_any_bytes_as_they_are():
    message = Message(b"\xff", "image/png")
    assert [message] == await through(a_translation(opaque=True), message)


def test_it_guards_messages():
    assert Guard.MESSAGE is a_translation().guards


@pytest.mark.parametrize("kind", ["text/plain\r\nset-cookie: a=b", "text/plain\n", "text/\u20ac", "text/\0"])
async def test_a_media_type_that_would_write_on_in_the_head_is_a_bad_answer(kind):
    shout = downloading(lambda _body: {"contentType": kind, "data": "aGk="})
    with pytest.raises(BackendError) as caught:
        await through(a_translation(replies={JSON: shout}), Message(b"{}", JSON))
    assert Reason.BAD_ANSWER is caught.value.reason
