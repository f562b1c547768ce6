"""The listener of topics, over a source in memory that hands records over by hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import ValidationError

from adapters.ingress.topic import Config
from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.exchange import EndOfMessages
from gateway.message import JSON, NO_HEADERS, PROBLEM
from gateway.port import Ahead
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO
from gateway.worker import Worker
from tests.adapters.ingress.topic_source import ASKING, echo, listening, record


async def test_it_subscribes_to_its_topics_as_its_group():
    async with listening(echo, start="latest") as source:
        assert (("asked",), "g", "latest") == (source.subscription.topics, source.subscription.group, source.subscription.start)


async def test_a_record_is_one_exchange_with_its_topic_as_target():
    seen = []

    async def handler(exchange):
        seen.append((exchange.call, await exchange.receive()))
        with pytest.raises(EndOfMessages):
            await exchange.receive()
        await exchange.accept()

    async with listening(handler) as source:
        await source.deliver(record(traceparent="t"))
        await source.deliver(record())
    (call, message), (other, _) = seen
    assert ("topic", "/asked", "t") == (call.protocol, call.target, call.headers.get("traceparent"))
    assert (b'{"a":1}', JSON, b"key") == (message.body, message.content_type, message.key)
    assert call.id != other.id
    assert [] == source.produced


async def test_a_reply_goes_to_the_topic_that_the_record_names_with_its_correlation():
    async with listening(echo) as source:
        await source.deliver(record(**ASKING))
    ((topic, message),) = source.produced
    assert ("answered", b'{"a":1}', b"key", "c-1") == (topic, message.body, message.key, message.headers.get(CORRELATION))
    assert message.headers.get(ERROR) is None


async def test_a_reply_has_the_headers_that_the_config_names():
    names = {"correlation_header": "x-correlationId", "reply_to_header": "x-replyTopic"}
    async with listening(echo, **names) as source:
        # Kafka gives the names of headers in lower case.
        await source.deliver(record(x_correlationid="c-1", x_replytopic="answered"))
        await source.deliver(record(**ASKING))
    ((topic, message),) = source.produced
    assert ("answered", "c-1", None) == (topic, message.headers.get("x-correlationId"), message.headers.get(CORRELATION))


@pytest.mark.parametrize(("said", "written"), [("3", 3), ("4", None), ("-1", None), ("x", None), ("9" * 10, None)])
async def test_a_reply_goes_to_the_partition_that_the_record_names_where_there_is_such_a_one(said, written):
    async with listening(echo) as source:
        await source.deliver(record(**ASKING, polygate_reply_partition=said))
    assert ([written], 1) == (source.partitions, len(source.produced))


@pytest.mark.parametrize("headers", [{}, {"polygate_correlation_id": "c-1"}, {"polygate_reply_to": "orders.placed"}])
async def test_a_record_that_names_no_listed_topic_gets_no_reply(headers):
    async with listening(echo) as source:
        await source.deliver(record(**headers))
    assert [] == source.produced


async def test_a_handler_without_an_answer_is_done_and_nothing_is_produced():
    async def quiet(exchange):
        await exchange.receive()

    async with listening(quiet) as source:
        await source.deliver(record(**ASKING))
    assert [] == source.produced


POISON = [
    CallerError(Reason.MALFORMED, "no JSON"),
    CallerError(Reason.INVALID, "not an order"),
    BackendError(Reason.BACKEND_INVALID_ARGUMENT, "no"),
    BackendError(Reason.BACKEND_NOT_FOUND, "no"),
]
TRANSIENT = [
    BackendError(Reason.UNREACHABLE, "away"),
    BackendError(Reason.BACKEND_UNAVAILABLE, "busy"),
    BackendError(Reason.BACKEND_RESOURCE_EXHAUSTED, "busy"),
    BackendError(Reason.UNKNOWN_OUTCOME, "no answer"),
    BackendError(Reason.TIMED_OUT, "no answer"),
    BackendError(Reason.BACKEND_INTERNAL, "broken"),
    BackendError(Reason.BACKEND_INVALID_ARGUMENT, "perhaps", outcome=Outcome.UNKNOWN),
]


@pytest.mark.parametrize("error", POISON, ids=lambda error: error.reason)
async def test_a_record_that_is_itself_to_blame_is_answered_with_its_problem_and_passed_over(error):
    async def refuse(_exchange):
        raise error

    async with listening(refuse) as source:
        await source.deliver(record(**ASKING))
        await source.deliver(record())
    ((_, message),) = source.produced
    assert (PROBLEM, error.reason.value, "c-1") == (
        message.content_type,
        message.headers.get(ERROR),
        message.headers.get(CORRELATION),
    )
    assert error.reason.value == json.loads(message.body)["reason"]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: error.reason)
async def test_a_record_whose_backend_is_away_is_tried_until_it_is_done(error):
    tries = iter([error, error, None])
    ids = set()

    async def flaky(exchange):
        ids.add(exchange.call.id)
        failure = next(tries)
        if failure is not None:
            raise failure
        await echo(exchange)

    async with listening(flaky) as source:
        await source.deliver(record(**ASKING))
    assert 1 == len(source.produced)
    assert 3 == len(ids)


async def test_a_reply_that_cannot_be_produced_is_produced_again_and_its_record_not_tried_again():
    runs = []

    async def handler(exchange):
        runs.append(exchange.call.id)
        await echo(exchange)

    async with listening(handler) as source:
        source.failures.append(BackendError(Reason.UNREACHABLE, "away"))
        await source.deliver(record(**ASKING))
    assert (1, 1) == (len(runs), len(source.produced))


async def test_leaving_leaves_a_record_that_waits_for_another_try_to_the_next():
    tried = asyncio.Event()

    async def away(_exchange):
        tried.set()
        raise BackendError(Reason.UNREACHABLE, "away")

    async with asyncio.timeout(5), listening(away, retry={"seconds": 60}) as source:
        source.take(record())
        await tried.wait()
    assert 0 == source.done


async def test_leaving_lets_what_is_being_tried_end():
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow(_exchange):
        begun.set()
        await end.wait()

    async with asyncio.timeout(5), listening(slow) as source:
        source.take(record())
        await begun.wait()
        source.view.drain_until = asyncio.get_running_loop().time() + 5
        asyncio.get_running_loop().call_later(0.01, end.set)
    assert 1 == source.done


async def test_leaving_cuts_off_what_outlasts_the_drain():
    begun = asyncio.Event()

    async def stuck(_exchange):
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5), listening(stuck) as source:
        source.take(record())
        await begun.wait()
        source.view.drain_until = asyncio.get_running_loop().time() + 0.05
    assert 0 == source.done


async def test_a_try_that_fails_while_the_listener_leaves_is_the_last():
    tries = []
    end = asyncio.Event()

    async def away(_exchange):
        tries.append(1)
        await end.wait()
        raise BackendError(Reason.UNREACHABLE, "away")

    async with asyncio.timeout(5), listening(away) as source:
        source.take(record())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.view.drain_until = asyncio.get_running_loop().time() + 5
        asyncio.get_running_loop().call_later(0.01, end.set)
    assert ([1], 0) == (tries, source.done)


async def test_a_topic_without_a_route_is_passed_over():
    async with listening(echo) as source:
        await source.deliver(record(topic="asked.other", **ASKING))
    ((_, message),) = source.produced
    assert "not_found" == message.headers.get(ERROR)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"parallel": 4}, "parallel needs order"),
        ({"retry": {"attempts": 3}}, "needs dead_letter"),
        ({"dead_letter": "asked"}, "none of the topics"),
        ({"retry": {"attempts": 0}}, "greater than or equal"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, why):
    with pytest.raises(ValidationError, match=why):
        Config(kind="topic", backend="events", topics=("asked",), group="g", **settings)


def test_what_a_config_says_of_the_group_is_what_its_backend_is_asked_for():
    config = Config(
        kind="topic",
        backend="events",
        topics=("asked",),
        group="g",
        order="key",
        parallel=4,
        ahead={"records": 10, "bytes": "1MiB"},
        instance="one",
        session=30,
    )
    asked = config.subscription("work")
    assert ("work", "key", 4, Ahead(10, 1 << 20), "one", 30) == (
        asked.listener,
        asked.order,
        asked.parallel,
        asked.ahead,
        asked.instance,
        asked.session,
    )
    assert 1 == config.model_copy(update={"order": "partition"}).subscription("work").parallel


def test_each_of_several_processes_is_a_member_of_its_own(monkeypatch):
    monkeypatch.setattr("adapters.ingress.topic.own", lambda: Worker(number=2))
    config = Config(kind="topic", backend="events", topics=("asked",), group="g", instance="one")
    assert "one-2" == config.subscription("work").instance
    assert config.model_copy(update={"instance": None}).subscription("work").instance is None


def test_a_topic_s_name_is_its_pattern():
    assert ("", "/orders.placed") == Config.pattern("orders.placed")


def test_reserved_headers_are_what_it_reads():
    assert {"polygate-reply-to", "polygate-correlation-id"} == {REPLY_TO, CORRELATION}
    assert () == NO_HEADERS
