"""All or nothing, over any log."""

from __future__ import annotations

import json

import pytest

from gateway.errors import BackendError, CallerError, FieldError, Reason
from gateway.exchange import Call, EndOfMessages, Memory
from gateway.message import JSON, Headers, Message
from gateway.target import Target
from gateway.task import Tasks
from gateway.topic.idempotency import Idempotency
from gateway.topic.publish import PublishTo, publish
from tests.fake_log import FakeLog, unreachable
from tests.gateway.topic.kept import shelf, state_log


@pytest.fixture
def log():
    return FakeLog({"orders": 1, "bills": 1})


def handler(log, tasks=None, state=None, **said):
    spec = PublishTo(**{"backend": "b", "publish": "{topic}", "atomic": True, **said})
    return publish(log, Target("r", spec, fields=json.loads, state=state), spec, tasks or Tasks())


def messages(*topics):
    return [Message(b'{"topic":"%b"}' % topic.encode(), JSON) for topic in topics]


async def test_all_messages_of_a_call_are_written_and_each_has_its_receipt(log):
    exchange = Memory(*messages("orders", "bills", "orders"))
    await handler(log)(exchange)
    places = [(told["topic"], told["offset"]) for told in (json.loads(reply.body) for reply in exchange.replies)]
    assert [("orders", 0), ("bills", 0), ("orders", 1)] == places
    assert [((":status", "201"),)] * 3 == [reply.headers for reply in exchange.replies]
    assert [b'{"topic":"bills"}'] == [record.body for record in log.topics["bills"][0]]


async def test_what_is_wrong_with_one_is_told_with_its_place_and_nothing_is_written(log):
    exchange = Memory(*messages("orders", "bills"), Message(b"{}", JSON), *messages("orders"))
    with pytest.raises(CallerError) as caught:
        await handler(log)(exchange)
    assert Reason.MALFORMED == caught.value.reason
    assert ["/2/topic"] == [one.pointer for one in caught.value.details if isinstance(one, FieldError)]
    assert exchange.headers is None
    assert [[], []] == [log.topics[name][0] for name in ("orders", "bills")]


async def test_what_the_log_refuses_is_refused_for_all(log):
    with pytest.raises(BackendError) as caught:
        await handler(log)(Memory(*messages("orders", "absent")))
    assert Reason.REFUSED == caught.value.reason
    log.broken = unreachable()
    with pytest.raises(BackendError):
        await handler(log)(Memory(*messages("orders")))
    assert [] == log.topics["orders"][0]


@pytest.mark.parametrize("bound", [{"max_batch": 2}, {"max_batch_bytes": 1024}])
async def test_too_much_is_refused_with_the_place_where_it_was_too_much(log, bound):
    large = Message(b'{"topic":"orders","text":"%b"}' % (b"x" * 400), JSON)
    with pytest.raises(CallerError) as caught:
        await handler(log, **bound)(Memory(large, large, large))
    assert (Reason.TOO_LARGE, ["/2"]) == (caught.value.reason, [one.pointer for one in caught.value.details])
    assert [] == log.topics["orders"][0]


async def test_a_call_that_may_have_many_may_have_none_and_one_that_has_one_must_have_it(log):
    many = Memory(call=Call("1", "rest", "POST /", many=~Call("1", "", "").many))
    await handler(log)(many)
    assert [] == many.replies
    with pytest.raises(EndOfMessages):
        await handler(log)(Memory())


def test_it_is_refused_beside_what_cannot_be_all_or_nothing():
    for said in ({"ack": "none"}, {"ack": "stored"}, {"when_down": "store"}, {"idempotency": Idempotency(key="{topic}")}):
        assert 1 == len(PublishTo(backend="b", publish="t", atomic=True, **said).refusals(None))
    assert () == PublishTo(backend="b", publish="t", atomic=True, idempotency=Idempotency()).refusals(None)


# Once for each key


@pytest.fixture
async def keyed():
    """Handlers of routes whose batches have a key, over a log and a state that they share."""
    async with Tasks() as tasks, shelf(state_log()) as state:
        await state.tried()

        def keyed(log, over=None):
            return handler(log, tasks, over or state, idempotency=Idempotency())

        keyed.state = state
        yield keyed


async def said(run, *sent, key="1"):
    headers = Headers((("idempotency-key", f'"{key}"'),)) if key else Headers()
    exchange = Memory(*sent, call=Call("1", "rest", "POST /", headers))
    await run(exchange)
    return [json.loads(reply.body)["offset"] for reply in exchange.replies], exchange.headers.get("idempotency-replayed")


async def test_a_batch_with_a_key_is_written_once_and_every_answer_is_its_receipts(log, keyed):
    for replayed in (None, "true"):
        assert ([0, 0, 1], replayed) == await said(keyed(log), *messages("orders", "bills", "orders"))
    for number in (2, 3):
        assert ([number], None) == await said(keyed(log), *messages("orders"), key="")
    assert [4, 1] == [len(log.topics[name][0]) for name in ("orders", "bills")]


async def test_a_batch_with_a_key_is_another_where_one_of_its_messages_or_their_order_is(log, keyed):
    await said(keyed(log), *messages("orders", "bills"))
    for other in (["orders"], ["bills", "orders"], ["orders", "bills", "bills"]):
        with pytest.raises(CallerError) as caught:
            await said(keyed(log), *messages(*other))
        assert Reason.INVALID == caught.value.reason
    assert [1, 1] == [len(log.topics[name][0]) for name in ("orders", "bills")]


async def test_a_batch_whose_receipts_were_not_kept_is_found_as_a_whole(log, keyed):
    class Forgetful:
        def __getattr__(self, name):
            return getattr(keyed.state, name)

        async def put(self, _key, _value, _seconds):
            raise unreachable()

    log.put("orders", Message(b"before"))
    assert ([1, 0, 2], None) == await said(keyed(log, Forgetful()), *messages("orders", "bills", "orders"))
    assert ([1, 0, 2], "true") == await said(keyed(log), *messages("orders", "bills", "orders"))
    assert [3, 1] == [len(log.topics[name][0]) for name in ("orders", "bills")]


async def test_a_batch_that_the_log_refused_frees_its_key(log, keyed):
    append_all = log.append_all

    async def away(*_posts, **_more):
        raise unreachable()

    log.append_all = away
    with pytest.raises(BackendError):
        await said(keyed(log), *messages("orders", "bills"))
    log.append_all = append_all
    assert ([0, 0], None) == await said(keyed(log), *messages("orders", "bills"))
