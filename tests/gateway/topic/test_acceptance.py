"""`ack: none`: answered once the log has the record in its queue."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import BackendError, Reason
from gateway.exchange import Call, Memory, Wrapper
from gateway.exposition import metrics
from gateway.message import JSON, Message
from gateway.policy.observe import Config
from gateway.target import Target
from gateway.topic import Topics
from gateway.topic.acceptance import DROPPED
from gateway.topic.log import Place
from gateway.topic.publish import PublishTo
from tests.fake_log import FakeLog, unreachable


@pytest.fixture
def log():
    return FakeLog({"orders": 1})


def handler(log, route, topic="orders"):
    return Topics(log).handler(Target(route, PublishTo(backend="b", publish=topic, ack="none"), fields=json.loads))


def observed(log, route):
    """The same, counted."""
    policy, forward = Config(log="none").build(route, "rest"), handler(log, route)
    return lambda exchange: policy(exchange, forward)


def counts(route):
    """What the metrics say of one route: accepted, in flight, and the outcomes."""
    lines = [line for line in metrics().decode().splitlines() if f'route="{route}"' in line and "exchanges" in line]
    numbers = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if "outcome" not in line}
    outcomes = {
        (line.split('outcome="')[1].split('"')[0], line.split('reason="')[1].split('"')[0]): float(line.rpartition(" ")[2])
        for line in lines
        if "outcome" in line
    }
    return numbers["polygate_exchanges_accepted_total"], numbers["polygate_exchanges_in_flight"], outcomes


async def test_the_answer_is_202_with_the_id_as_soon_as_the_log_has_the_record_in_its_queue(log):
    log.held = []
    exchange = Memory(Message(b"{}", JSON), call=Call("17", "rest", ""))
    await handler(log, "answer")(exchange)
    assert "202" == exchange.headers.get(":status")
    assert {"id": "17", "state": "accepted"} == json.loads(exchange.replies[0].body)
    assert 1 == len(log.held)


async def test_it_is_in_flight_until_it_is_acknowledged(log):
    log.held = []
    await observed(log, "settling")(Memory(Message(b"{}", JSON)))
    assert (1, 1, {}) == counts("settling")
    log.held[0].set_result(Place("orders", 0, 0, 1))
    await asyncio.sleep(0)
    assert (1, 0, {("acknowledged", ""): 1}) == counts("settling")


async def test_every_loss_is_counted_as_dropped_and_what_may_have_been_written_as_unknown(log):
    log.held = []
    for _ in range(3):
        await observed(log, "losing")(Memory(Message(b"{}", JSON)))
    log.held[0].set_exception(unreachable())
    log.held[1].set_exception(BackendError(Reason.UNKNOWN_OUTCOME, ""))
    log.held[2].cancel()
    await asyncio.sleep(0)
    reasons = ("unreachable", "unknown_outcome", "cancelled")
    ended = {("dropped", "unreachable"): 1, ("unknown", "unknown_outcome"): 1, ("dropped", "cancelled"): 1}
    assert (3, 0, ended) == counts("losing")
    assert {(("losing", reason), 1) for reason in reasons} <= set(DROPPED.values().items())


async def test_a_loss_is_counted_once_though_the_caller_did_not_get_its_answer(log):
    class Gone(Wrapper):
        async def send(self, message: Message) -> None:
            raise asyncio.CancelledError

    log.held = []
    with pytest.raises(asyncio.CancelledError):
        await observed(log, "gone")(Gone(Memory(Message(b"{}", JSON))))
    assert (1, 1, {}) == counts("gone")
    log.held[0].set_exception(unreachable())
    await asyncio.sleep(0)
    assert (1, 0, {("dropped", "unreachable"): 1}) == counts("gone")


async def test_what_the_log_cannot_take_is_a_definite_failure_and_no_loss(log):
    log.broken = unreachable()
    with pytest.raises(BackendError) as caught:
        await observed(log, "full")(Memory(Message(b"{}", JSON)))
    assert Reason.UNREACHABLE == caught.value.reason
    assert (1, 0, {("failed", "unreachable"): 1}) == counts("full")


async def test_a_log_that_does_not_take_it_by_the_deadline_is_a_definite_failure(log):
    async def never(*_args, **_kwargs):
        await asyncio.Event().wait()

    log.admit = never
    call = Call("1", "rest", "", deadline=asyncio.get_running_loop().time() + 0.02)
    with pytest.raises(BackendError) as caught:
        await handler(log, "stuck")(Memory(Message(b"{}", JSON), call=call))
    assert Reason.UNREACHABLE == caught.value.reason
