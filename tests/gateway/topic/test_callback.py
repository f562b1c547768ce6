"""Answers that are sent to a URL which the caller named."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from gateway.errors import BackendError, CallerError, HttpAnswer, Outcome, Reason
from gateway.status import outcome_of
from gateway.topic import callback as module
from gateway.topic.callback import ATTEMPTS, CALLBACKS, Due, due_of
from gateway.topic.log import ERROR
from tests.fake_log import unreachable
from tests.gateway.topic.kept import asked, asker, reply
from tests.patience import until

URL = "https://hooks.example.com/in/ada"
SIGN = {"secret": "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"}


class Receiver:
    """What is posted to; fails as often as it is told."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = []
        self.bodies = []

    async def __call__(self, exchange):
        self.calls.append(exchange.call)
        self.bodies.append(json.loads((await exchange.receive()).body))
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", (0.001, 0.002))


def calling(log, kept, receiver, name="events", **callback):
    config = {"backends": ["hooks"], "sign": SIGN, **callback}
    later = {"keep": 600, "callback": config}
    return asker(log, kept, name=name, posts={"https://hooks.example.com/in/": receiver}, later=later)


async def ended(name, outcome):
    async with asyncio.timeout(10):
        while not CALLBACKS.values().get((name, outcome)):  # noqa: ASYNC110  counting wakes nobody
            await asyncio.sleep(0.001)


async def test_the_answer_is_posted_to_the_url_that_the_caller_named(log, kept):
    receiver = Receiver()
    async with calling(log, kept, receiver, "posted") as gateway:
        exchange = await gateway.ask(("callback-url", URL))
        told = json.loads(exchange.replies[0].body)
        assert "202" == exchange.headers.get(":status")
        reply(log, await asked(log))
        await ended("posted", "delivered")
        assert {} == await gateway.state.all("callback:")
    ((call,), (body,)) = receiver.calls, receiver.bodies
    assert ("ada", "answer.done") == (call.params["path"], body["type"])
    assert {"id": told["id"], "state": "done", "body": {"price": 9}} == body["data"]
    assert call.record.startswith("msg_later-")


async def test_a_refusal_is_posted_as_the_problem_that_it_is(log, kept):
    receiver = Receiver()
    async with calling(log, kept, receiver, "refused") as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log), b"", (ERROR, "invalid"))
        await ended("refused", "delivered")
    data = receiver.bodies[0]["data"]
    assert ("failed", "invalid", 422) == (data["state"], data["problem"]["reason"], data["problem"]["status"])


async def test_the_url_may_be_a_field_of_the_message(log, kept):
    receiver = Receiver()
    async with calling(log, kept, receiver, "field", field="callback") as gateway:
        await gateway.ask(body=json.dumps({"callback": URL}).encode())
        reply(log, await asked(log))
        await ended("field", "delivered")
        assert 1 == len(receiver.calls)
        waiting = asyncio.get_running_loop().create_task(gateway.ask(body=b'{"callback":7}'))
        reply(log, await asked(log, 1))
        assert b'{"price":9}' == (await waiting).replies[0].body


async def test_a_url_that_is_not_allowed_is_refused_and_nothing_is_asked(log, kept):
    async with calling(log, kept, Receiver()) as gateway:
        with pytest.raises(CallerError) as caught:
            await gateway.ask(("callback-url", "https://evil.example/in/ada"))
    assert (Reason.INVALID, []) == (caught.value.reason, log.topics["asked"][0])


async def test_a_callback_is_tried_again_under_the_same_id_and_with_the_same_body(log, kept):
    receiver = Receiver(unreachable(), BackendError(Reason.BACKEND_INTERNAL, "500", details=(HttpAnswer(500, b""),)))
    async with calling(log, kept, receiver, "again") as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        await ended("again", "delivered")
    assert (3, 1) == (len(receiver.calls), len({call.record for call in receiver.calls}))
    assert receiver.bodies[0] == receiver.bodies[1] == receiver.bodies[2]
    assert 2 == ATTEMPTS.values()["again",]


async def test_a_receiver_that_says_that_it_is_gone_is_not_called_again(log, kept):
    receiver = Receiver(BackendError(Reason.BACKEND_FAILED_PRECONDITION, "410", details=(HttpAnswer(410, b""),)))
    async with calling(log, kept, receiver, "gone") as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        await ended("gone", "given_up")
        assert {} == await gateway.state.all("callback:")
    assert 1 == len(receiver.calls)


async def test_a_callback_is_given_up_once_its_time_is_over(log, kept, caplog):
    receiver = Receiver(*[unreachable()] * 1000)
    async with calling(log, kept, receiver, "over", seconds=0.5) as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        await ended("over", "given_up")
    assert "a callback was given up after" in caplog.text


