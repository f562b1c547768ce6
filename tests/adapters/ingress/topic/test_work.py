"""How often a record is tried, when, and what becomes of it in the end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from adapters.ingress.topic import verdict, work
from adapters.ingress.topic.work import PAUSES, RECORDS, RETRIES
from gateway.breaker import Breaker, BreakerConfig
from gateway.errors import BackendError, CallerError, Reason, RetryAfter
from gateway.exchange import Call
from gateway.message import PROBLEM
from gateway.task import Tasks
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO
from tests.adapters.ingress.topic_source import ASKING, echo, listening, record

AWAY = BackendError(Reason.UNREACHABLE, "the backend cannot be reached")
POISON = BackendError(Reason.BACKEND_INVALID_ARGUMENT, "the backend answered 400")


def failing(*errors, tries=None):
    """A handler that fails so often, in turn, and then answers."""
    left = list(errors)

    async def handler(exchange):
        if tries is not None:
            tries.append(exchange.call)
        if left:
            raise left.pop(0)
        await echo(exchange)

    return handler


def always(error):
    async def handler(_exchange):
        raise error

    return handler


def counted(counter, *labels):
    return counter.values().get(("work", "asked", *labels), 0)


async def test_every_try_of_a_record_says_that_it_is_of_the_same_record():
    tries = []
    async with listening(failing(AWAY, tries=tries)) as source:
        await source.deliver(record())
        await source.deliver(record())
    assert ["asked/3/0@1000", "asked/3/0@1000", "asked/3/1@1000"] == [call.record for call in tries]
    assert 3 == len({call.id for call in tries})


async def test_a_record_whose_tries_are_used_up_goes_to_the_dead_letter_topic():
    tries = []
    settings = {"dead_letter": "dead", "retry": {"attempts": 3, "seconds": 0.001}}
    async with listening(failing(AWAY, AWAY, AWAY, tries=tries), **settings) as source:
        await source.deliver(record(traceparent="t"))
        await source.deliver(record())
    assert 4 == len(tries)
    ((topic, message),) = source.produced
    assert ("dead", b'{"a":1}', b"key") == (topic, message.body, message.key)
    assert {
        "traceparent": "t",
        "polygate-error": "unreachable",
        "polygate-error-detail": "the backend cannot be reached",
        "polygate-error-outcome": "failed",
        "polygate-attempts": "3",
        "polygate-original-topic": "asked",
        "polygate-original-partition": "3",
        "polygate-original-offset": "0",
        "polygate-original-timestamp": "1970-01-01T00:00:01.000Z",
    } == dict(message.headers)


async def test_a_record_that_is_to_blame_itself_goes_there_at_once_and_whoever_asked_is_told():
    async with listening(always(POISON), dead_letter="dead") as source:
        await source.deliver(record(**ASKING))
    (first, letter), (second, reply) = source.produced
    assert ("dead", "answered") == (first, second)
    assert ("1", POISON.reason.value, "answered") == (
        letter.headers.get(verdict.ATTEMPTS),
        letter.headers.get(ERROR),
        letter.headers.get(REPLY_TO),
    )
    assert (PROBLEM, POISON.reason.value, "c-1") == (reply.content_type, reply.headers.get(ERROR), reply.headers.get(CORRELATION))


async def test_a_dead_letter_that_fails_again_tells_of_its_latest_failure_alone():
    again = record(polygate_error="unreachable", polygate_attempts="9", polygate_original_topic="elsewhere")
    async with listening(always(CallerError(Reason.INVALID, "x" * 5000)), dead_letter="dead") as source:
        await source.deliver(again)
    headers = source.produced[0][1].headers
    assert (("invalid",), ("1",), ("asked",)) == tuple(headers.all(name) for name in (ERROR, verdict.ATTEMPTS, verdict.TOPIC))
    assert verdict.DETAIL_CHARS == len(headers.get(verdict.DETAIL))


async def test_a_record_waits_until_its_dead_letter_is_written_and_is_not_tried_again_meanwhile(caplog):
    tries = []
    async with listening(failing(POISON, tries=tries), dead_letter="dead") as source:
        source.failures += [AWAY, BackendError(Reason.UNKNOWN_OUTCOME, "no answer"), BackendError(Reason.REFUSED, "no topic")]
        await source.deliver(record(**ASKING))
    assert (1, ["dead", "answered"], 1) == (len(tries), [topic for topic, _ in source.produced], source.done)
    assert "waits to be written to dead, for 0.0 s: no topic" in caplog.text


async def test_a_reply_that_is_too_large_is_told_to_be_and_holds_up_nothing():
    tries = []
    async with listening(failing(tries=tries)) as source:
        source.failures += [CallerError(Reason.TOO_LARGE, "the record is too large")]
        await source.deliver(record(**ASKING))
    ((topic, message),) = source.produced
    assert (1, "answered", PROBLEM, "too_large", "c-1") == (
        len(tries),
        topic,
        message.content_type,
        message.headers.get(ERROR),
        message.headers.get(CORRELATION),
    )


async def test_a_letter_that_is_written_is_not_written_again_because_the_reply_is_not():
    async with listening(always(POISON), dead_letter="dead") as source:
        produce = source.produce

        async def second_fails(topic, message, _partition=None):
            if topic == "answered" and not [1 for name, _ in source.produced if name == "failed"]:
                source.produced.append(("failed", message))
                raise AWAY
            await produce(topic, message)

        source.produce = second_fails
        await source.deliver(record(**ASKING))
    assert ["dead", "failed", "answered"] == [topic for topic, _ in source.produced]


async def test_without_a_bound_a_record_is_tried_until_it_is_done():
    tries = []
    async with listening(
        failing(*[AWAY] * 50, tries=tries), dead_letter="dead", retry={"seconds": 0.0001, "max_pause": 0.0001}
    ) as source:
        await source.deliver(record())
    assert (51, []) == (len(tries), source.produced)


async def test_what_the_gateway_itself_refuses_is_no_try():
    busy = BackendError(Reason.OVERLOADED, "too many calls")
    async with listening(failing(AWAY, busy, busy, busy), dead_letter="dead", retry={"attempts": 2, "seconds": 0.001}) as source:
        await source.deliver(record())
    assert [] == source.produced


async def test_a_backend_that_says_when_to_come_again_is_waited_for(monkeypatch):
    slept = []
    sleep = asyncio.sleep

    async def noted(seconds):
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(work.asyncio, "sleep", noted)
    errors = [BackendError(Reason.BACKEND_UNAVAILABLE, "busy", details=(RetryAfter(after),)) for after in (7.0, 0.0, 1e9)]
    async with listening(failing(*errors), retry={"seconds": 1, "max_pause": 2}) as source:
        await source.deliver(record())
    assert (7.0, work.MAX_AFTER_S) == (slept[0], slept[2])
    assert 1 <= slept[1] <= 2


async def test_pauses_grow_to_the_longest_and_differ(monkeypatch):
    slept = []
    sleep = asyncio.sleep

    async def noted(seconds):
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(work.asyncio, "sleep", noted)
    async with listening(failing(*[AWAY] * 6), retry={"seconds": 1, "max_pause": 4}) as source:
        await source.deliver(record())
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(slept, (1, 2, 4, 4, 4, 4), strict=True))
    assert 4 == len(set(slept[2:]))


@asynccontextmanager
async def breaking(back):
    """A breaker that is open until the event says that the backend is back."""

    async def check():
        await back.wait()

    async with Tasks() as tasks:
        breaker = Breaker("hook", BreakerConfig(failures=1, pause=0.001), check, tasks)
        breaker.failed(AWAY, Call("1", "topic", ""))
        assert breaker.open
        yield breaker


async def test_while_the_breaker_of_its_backend_is_open_a_record_waits_and_spends_no_try():
    back = asyncio.Event()
    tries = []
    before = counted(PAUSES)
    async with (
        breaking(back) as breaker,
        listening(failing(tries=tries), breaker=breaker, dead_letter="dead", retry={"attempts": 1}) as source,
        asyncio.timeout(10),
    ):
        source.take(record())
        while counted(PAUSES) == before:  # noqa: ASYNC110  a counter tells nobody
            await asyncio.sleep(0)
        assert [] == tries
        back.set()
        await source.reach(1)
    assert (1, [], before + 1) == (len(tries), source.produced, counted(PAUSES))


async def test_a_try_that_meets_an_open_breaker_is_none():
    back = asyncio.Event()
    settings = {"dead_letter": "dead", "retry": {"attempts": 1, "seconds": 0.001}}
    async with breaking(back) as breaker:
        back.set()
        await breaker.closed()
        refusals = iter((1, 1))

        async def handler(exchange):
            if next(refusals, None):
                breaker.failed(AWAY, exchange.call)
                raise breaker.refusal()
            await echo(exchange)

        async with listening(handler, breaker=breaker, **settings) as source:
            await source.deliver(record())
    assert [] == source.produced


async def test_leaving_does_not_wait_for_a_breaker():
    async with asyncio.timeout(10), breaking(asyncio.Event()) as breaker:
        before = counted(PAUSES)
        async with listening(echo, breaker=breaker) as source:
            source.take(record())
            while counted(PAUSES) == before:  # noqa: ASYNC110  a counter tells nobody
                await asyncio.sleep(0)
    assert 0 == source.done


async def test_records_are_counted_by_what_became_of_them():
    def now():
        fates = (verdict.DELIVERED, verdict.PASSED_OVER, verdict.DEAD_LETTERED)
        return [*(counted(RECORDS, fate) for fate in fates), counted(RETRIES)]

    before = now()
    async with listening(failing(AWAY, AWAY, AWAY)) as source:
        await source.deliver(record())
    async with listening(always(POISON)) as source:
        await source.deliver(record())
    async with listening(always(POISON), dead_letter="dead") as source:
        await source.deliver(record())
    assert [1, 1, 1, 3] == [after - number for after, number in zip(now(), before, strict=True)]


@pytest.mark.parametrize("order", ["key", "none"])
async def test_a_record_that_is_tried_again_holds_up_no_other_key(order):
    async def handler(exchange):
        message = await exchange.receive()
        if message.body == b"stuck":
            raise AWAY

    async with listening(handler, order=order, parallel=1, retry={"seconds": 60}) as source, asyncio.timeout(10):
        source.take(record(b"stuck"))
        before = counted(RECORDS, verdict.DELIVERED)
        for _ in range(5):
            source.take(record(key=b"other"))
        while counted(RECORDS, verdict.DELIVERED) < before + 5:  # noqa: ASYNC110  a counter tells nobody
            await asyncio.sleep(0)
    assert 0 == source.done
