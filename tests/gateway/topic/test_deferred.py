"""Questions that are asked once for each idempotency key, whoever comes with it, and whoever is there when the reply comes."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.status import outcome_of
from gateway.topic.ask import AskTo
from gateway.topic.log import ERROR
from tests.fake_log import unreachable
from tests.gateway.topic.kept import asked, asker, reply

KEY = ("idempotency-key", '"1"')
PRICE = b'{"price":9}'


def once(log, kept, **spec):
    return asker(log, kept, idempotency={"window": 600}, **spec)


async def questions(log):
    return (await log.ends("asked"))[0]


def told(exchange):
    return exchange.replies[0].body, exchange.headers.get("idempotency-replayed") if exchange.headers is not None else None


async def test_a_key_is_asked_once_and_every_answer_is_its_reply(log, kept):
    async with once(log, kept) as gateway:
        waiting = asyncio.get_running_loop().create_task(gateway.ask(KEY))
        reply(log, await asked(log))
        assert [(PRICE, None), (PRICE, "true")] == [told(await waiting), told(await gateway.ask(KEY))]
        assert 1 == await questions(log)


async def test_who_comes_while_the_first_waits_for_its_reply_waits_for_the_same(log, kept):
    async with once(log, kept) as gateway, asyncio.TaskGroup() as group:
        calls = [group.create_task(gateway.ask(KEY)) for _ in range(3)]
        question = await asked(log)
        # None asks again, however late it comes.
        calls.append(group.create_task(gateway.ask(KEY)))
        reply(log, question)
    assert [PRICE] * 4 == [call.result().replies[0].body for call in calls]
    assert 1 == await questions(log)


async def test_the_same_key_with_another_question_is_refused(log, kept):
    async with once(log, kept) as gateway:
        await gateway.ask(("prefer", "respond-async"), KEY)
        with pytest.raises(CallerError) as caught:
            await gateway.ask(KEY, body=b'{"sku":"milk"}')
    assert Reason.INVALID == caught.value.reason


async def test_two_gateways_ask_once_and_both_get_the_reply(log, kept):
    async with once(log, kept) as one, once(log, kept) as other, asyncio.TaskGroup() as group:
        calls = [group.create_task(gateway.ask(KEY)) for gateway in (one, other)]
        reply(log, await asked(log))
    assert [PRICE] * 2 == [call.result().replies[0].body for call in calls]
    assert 1 == await questions(log)


async def test_a_reply_that_came_while_nobody_ran_is_given_to_who_comes_again_with_the_key(log, kept):
    async with once(log, kept) as gateway:
        with pytest.raises(BackendError) as caught:
            await gateway.ask(KEY, seconds=0.5)
        assert Reason.UNKNOWN_OUTCOME == caught.value.reason
    reply(log, await asked(log))
    async with once(log, kept) as gateway:
        assert (PRICE, "true") == told(await gateway.ask(KEY))
    assert 1 == await questions(log)


async def test_a_question_whose_gateway_died_before_it_had_noted_that_is_found_and_not_asked_again(log, kept):
    async with once(log, kept) as gateway:
        put = gateway.state.put

        async def dead(key, value, seconds):
            if key.startswith("idempotency:"):
                raise unreachable()
            await put(key, value, seconds)

        gateway.state.put = dead
        first = await gateway.later(KEY)
    async with once(log, kept) as gateway:
        # Its secret was claimed before it was asked, so it is the same.
        assert first == await gateway.later(KEY)
        reply(log, await asked(log))
        assert (PRICE, "true") == told(await gateway.ask(KEY))
    assert 1 == await questions(log)


async def test_a_question_that_may_have_been_asked_is_not_asked_again_and_its_reply_is_kept(log, kept):
    async with once(log, kept) as gateway:
        append = log.append

        async def doubtful(*said, **more):
            await append(*said, **more)
            raise BackendError(Reason.UNKNOWN_OUTCOME, "no word of it")

        log.append = doubtful
        with pytest.raises(BackendError) as caught:
            await gateway.ask(KEY)
        assert Outcome.UNKNOWN == outcome_of(caught.value)
        log.append = append
        reply(log, await asked(log))
        assert (PRICE, "true") == told(await gateway.ask(KEY))
    assert 1 == await questions(log)


async def test_a_definite_failure_frees_the_key(log, kept):
    async with once(log, kept) as gateway:
        await gateway.later(("idempotency-key", '"another"'))

        async def away(*_said, **_more):
            raise unreachable()

        append, log.append = log.append, away
        with pytest.raises(BackendError) as caught:
            await gateway.ask(KEY)
        assert Outcome.FAILED == outcome_of(caught.value)
        log.append = append
        waiting = asyncio.get_running_loop().create_task(gateway.ask(KEY))
        reply(log, await asked(log, 1))
        assert (PRICE, None) == told(await waiting)


async def test_who_prefers_so_is_told_the_same_id_each_time(log, kept):
    async with once(log, kept) as gateway:
        exchanges = [await gateway.ask(("prefer", "respond-async"), KEY) for _ in range(2)]
        (first, second) = (json.loads(exchange.replies[0].body)["id"] for exchange in exchanges)
        assert first == second
        assert [f"/quotes/{first}"] * 2 == [exchange.headers.get("location") for exchange in exchanges]
        reply(log, await asked(log))
        assert (PRICE, "true") == told(await gateway.ask(("prefer", "wait=30"), KEY))
        assert PRICE == (await gateway.fetch(first)).replies[0].body


async def test_what_the_answering_side_refused_is_refused_each_time(log, kept):
    async with once(log, kept) as gateway:
        waiting = asyncio.get_running_loop().create_task(gateway.ask(KEY))
        reply(log, await asked(log), b"", (ERROR, "backend_not_found"))
        for call in (waiting, gateway.ask(KEY, protocol="grpc")):
            with pytest.raises(BackendError) as caught:
                await call
            assert Reason.BACKEND_NOT_FOUND == caught.value.reason
    assert 1 == await questions(log)


async def test_a_question_without_a_key_is_asked_each_time_and_nothing_of_it_is_kept(log, kept):
    async with once(log, kept) as gateway:
        for number in range(2):
            waiting = asyncio.get_running_loop().create_task(gateway.ask())
            reply(log, await asked(log, number))
            assert (PRICE, None) == told(await waiting)
        assert {} == await gateway.state.all("")


async def test_each_record_that_asks_is_a_key_of_its_own(log, kept):
    async with once(log, kept) as gateway:
        waiting = [asyncio.get_running_loop().create_task(gateway.ask(protocol="topic", record="orders/0/7")) for _ in range(2)]
        reply(log, await asked(log))
        assert [PRICE] * 2 == [(await call).replies[0].body for call in waiting]
    assert 1 == await questions(log)


def test_keys_need_that_replies_are_kept():
    said = {"backend": "b", "ask": "asked", "reply_to": "answered", "idempotency": {"window": 60, "key": "{order}"}}
    (refusal,) = AskTo(**said).refusals(None)
    assert "needs later" in refusal
    spec = AskTo(**said, later={"keep": 30})
    assert () == spec.refusals(None)
    assert {("later", "keep"): 30, ("idempotency", "window"): 60} == spec.keeps()
    assert ("asked", "{order}") == spec.templates()
