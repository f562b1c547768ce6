"""The listener of topics, over a source in memory that hands records over by hand."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from adapters.ingress.topic import Config
from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.exchange import EndOfMessages
from gateway.message import JSON, NO_HEADERS, PROBLEM, Headers, Message
from gateway.port import Record, View
from gateway.route import Endpoint, Table
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO


class Topics:
    """A source whose records the test delivers, and which keeps what is produced to it."""

    def __init__(self):
        self.view: View | None = None
        self.subscription = None
        self.deliver = None
        self.produced: list[tuple[str, Message]] = []
        self.failures: list[BackendError] = []

    @asynccontextmanager
    async def consuming(self, subscription, deliver):
        self.subscription, self.deliver = subscription, deliver
        yield
        self.deliver = None

    async def produce(self, topic, message):
        if self.failures:
            raise self.failures.pop(0)
        self.produced.append((topic, message))


@asynccontextmanager
async def listening(handler, **settings):
    """A listener of the topic asked, whose route is the handler."""
    source = Topics()

    def refuse(_protocol, error):
        async def run(_exchange):
            raise error

        return Endpoint("-", run)

    table = Table(refuse)
    table.add("topic", "", "/asked", Endpoint("route", handler))
    view = source.view = View(find=table.find, backends={"events": source})
    config = Config(kind="topic", backend="events", topics=("asked",), group="g", reply_to=("answered",), **settings)
    async with config.build("work", view).serving() as address:
        assert address is None
        yield source


def record(body=b'{"a":1}', *, topic="asked", **headers):
    pairs = Headers((name.replace("_", "-"), value) for name, value in headers.items())
    return Record(topic, 3, 7, 1000, b"key", body, pairs)


ASKING = {"polygate_reply_to": "answered", "polygate_correlation_id": "c-1"}


async def echo(exchange):
    await exchange.send(await exchange.receive())


async def test_it_subscribes_to_its_topics_as_its_group():
    async with listening(echo, start="latest") as source:
        assert (("asked",), "g", "latest") == (source.subscription.topics, source.subscription.group, source.subscription.start)
    assert source.deliver is None


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


async def test_a_reply_that_cannot_be_produced_has_the_record_tried_again():
    runs = []

    async def handler(exchange):
        runs.append(exchange.call.id)
        await echo(exchange)

    async with listening(handler) as source:
        source.failures.append(BackendError(Reason.UNREACHABLE, "away"))
        await source.deliver(record(**ASKING))
    assert (2, 1) == (len(runs), len(source.produced))


async def test_cancelling_ends_the_tries():
    async def away(_exchange):
        raise BackendError(Reason.UNREACHABLE, "away")

    async with listening(away) as source, asyncio.TaskGroup() as group:
        task = group.create_task(source.deliver(record()))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_leaving_leaves_a_record_that_waits_for_another_try_to_the_next(monkeypatch):
    monkeypatch.setattr("adapters.ingress.topic.FIRST_PAUSE_S", 60.0)
    tried = asyncio.Event()

    async def away(_exchange):
        tried.set()
        raise BackendError(Reason.UNREACHABLE, "away")

    async with asyncio.TaskGroup() as group:
        async with listening(away) as source:
            delivered = group.create_task(failing(source))
            await tried.wait()
        async with asyncio.timeout(5):
            assert isinstance(await delivered, TimeoutError)


async def test_leaving_cuts_off_what_outlasts_the_drain_and_lets_the_rest_end():
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow(_exchange):
        begun.set()
        await end.wait()

    async with asyncio.TaskGroup() as group:
        async with listening(slow) as source:
            source.view.drain_until = asyncio.get_running_loop().time() + 0.05
            ends, late = group.create_task(failing(source)), group.create_task(failing(source))
            await begun.wait()
        end.set()
        assert await ends is None
        assert await late is None
        begun.clear()
        end.clear()
        async with listening(slow) as source:
            late = group.create_task(failing(source))
            await begun.wait()
        async with asyncio.timeout(5):
            assert isinstance(await late, TimeoutError)


async def test_a_try_that_fails_while_the_listener_leaves_is_the_last():
    begun, end = asyncio.Event(), asyncio.Event()

    async def away(_exchange):
        begun.set()
        await end.wait()
        raise BackendError(Reason.UNREACHABLE, "away")

    async with asyncio.TaskGroup() as group:
        async with listening(away) as source:
            source.view.drain_until = asyncio.get_running_loop().time() + 5
            late = group.create_task(failing(source))
            await begun.wait()
        end.set()
        assert isinstance(await late, BackendError)


async def failing(source):
    """Deliver a record, and return the error that says it was not done with."""
    try:
        await source.deliver(record())
    except (BackendError, TimeoutError) as error:
        return error
    return None


async def test_a_topic_without_a_route_is_passed_over():
    async with listening(echo) as source:
        await source.deliver(record(topic="asked.other", **ASKING))
    ((_, message),) = source.produced
    assert "not_found" == message.headers.get(ERROR)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Let every pause between tries be next to nothing."""
    monkeypatch.setattr("adapters.ingress.topic.FIRST_PAUSE_S", 0.0)


def test_a_topic_s_name_is_its_pattern():
    assert ("", "/orders.placed") == Config.pattern("orders.placed")


def test_reserved_headers_are_what_it_reads():
    assert {"polygate-reply-to", "polygate-correlation-id"} == {REPLY_TO, CORRELATION}
    assert () == NO_HEADERS
