"""The verb publish."""

from __future__ import annotations

import json

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Headers, Message
from gateway.target import Target
from gateway.topic import Topics
from gateway.topic.publish import PublishTo
from tests.fake_log import FakeLog, unreachable
from tests.fake_spool import FakeSpool


@pytest.fixture
def log():
    return FakeLog({"orders": 1, "orders.eu": 1})


def handler(log, topic="orders", key=None):
    spec = PublishTo(backend="b", publish=topic, key=key)
    return Topics(log).handler(Target("r", spec, fields=json.loads))


async def test_a_message_becomes_a_record_and_the_answer_is_its_receipt(log):
    exchange = Memory(Message(b'{"n":1}', JSON, b"k", Headers((("a", "b"),))))
    await handler(log)(exchange)
    (record,) = log.topics["orders"][0]
    assert (b'{"n":1}', b"k") == (record.body, record.key)
    (reply,) = exchange.replies
    assert JSON == reply.content_type
    assert {"topic": "orders", "partition": 0, "offset": 0, "timestamp": "2023-11-14T22:13:20.000Z"} == json.loads(reply.body)
    assert "201" == exchange.headers.get(":status")


async def test_topic_and_key_come_from_path_and_message(log):
    call = Call("1", "rest", "POST /", params={"region": "eu"})
    await handler(log, "orders.{region}", "{customer}")(Memory(Message(b'{"customer":"ada"}', JSON), call=call))
    assert [b"ada"] == [record.key for record in log.topics["orders.eu"][0]]


async def test_a_partition_that_the_route_tells_is_taken_whatever_the_key():
    log = FakeLog({"orders": 3})
    spec = PublishTo(backend="b", publish="orders", key="{customer}", partition=2)
    exchange = Memory(Message(b'{"customer":"bob"}', JSON))
    await Topics(log).handler(Target("r", spec, fields=json.loads))(exchange)
    assert [[], [], [b"bob"]] == [[record.key for record in partition] for partition in log.topics["orders"]]
    assert 2 == json.loads(exchange.replies[0].body)["partition"]


async def test_a_variable_that_nobody_gives_is_malformed_and_nothing_is_written(log):
    with pytest.raises(CallerError) as caught:
        await handler(log, key="{customer}")(Memory(Message(b"{}", JSON)))
    assert Reason.MALFORMED == caught.value.reason
    assert [] == log.topics["orders"][0]


async def test_a_record_has_the_trace_and_the_id_of_its_exchange_and_no_reserved_header_of_the_caller(log):
    call = Call("id-1", "rest", "POST /", headers=Headers((("traceparent", "00-1"), ("cookie", "secret"), ("tracestate", "x"))))
    headers = Headers((("own", "1"), ("polygate-reply-to", "evil")))
    await handler(log)(Memory(Message(b"{}", JSON, headers=headers), call=call))
    (record,) = log.topics["orders"][0]
    assert (("own", "1"), ("traceparent", "00-1"), ("tracestate", "x"), ("x-request-id", "id-1")) == record.headers


async def test_what_the_log_refuses_is_refused_before_anything_is_accepted(log):
    log.broken = unreachable()
    exchange = Memory(Message(b"{}", JSON))
    with pytest.raises(BackendError):
        await handler(log)(exchange)
    assert exchange.headers is None


def test_its_templates_are_told_for_checking():
    assert ("a.{b}",) == PublishTo(backend="b", publish="a.{b}").templates()
    assert ("a", "{k}") == PublishTo(backend="b", publish="a", key="{k}").templates()


def storing(log, spool, **told):
    spec = PublishTo(backend="b", publish="orders", key="{customer}", **told)
    return Topics(log).handler(Target("r", spec, fields=json.loads, spool=spool))


ORDER = Message(b'{"customer":"ada"}', JSON)


async def test_what_is_to_be_stored_is_answered_202_once_it_is(log):
    spool, exchange = FakeSpool(), Memory(ORDER)
    await storing(log, spool, ack="stored")(exchange)
    assert "202" == exchange.headers.get(":status")
    assert {"id": "1", "state": "stored"} == json.loads(exchange.replies[0].body)
    ((topic, message, partition),) = spool.records
    assert ("orders", b"ada", None) == (topic, message.key, partition)
    assert "x-request-id" in dict(message.headers)
    assert [] == log.topics["orders"][0]


async def test_what_the_broker_does_not_take_is_stored_where_the_route_says_so(log):
    spool, there, away = FakeSpool(), Memory(ORDER), Memory(ORDER)
    handler = storing(log, spool, when_down="store")
    await handler(there)
    log.broken = unreachable()
    await handler(away)
    assert ["201", "202"] == [exchange.headers.get(":status") for exchange in (there, away)]
    assert [b'{"customer":"ada"}'] == spool.bodies


@pytest.mark.parametrize(("told", "needs"), [({}, set()), ({"ack": "stored"}, {"spool"}), ({"when_down": "store"}, {"spool"})])
def test_a_spool_is_needed_where_records_may_be_stored(told, needs):
    assert needs == set(PublishTo(backend="b", publish="t", **told).needs())


@pytest.mark.parametrize("ack", ["none", "stored"])
def test_falling_back_is_refused_where_nobody_waits_for_the_broker(ack):
    (refusal,) = PublishTo(backend="b", publish="t", ack=ack, when_down="store").refusals(None)
    assert f"with `ack: {ack}` no caller waits for the broker" in refusal