async def test_a_callback_is_made_by_one_gateway_of_those_that_share_the_state(log, kept):
    receiver = Receiver(*[unreachable()] * 3)
    async with calling(log, kept, receiver, "shared") as one, calling(log, kept, receiver, "shared"):
        for number in range(5):
            await one.ask(("callback-url", URL))
            reply(log, await asked(log, number))
        async with asyncio.timeout(30):
            while CALLBACKS.values().get(("shared", "delivered"), 0) < 5:  # noqa: ASYNC110  counting wakes nobody
                await asyncio.sleep(0.001)
    assert 5 + 3 == len(receiver.calls)


async def test_a_callback_that_a_gateway_has_left_behind_is_made_by_the_next(log, kept, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", (400, 400))
    receiver = Receiver(unreachable())
    async with calling(log, kept, receiver, "left") as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        async with asyncio.timeout(10):
            while not ATTEMPTS.values().get(("left",)):  # noqa: ASYNC110  counting wakes nobody
                await asyncio.sleep(0.001)
            (name,) = await gateway.state.all("callback:")
            while not due_of(await gateway.state.get(name)).tries:  # noqa: ASYNC110  the same
                await asyncio.sleep(0.001)
        due = due_of(await gateway.state.get(name))
        await gateway.state.put(name, Due(due.asked, due.url, due.id, due.until, 0, due.tries).written(), 600)
    assert time.time() + 100 < due.next
    async with calling(log, kept, receiver, "left"):
        await ended("left", "delivered")
    assert 2 == len(receiver.calls)


@pytest.mark.parametrize(
    ("name", "other"),
    [("other route", {"ask": "elsewhere", "reply_to": "back"}), ("other hooks", {"posts": {"https://elsewhere.example/": None}})],
)
async def test_a_callback_is_left_to_gateways_that_know_how_to_make_it(log, kept, monkeypatch, name, other):
    monkeypatch.setattr(module, "SWEEP_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_S", (0.1, 0.1))
    log.topics |= {"elsewhere": [[]], "back": [[]]}
    receiver, later = Receiver(*[unreachable()] * 3), {"keep": 600, "callback": {"backends": ["hooks"], "sign": SIGN}}
    stranger = asker(log, kept, **{"name": name, "later": later, **other})
    async with stranger, calling(log, kept, receiver, name) as gateway:
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        await ended(name, "delivered")
    assert (4, None) == (len(receiver.calls), CALLBACKS.values().get((name, "given_up")))


async def test_a_question_that_could_not_be_asked_has_no_callback(log, kept):
    async with calling(log, kept, Receiver()) as gateway:
        await gateway.later()
        append = log.append

        async def broken(topic, *given, **more):
            if topic == "asked":
                raise unreachable()
            return await append(topic, *given, **more)

        log.append = broken
        with pytest.raises(BackendError):
            await gateway.ask(("callback-url", URL))
        assert {} == await gateway.state.all("callback:")


async def test_a_question_whose_callback_could_not_be_kept_is_a_definite_failure(log, kept):
    async with calling(log, kept, Receiver()) as gateway:
        await gateway.later()

        async def broken(*_given):
            raise BackendError(Reason.UNKNOWN_OUTCOME, "no answer")

        gateway.state.put = broken
        with pytest.raises(BackendError) as caught:
            await gateway.ask(("callback-url", URL))
    assert (Outcome.FAILED, 1) == (outcome_of(caught.value), len(log.topics["asked"][0]))


async def test_while_the_state_is_away_a_callback_waits(log, kept, monkeypatch, caplog):
    monkeypatch.setattr(module, "SWEEP_S", 0.01)
    receiver = Receiver(unreachable())
    async with calling(log, kept, receiver, "away") as gateway:
        put = gateway.state.put

        async def broken(key, *given):
            if key.startswith("callback:") and not receiver.failures:
                gateway.state.put = put
                raise unreachable()
            await put(key, *given)

        gateway.state.put = broken
        await gateway.ask(("callback-url", URL))
        reply(log, await asked(log))
        await ended("away", "delivered")
    assert "a callback waits for the next look" in caplog.text


async def test_looking_for_what_others_left_asks_the_state_no_more_often_for_many_than_for_few(log, kept, monkeypatch):
    monkeypatch.setattr(module, "SWEEP_S", 0.001)
    looks, asked_for = 0, []
    async with calling(log, kept, Receiver()) as gateway:
        for _ in range(5):
            await gateway.ask(("callback-url", URL))
        everything, one = gateway.state.all, gateway.state.get

        async def all_(prefix):
            nonlocal looks
            looks += 1
            return await everything(prefix)

        async def get(key):
            asked_for.append(key)
            return await one(key)

        gateway.state.all, gateway.state.get = all_, get
        await until(lambda: looks > 4)
    assert [] == asked_for


def test_pauses_grow_up_to_a_bound_with_jitter(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", (1.0, 300.0))
    due, pauses = Due("asked", URL, "1", 10_000), []
    for _ in range(12):
        due = due.failed(0)
        pauses.append(due.next)
    assert all(0.5 * min(2**number, 300) <= pause <= min(2**number, 300) for number, pause in enumerate(pauses))
    assert 12 == due.tries
