"""Questions whose answers are fetched later: whoever asked, and whoever is there when the reply comes."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.message import Headers, Message, Notice
from gateway.status import outcome_of
from gateway.topic import later as module
from gateway.topic.answer import Answer, Pending
from gateway.topic.later import KEPT
from gateway.topic.log import CORRELATION
from gateway.topic.reply import LATE
from tests.fake_log import unreachable
from tests.gateway.topic.kept import STATE, Asker, asked, asker, reply, shelf, state_log
from tests.patience import until


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 5.0))


async def said(caplog, text):
    async with asyncio.timeout(10):
        while text not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.001)


async def fetched(gateway, secret):
    """The body of an answer, once it is there."""
    exchange = await gateway.fetch(secret, ("prefer", "wait=30"))
    return exchange.replies[0].body


async def test_a_caller_that_prefers_so_is_answered_at_once_with_where_the_answer_will_be(log, kept):
    async with asker(log, kept) as gateway:
        exchange = await gateway.ask(("prefer", "respond-async"))
        ((message,), headers) = exchange.replies, exchange.headers
        told = json.loads(message.body)
        assert ({"id", "state"}, "accepted") == (told.keys(), told["state"])
        assert isinstance(message, Notice)
        assert ("202", f"/quotes/{told['id']}", "1", "respond-async") == tuple(
            headers.get(name) for name in (":status", "location", "retry-after", "preference-applied")
        )
        question = await asked(log)
        assert told["id"] not in str(question.headers)
        reply(log, question)
        assert b'{"price":9}' == await fetched(gateway, told["id"])


async def test_without_a_preference_the_caller_waits_and_nothing_is_kept(log, kept):
    async with asker(log, kept) as gateway:
        waiting = asyncio.get_running_loop().create_task(gateway.ask())
        reply(log, await asked(log))
        exchange = await waiting
        assert (b'{"price":9}', None) == (exchange.replies[0].body, exchange.headers.get("preference-applied"))
        assert {} == await gateway.state.all("ask:")


async def test_who_waits_gets_the_answer_that_comes_in_time(log, kept):
    async with asker(log, kept) as gateway:
        waiting = asyncio.get_running_loop().create_task(gateway.ask(("prefer", "wait=30")))
        reply(log, await asked(log))
        exchange = await waiting
    assert (b'{"price":9}', None, "wait=30") == (
        exchange.replies[0].body,
        exchange.headers.get(":status"),
        exchange.headers.get("preference-applied"),
    )


async def test_who_waits_in_vain_is_told_where_the_answer_will_be(log, kept):
    async with asker(log, kept) as gateway:
        exchange = await gateway.ask(("prefer", "respond-async, wait=30"), seconds=0.2)
        assert ("202", "respond-async, wait=30") == tuple(
            exchange.headers.get(name) for name in (":status", "preference-applied")
        )
        reply(log, await asked(log))
        assert b'{"price":9}' == await fetched(gateway, json.loads(exchange.replies[0].body)["id"])


async def test_who_waits_while_the_state_is_away_is_told_where_the_answer_will_be(log, kept):
    async with asker(log, kept) as gateway:
        await gateway.later()
        waiting = asyncio.get_running_loop().create_task(gateway.ask(("prefer", "wait=30")))
        gateway.state.get = broken
        exchange = await waiting
    assert "202" == exchange.headers.get(":status")


async def test_who_waits_while_the_gateway_stops_is_told_where_the_answer_will_be(log, kept):
    async with asker(log, kept) as gateway:
        await gateway.later()
        changed, waits = gateway.state.changed, asyncio.Event()

        def wait(*question):
            waits.set()
            return changed(*question)

        gateway.state.changed = wait
        waiting = asyncio.get_running_loop().create_task(gateway.ask(("prefer", "wait=30")))
        await waits.wait()
        waiting.cancel(Reason.OVERLOADED)
        exchange = await waiting
    assert "202" == exchange.headers.get(":status")


async def broken(_key):
    raise unreachable()


async def test_a_wire_without_paths_is_told_the_id_alone(log, kept):
    async with asker(log, kept) as gateway:
        exchange = await gateway.ask(("prefer", "respond-async"), protocol="websocket")
    assert (None, "accepted") == (exchange.headers.get("location"), json.loads(exchange.replies[0].body)["state"])


async def test_an_answer_outlives_the_gateway(log, kept):
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
        reply(log, await asked(log))
        await fetched(gateway, secret)
    async with asker(log, kept) as gateway:
        assert b'{"price":9}' == await fetched(gateway, secret)


async def test_a_reply_that_comes_while_no_gateway_runs_is_kept_by_the_next(log, kept):
    async with asker(log, kept) as gateway:
        first = await gateway.later()
        second = await gateway.later()
        reply(log, await asked(log))
        await fetched(gateway, first)
    reply(log, await asked(log, 1), b"second")
    async with asker(log, kept) as gateway:
        assert (b'{"price":9}', b"second") == (await fetched(gateway, first), await fetched(gateway, second))


async def test_any_gateway_that_shares_the_state_keeps_the_reply_and_gives_the_answer(log, kept):
    async with asker(log, kept) as other:
        async with asker(log, kept) as gateway:
            secret = await gateway.later()
        reply(log, await asked(log))
        assert b'{"price":9}' == await fetched(other, secret)


async def test_gateways_that_read_one_reply_agree_and_count_nothing_as_late(log, kept):
    async with asker(log, kept, name="agree") as one, asker(log, kept, name="agree") as other:
        secret = await one.later()
        reply(log, await asked(log))
        assert b'{"price":9}' == await fetched(one, secret) == await fetched(other, secret)
        await settled(log)
    assert None is LATE.values().get(("agree",))


async def settled(log):
    """Wait until all that was written has been read by everybody."""
    log.wake()
    await asyncio.sleep(0.2)


async def test_a_second_answer_to_one_question_is_late_and_changes_nothing(log, kept):
    async with asker(log, kept, name="second") as gateway:
        secret = await gateway.later()
        question = await asked(log)
        reply(log, question)
        reply(log, question, b"other")
        assert b'{"price":9}' == await fetched(gateway, secret)
        async with asyncio.timeout(10):
            while not LATE.values().get(("second",)):  # noqa: ASYNC110  counting wakes nobody
                await asyncio.sleep(0.001)
        assert b'{"price":9}' == await fetched(gateway, secret)
    assert (1, 1) == (KEPT.values()["second",], LATE.values()["second",])


async def test_a_question_that_was_not_asked_is_not_kept(log, kept):
    async with asker(log, kept) as gateway:
        await gateway.later()
        append = log.append

        async def broken(topic, *given, **more):
            if topic == "asked":
                raise unreachable()
            return await append(topic, *given, **more)

        log.append = broken
        with pytest.raises(BackendError) as caught:
            await gateway.later()
        assert (Reason.UNREACHABLE, 1) == (caught.value.reason, len(await gateway.state.all("ask:")))


async def test_without_the_state_nothing_is_asked(log, kept):
    async with asker(log, kept) as gateway:
        await gateway.later()
        kept.broken = unreachable()
        with pytest.raises(BackendError) as caught:
            await gateway.later()
        kept.broken = None
    assert (Reason.UNREACHABLE, 1) == (caught.value.reason, len(log.topics["asked"][0]))


async def test_while_the_reply_topic_cannot_be_read_nothing_is_asked(log, kept, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.05))
    del log.topics["answered"]
    async with asker(log, kept) as gateway:
        with pytest.raises(BackendError) as caught:
            await gateway.later()
    assert (Reason.UNREACHABLE, []) == (caught.value.reason, log.topics["asked"][0])


async def test_an_answer_waits_for_the_state_and_those_behind_it_are_not_lost(log, kept, caplog):
    async with asker(log, kept) as gateway:
        secrets = [await gateway.later() for _ in range(2)]
        questions = [await asked(log, number) for number in range(2)]
        kept.broken = unreachable()
        for question in questions:
            reply(log, question)
        await said(caplog, "an answer on answered waits")
        kept.broken = None
        assert [b'{"price":9}'] * 2 == [await fetched(gateway, secret) for secret in secrets]


async def test_a_reply_topic_that_cannot_be_read_for_a_while_is_read_on_from_where_it_was(log, kept, caplog):
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
        question = await asked(log)
        log.broken = unreachable()
        log.wake()
        await said(caplog, "the log is away")
        reply(log, question)
        log.broken = None
        assert b'{"price":9}' == await fetched(gateway, secret)


async def test_a_question_that_is_asked_while_a_gateway_starts_is_not_missed_by_it(log, kept):
    ends, calls, starting, go_on = log.ends, [], asyncio.Event(), asyncio.Event()

    async def slow(topic):
        calls.append(topic)
        # The first is for the topic's reader, the second for where to begin.
        if len(calls) == 2:
            starting.set()
            await go_on.wait()
        return await ends(topic)

    async with asker(log, kept) as gateway:
        first = await gateway.later()
        reply(log, await asked(log))
        await fetched(gateway, first)
        log.ends = slow
        async with asker(log, kept) as other:
            await starting.wait()
            secret = await gateway.later()
            gateway.topics._later._running["answered"].cancel()
            reply(log, await asked(log, 1))
            go_on.set()
            assert b'{"price":9}' == await fetched(other, secret)


async def test_where_retention_has_taken_replies_away_that_is_told_and_the_others_are_kept(log, kept, caplog):
    async with asker(log, kept) as gateway:
        secrets = [await gateway.later() for _ in range(2)]
    for number in range(2):
        reply(log, await asked(log, number), b"%d" % number)
    log.drop("answered", 1)
    async with asker(log, kept) as gateway:
        assert b"1" == await fetched(gateway, secrets[1])
        assert "202" == (await gateway.fetch(secrets[0])).headers.get(":status")


async def test_a_reply_topic_that_was_made_anew_is_read_from_its_start(log, kept):
    log.put("answered", Message(b"?"))
    log.put("answered", Message(b"?"))
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
    log.remake("answered")
    reply(log, await asked(log))
    async with asker(log, kept) as gateway:
        assert b'{"price":9}' == await fetched(gateway, secret)


async def test_a_reply_topic_that_is_made_anew_while_it_is_read_is_read_on_from_what_it_holds(log, kept, caplog):
    async with asker(log, kept) as gateway:
        first = await gateway.later()
        reply(log, await asked(log))
        await fetched(gateway, first)
        secret = await gateway.later()
        log.remake("answered")
        await said(caplog, "answered no longer holds all replies that may have come")
        reply(log, await asked(log, 1))
        assert b'{"price":9}' == await fetched(gateway, secret)


async def test_that_is_so_too_where_what_it_holds_cannot_be_asked_for_at_first(log, kept, caplog):
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
        reply(log, await asked(log))
        await fetched(gateway, secret)
        starts, calls = log.starts, []

        async def away(topic, **more):
            # The feed asks first, and then who keeps the answers.
            calls.append(topic)
            if calls.count("answered") == 2:
                raise unreachable()
            return await starts(topic, **more)

        log.starts = away
        log.remake("answered")
        await said(caplog, "answers on answered wait")
        secret = await gateway.later()
        reply(log, await asked(log, 1))
        assert b'{"price":9}' == await fetched(gateway, secret)


async def test_with_another_state_replies_are_kept_in_that_from_then_on(log, kept):
    """A reload may give the gateway another."""
    async with asker(log, kept) as gateway, shelf(other := state_log()) as state:
        await gateway.later()
        changed = Asker(gateway.topics, state)
        secret = await changed.later()
        reply(log, await asked(log, 1))
        assert b'{"price":9}' == await fetched(changed, secret)
    assert [1, 0] == [sum(b"price" in record.body for record in one.topics[STATE][0]) for one in (other, kept)]


async def test_a_question_that_was_not_asked_is_told_so_though_it_cannot_be_withdrawn(log, kept, caplog):
    async with asker(log, kept) as gateway:
        await gateway.later()

        async def away(*_given, **_more):
            raise unreachable()

        log.append, gateway.state.drop = away, away
        with pytest.raises(BackendError) as caught:
            await gateway.later()
    assert Outcome.FAILED == outcome_of(caught.value)
    assert "a question that was not asked stays pending until its time is over" in caplog.text


async def test_a_caller_that_leaves_while_it_waits_is_gone(log, kept):
    async with asker(log, kept) as gateway:
        waiting = asyncio.get_running_loop().create_task(gateway.ask(("prefer", "wait=30")))
        question = await asked(log)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # Its answer is kept all the same.
        before = KEPT.values().get(("events",), 0)
        reply(log, question)
        await until(lambda: before < KEPT.values().get(("events",), 0))


async def test_an_answer_that_is_too_large_to_keep_is_told_as_such(log, kept):
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
        put = gateway.state.put

        async def small(key, value, seconds):
            if len(value) > 1000:
                raise CallerError(Reason.TOO_LARGE, "too large")
            await put(key, value, seconds)

        gateway.state.put = small
        reply(log, await asked(log), b"x" * 2000)
        with pytest.raises(BackendError) as caught:
            await fetched(gateway, secret)
    assert Reason.BAD_ANSWER is caught.value.reason


async def test_a_reply_to_a_question_whose_time_is_over_is_late(log, kept):
    async with asker(log, kept, name="over") as gateway:
        await gateway.later()
        log.put("answered", Message(b"?", headers=Headers(((CORRELATION, "later-" + "0" * 40),))))
        async with asyncio.timeout(10):
            while not LATE.values().get(("over",)):  # noqa: ASYNC110  counting wakes nobody
                await asyncio.sleep(0.001)


async def test_a_defect_is_told_and_does_not_end_the_reading(log, kept, caplog, monkeypatch):
    async with asker(log, kept) as gateway:
        secret = await gateway.later()
        broken = [True]

        def defective(record):
            if broken.pop() if broken else False:
                raise ZeroDivisionError
            return Answer(record.partition, record.offset, record.timestamp, record.body)

        monkeypatch.setattr(module, "answer_of", defective)
        reply(log, await asked(log))
        assert b'{"price":9}' == await fetched(gateway, secret)
    assert "ZeroDivisionError" in caplog.text


def test_a_gateway_starts_at_the_first_question_without_an_answer():
    places = [{0: 5, 1: 9}, {0: 7, 1: 3}]
    assert [5, 3] == [module._earliest(places, partition, 0, 100) for partition in range(2)]
    assert 100 == module._earliest([], 0, 0, 100)
    assert 6 == module._earliest(places, 0, 6, 100)
    assert 2 == module._earliest(places, 0, 2, 4)


def test_what_is_kept_of_a_question_is_no_more_than_is_needed():
    assert ("asked", "reply_to", "place", "keep") == Pending.__slots__
