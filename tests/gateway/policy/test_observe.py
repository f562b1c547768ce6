"""The policy `observe`: what it counts, logs and hands on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from datetime import datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason
from gateway.exchange import Exchange, Memory
from gateway.exposition import metrics
from gateway.message import Headers, Many, Message
from gateway.pipeline import answerable, conversation
from gateway.policy import Guard, observe, tally
from gateway.policy.access import Lines, flush
from gateway.policy.observe import Config, Observe
from tests.contract.policy import PolicyContract, a_call, echo

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config(log="none")


@pytest.fixture
def route():
    """A route of the test's own: metrics are the process's."""
    return f"route-{uuid4().hex}"


def numbers(route: str, name: str) -> dict[str, float]:
    """The samples of a metric for one route, by their other labels' values."""
    families = text_string_to_metric_families(metrics().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {
        ",".join(value for label, value in sample.labels.items() if label not in {"route", "protocol"}): sample.value
        for sample in samples
        if sample.labels.get("route") == route
    }


def accounts(route: str) -> tuple[float, float, dict[str, float]]:
    """Accepted, in flight, ended by outcome and reason."""
    accepted = numbers(route, "polygate_exchanges_accepted_total")
    flying = numbers(route, "polygate_exchanges_in_flight")
    return accepted.get("", 0), flying.get("", 0), numbers(route, "polygate_exchanges_total")


def raising(error: BaseException):
    """An inside that fails."""

    async def inside(_exchange):
        raise error

    return inside


async def run(policy, inside, exchange: Exchange | None = None) -> None:
    """Run it and let nothing out."""
    with contextlib.suppress(GatewayError, KeyError, asyncio.CancelledError):
        await policy(exchange or Memory(Message(b"12"), call=a_call()), inside)


@pytest.mark.parametrize(
    ("inside", "ended"),
    [
        (echo, "acknowledged,"),
        (raising(CallerError(Reason.TOO_LARGE, "x")), "failed,too_large"),
        (raising(BackendError(Reason.UNKNOWN_OUTCOME, "x")), "unknown,unknown_outcome"),
        (raising(BackendError(Reason.BAD_ANSWER, "x", outcome=Outcome.FAILED)), "failed,bad_answer"),
        (raising(asyncio.CancelledError()), "unknown,cancelled"),
        (raising(KeyError("x")), "unknown,bug"),
        (lambda exchange: exchange.accept(Headers(((":status", "202"),))), "stored,"),
        (lambda exchange: exchange.accept(Headers(((":status", "201"),))), "acknowledged,"),
    ],
)
async def test_each_exchange_ends_in_one_outcome(route, inside, ended):
    policy = Config(log="none").build(route, "rest")
    await run(policy, inside)
    assert (1, 0, {ended: 1}) == accounts(route)


async def test_the_accounts_balance_while_exchanges_are_in_flight(route):
    policy = Config(log="none").build(route, "rest")
    leave, entered = asyncio.Event(), asyncio.Semaphore(0)

    async def stays(_exchange):
        entered.release()
        await leave.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(policy(Memory(call=a_call()), stays))
            await entered.acquire()
        await run(policy, raising(CallerError(Reason.INVALID, "x")))
        assert (4, 3, {"failed,invalid": 1}) == accounts(route)
        leave.set()
    assert (4, 0, {"failed,invalid": 1, "acknowledged,": 3}) == accounts(route)


async def test_messages_bytes_and_seconds_are_counted_as_they_pass(route):
    policy = Config(log="none").build(route, "rest")
    counted = []

    async def inside(exchange):
        await exchange.send(await exchange.receive())
        await exchange.send(Message(b"123"))
        counted.append((numbers(route, "polygate_messages_total"), numbers(route, "polygate_bytes_total")))

    await run(policy, inside)
    assert [({"in": 1, "out": 2}, {"in": 2, "out": 5})] == counted
    assert {"": 1} == numbers(route, "polygate_exchange_seconds_count")
    buckets = numbers(route, "polygate_exchange_seconds_bucket")
    assert len(tally.BOUNDS) + 1 == len(buckets)
    assert 1 == buckets["+Inf"]
    assert sorted(buckets.values()) == list(buckets.values())


async def test_protocols_are_told_apart_and_a_new_policy_counts_on(route):
    for protocol in ("rest", "grpc", "rest"):
        await run(Config(log="none").build(route, protocol), echo)
    families = text_string_to_metric_families(metrics().decode())
    found = {
        sample.labels["protocol"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "polygate_exchanges_accepted_total" and sample.labels["route"] == route
    }
    assert {"rest": 2, "grpc": 1} == found


async def test_a_conversation_is_counted_apart_from_the_messages_that_are_exchanges_of_their_own(route):
    policy = Config(log="none").build(route, "websocket")

    async def answer(exchange):
        message = await exchange.receive()
        if message.body == b"bad":
            raise CallerError(Reason.INVALID, "x")
        await exchange.send(message)

    exchange = Memory(Message(b"1"), Message(b"bad"), Message(b"3"), call=a_call(many=Many.BOTH))
    await conversation([policy], answerable(answer))(exchange)
    assert (3, 0, {"acknowledged,": 2, "failed,invalid": 1}) == accounts(route)
    assert {"acknowledged,": 1} == numbers(route, "polygate_conversations_total")
    assert {"in": 3, "out": 2} == numbers(route, "polygate_messages_total")
    assert 3 == len(exchange.replies)


async def test_the_inside_sees_the_trace(route):
    seen = []

    async def inside(exchange):
        seen.append(exchange.call.headers.get("traceparent"))

    policy = Config(log="none").build(route, "rest")
    await policy(Memory(call=a_call(headers=Headers((("traceparent", PARENT),)))), inside)
    await policy(Memory(call=a_call()), inside)
    assert [PARENT[:35], False] == [seen[0][:35], seen[0] == PARENT]
    assert PARENT[3:35] != seen[1][3:35]


@pytest.fixture
def logged():
    """A policy's log, and how to read its lines."""
    read, write = os.pipe()
    lines = Lines(write)

    def taken() -> list[dict[str, object]]:
        lines.flush()
        os.set_blocking(read, False)
        try:
            return [json.loads(line) for line in os.read(read, 1 << 20).splitlines()]
        except BlockingIOError:
            return []

    yield lines, taken
    os.close(read)
    os.close(write)


async def test_an_exchange_is_one_line(logged):
    lines, taken = logged
    policy = Observe("orders", "rest", lines)
    call = a_call(target="POST /orders/ada?token=secret", headers=Headers((("traceparent", PARENT),)))

    async def inside(exchange):
        await exchange.receive()
        await exchange.send(Message(b"123"))
        assert [] == taken()

    await policy(Memory(Message(b"12"), call=call), inside)
    (line,) = taken()
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert 0 <= line.pop("ms")
    assert {
        "id": "c-1",
        "route": "orders",
        "protocol": "rest",
        "target": "POST /orders/ada",
        "outcome": "acknowledged",
        "reason": "",
        "messages_in": 1,
        "messages_out": 1,
        "bytes_in": 2,
        "bytes_out": 3,
        "trace": PARENT[3:35],
        "peer": "192.0.2.1",
    } == line


async def test_an_error_is_a_line_with_its_reason(logged):
    lines, taken = logged
    await run(Observe("orders", "rest", lines), raising(BackendError(Reason.UNREACHABLE, "x")))
    (line,) = taken()
    assert ("failed", "unreachable") == (line["outcome"], line["reason"])


@given(st.text(), st.text(), st.text())
async def test_whatever_a_caller_sends_is_one_line_of_json(route, target, peer):
    read, write = os.pipe()
    lines = Lines(write)
    await run(Observe(route, "rest", lines), echo, Memory(call=a_call(target=target, peer=peer)))
    lines.flush()
    os.close(write)
    with os.fdopen(read, "rb") as file:
        (line,) = file.readlines()
    found = json.loads(line)
    assert (route, target.partition("?")[0], peer) == (found["route"], found["target"], found["peer"])


async def test_a_long_target_is_cut(logged):
    lines, taken = logged
    await run(Observe("orders", "rest", lines), echo, Memory(call=a_call(target="GET /" + "a" * 8000)))
    assert observe.TARGET_CHARS == len(taken()[0]["target"])


async def test_the_log_goes_where_the_config_says_and_flush_writes_what_is_left(capfd):
    flush()  # what other tests of this process have left
    capfd.readouterr()
    for log in ("stdout", "stderr", "none"):
        await run(Config(log=log).build(f"to-{log}", "rest"), echo)
    flush()
    out, err = capfd.readouterr()
    assert ["to-stdout"] == [json.loads(line)["route"] for line in out.splitlines()]
    assert ["to-stderr"] == [json.loads(line)["route"] for line in err.splitlines()]
    assert "stdout" == Config().log


def test_it_guards_both():
    assert Guard.BOTH is Config().build("orders", "rest").guards


async def test_an_exchange_that_its_listener_ends_is_counted_under_the_reason_that_the_caller_is_told(logged):
    lines, taken = logged

    started = asyncio.Event()

    async def forever(_exchange):
        started.set()
        await asyncio.Event().wait()

    running = asyncio.get_running_loop().create_task(run(Observe("ended", "rest", lines), forever, Memory(call=a_call())))
    await started.wait()
    running.cancel(Reason.OVERLOADED)
    await running
    (line,) = taken()
    assert ("unknown", "overloaded") == (line["outcome"], line["reason"])
