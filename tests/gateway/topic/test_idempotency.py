"""How callers write idempotency keys, and whose key is whose."""

from __future__ import annotations

import json

import pytest

from gateway.errors import CallerError, Reason
from gateway.exchange import Call, Principal
from gateway.message import Headers, Message
from gateway.target import Target
from gateway.topic.idempotency import HEADER, MAX_KEY, Idempotency, fingerprint, given, keyed, parsed
from gateway.topic.log import Post
from gateway.topic.publish import PublishTo

MESSAGE = Message(b'{"order":"7"}')


def call(*keys, **fields):
    return Call("1", "rest", "POST /", headers=Headers((HEADER, key) for key in keys), **fields)


def key_of(**said):
    spec = Idempotency(**said)
    return keyed(Target("r", PublishTo(backend="b", publish="t", idempotency=spec), fields=json.loads), spec)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (r'"a \"b\" \\ c"', r'a "b" \ c'),
        ('"a";v=1;w;x="y;z"', "a"),
        (' "a" ', "a"),
        ("a/b:c=d", "a/b:c=d"),
        (f'"{"x" * MAX_KEY}"', "x" * MAX_KEY),
    ],
)
def test_a_key_is_a_string_of_structured_fields_or_stands_bare(written, key):
    assert key == parsed(written)


@pytest.mark.parametrize(
    "written",
    ["", '""', '"', '"a', 'a"', '"a" "b"', '"a", "b"', "a,b", "a b", "a;b", r'"\a"', '"ä"', "ä", '"a\t"', "x" * (MAX_KEY + 1)],
)
def test_anything_else_is_malformed(written):
    with pytest.raises(CallerError) as caught:
        parsed(written)
    assert Reason.MALFORMED == caught.value.reason


def test_several_keys_are_malformed_though_they_be_the_same():
    with pytest.raises(CallerError) as caught:
        given(Headers(((HEADER, "a"), (HEADER, "a"))))
    assert Reason.MALFORMED == caught.value.reason


def test_no_key_is_none_unless_the_route_requires_one():
    assert key_of()(call(), MESSAGE) is None
    with pytest.raises(CallerError) as caught:
        key_of(required=True)(call(), MESSAGE)
    assert Reason.MALFORMED == caught.value.reason


def test_the_same_key_in_quotes_or_bare_is_the_same():
    assert key_of()(call('"a"'), MESSAGE) == key_of()(call("a"), MESSAGE)


def test_each_message_of_a_conversation_has_a_key_of_its_own_by_its_number():
    keys = {key_of()(call("a", number=number), MESSAGE) for number in (1, 2, 3)}
    assert 3 == len(keys)


def test_a_message_that_comes_again_as_the_first_of_another_call_or_as_the_only_one_has_the_same_key():
    message = Message(MESSAGE.body, headers=Headers(((HEADER, "a"),)))
    again = {key_of()(call("a", number=1), MESSAGE), key_of()(call("a"), MESSAGE)}
    assert {key_of()(call("b", number=7), message)} == again


def test_a_messages_own_key_goes_before_that_of_its_call():
    message = Message(MESSAGE.body, headers=Headers(((HEADER, '"b"'),)))
    assert key_of()(call("b"), MESSAGE) == key_of()(call("a", number=3), message)


def test_a_route_may_find_the_key_in_the_message_where_its_caller_gives_none():
    route = key_of(key="{order}", required=True)
    assert route(call("7"), MESSAGE) == route(call(), MESSAGE)
    assert route(call("8"), MESSAGE) != route(call(), MESSAGE)


def test_a_call_that_is_made_of_a_record_has_its_place_for_a_key():
    assert key_of(required=True)(call(record="orders/0/7"), MESSAGE) == key_of()(call("orders/0/7"), MESSAGE)


def test_callers_have_keys_of_their_own():
    keys = {key_of()(call("a", principal=principal), MESSAGE) for principal in (None, Principal("ada"), Principal("bob"))}
    assert 3 == len(keys)


def test_what_a_key_was_used_for_is_topic_partition_key_and_body():
    posts = [
        Post("t", Message(b"x", key=b"k")),
        Post("u", Message(b"x", key=b"k")),
        Post("t", Message(b"x", key=b"k"), 0),
        Post("t", Message(b"x", key=None)),
        Post("t", Message(b"x", key=b"")),
        Post("t", Message(b"y", key=b"k")),
    ]
    assert len(posts) == len({fingerprint([post]) for post in posts})
    assert fingerprint(posts[:1]) == fingerprint([Post("t", Message(b"x", key=b"k", headers=Headers((("x-request-id", "9"),))))])
