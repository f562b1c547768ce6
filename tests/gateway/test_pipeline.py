"""Policies around a handler, once a call and once a message."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.exchange import EndOfMessages, Exchange, Handler, Memory
from gateway.message import NO_HEADERS, PROBLEM, Headers, Many, Message
from gateway.pipeline import IN_FLIGHT, answerable, conversation, each, pipeline
from gateway.policy import Guard
from tests.contract.policy import a_call, echo


class Note:
    """A policy that writes down when it was passed, for which exchange."""

    def __init__(self, name: str, log: list[str], guards: Guard = Guard.CALL):
        self.name = name
        self.log = log
        self.guards = guards

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        self.log.append(f"{self.name} {exchange.call.id}")
        await forward(exchange)
        self.log.append(f"{self.name} done")


def messages(number: int) -> list[Message]:
    return [Message(str(at).encode()) for at in range(number)]


def conversing(*requests: Message) -> Memory:
    return Memory(*requests, call=a_call(many=Many.BOTH))


async def answer(exchange: Exchange) -> None:
    await exchange.send(await exchange.receive())


async def test_the_first_policy_runs_outermost():
    log = []
    await pipeline([Note("a", log), Note("b", log)], echo)(Memory(call=a_call()))
    assert ["a c-1", "b c-1", "b done", "a done"] == log


async def test_without_policies_the_handler_is_alone():
    assert echo is pipeline([], echo)


async def test_in_a_conversation_each_policy_stands_where_it_guards():
    log = []
    policies = [Note("message", log, Guard.MESSAGE), Note("both", log, Guard.BOTH), Note("call", log, Guard.CALL)]
    await conversation(policies, answer)(conversing(*messages(2)))
    assert ["both c-1", "call c-1", "message c-1.1", "both c-1.1", "both done", "message done"] == log[:6]
    assert ["message c-1.2", "both c-1.2", "both done", "message done", "call done", "both done"] == log[6:]


async def test_each_message_is_an_exchange_of_its_own():
    seen = []

    async def inside(exchange):
        seen.append(exchange.call)
        await exchange.accept(Headers(((":status", "201"),)))
        await answer(exchange)
        with pytest.raises(EndOfMessages):
            await exchange.receive()

    outer = []

    class Outer(Note):
        async def __call__(self, exchange, forward):
            outer.append(exchange.call.each)
            await forward(exchange)

    call = a_call(many=Many.BOTH, deadline=1.0, params={"customer": "ada"})
    exchange = Memory(*messages(3), call=call)
    await conversation([Outer("", [])], inside)(exchange)
    assert [message.body for message in messages(3)] == [reply.body for reply in exchange.replies]
    assert [((":status", "201"),)] * 3 == [reply.headers for reply in exchange.replies]
    assert NO_HEADERS == exchange.headers
    assert [("c-1.1", 1), ("c-1.2", 2), ("c-1.3", 3)] == [(inner.id, inner.number) for inner in seen]
    assert {(Many.NEITHER, None, False)} == {(inner.many, inner.deadline, inner.each) for inner in seen}
    assert [{"customer": "ada"}] * 3 == [inner.params for inner in seen]
    assert [True] == outer


async def test_a_failed_message_is_answered_with_its_error_and_the_conversation_goes_on():
    async def inside(exchange):
        message = await exchange.receive()
        if message.body == b"1":
            raise CallerError(Reason.INVALID, "not this one")
        if message.body == b"2":
            raise KeyError("a defect")
        await exchange.send(message)

    exchange = conversing(*messages(4))
    await conversation([], answerable(inside))(exchange)
    first, invalid, bug, last = exchange.replies
    assert [Message(b"0"), Message(b"3")] == [first, last]
    assert (PROBLEM, Reason.INVALID) == (invalid.content_type, invalid.error.reason)
    assert Reason.BUG is bug.error.reason
    assert b'"id":"c-1.2"' in invalid.body


async def test_answers_come_in_order_whoever_is_ready_first():
    ready = {number: asyncio.Event() for number in (b"0", b"1", b"2")}
    order = []

    async def inside(exchange):
        message = await exchange.receive()
        await ready[message.body].wait()
        order.append(message.body)
        if message.body != b"0":
            ready[str(int(message.body) - 1).encode()].set()
        await exchange.send(message)

    ready[b"2"].set()
    exchange = conversing(*messages(3))
    await each(inside)(exchange)
    assert [b"2", b"1", b"0"] == order
    assert messages(3) == exchange.replies


async def test_no_more_are_in_flight_than_the_limit():
    inside_now, most = 0, 0
    full, leave = asyncio.Event(), asyncio.Event()

    async def inside(exchange):
        nonlocal inside_now, most
        inside_now += 1
        most = max(most, inside_now)
        if inside_now == IN_FLIGHT:
            full.set()
        await leave.wait()
        inside_now -= 1
        await answer(exchange)

    exchange = conversing(*messages(3 * IN_FLIGHT))
    async with asyncio.TaskGroup() as group:
        group.create_task(each(inside)(exchange))
        await full.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        leave.set()
    assert IN_FLIGHT == most
    assert messages(3 * IN_FLIGHT) == exchange.replies


async def test_a_message_may_have_many_answers_or_none():
    async def inside(exchange):
        message = await exchange.receive()
        for _ in range(int(message.body)):
            await exchange.send(message)

    exchange = conversing(*messages(3))
    await each(inside)(exchange)
    assert [b"1", b"2", b"2"] == [reply.body for reply in exchange.replies]


async def test_a_caller_that_goes_away_takes_every_message_with_it():
    left, started = [], asyncio.Semaphore(0)

    async def inside(_exchange):
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(True)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(each(inside)(conversing(*messages(2))))
        for _ in range(2):
            await started.acquire()
        task.cancel()
    assert task.cancelled()
    assert [True, True] == left


async def test_a_caller_that_cannot_be_answered_ends_the_conversation():
    class Broken(Memory):
        async def send(self, message):
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await each(answer)(Broken(*messages(2), call=a_call(many=Many.BOTH)))


async def test_an_unknown_exception_is_logged_with_the_id_and_answered_without_the_cause(caplog):
    async def inside(_exchange):
        raise KeyError("secret")

    with pytest.raises(GatewayError) as raised:
        await answerable(inside)(Memory(call=a_call()))
    assert (Reason.BUG, "something went wrong here (c-1)") == (raised.value.reason, raised.value.message)
    (record,) = caplog.records
    assert (logging.ERROR, "exchange c-1 failed") == (record.levelno, record.getMessage())


async def test_a_request_without_its_message_is_the_callers_fault():
    with pytest.raises(GatewayError) as raised:
        await answerable(answer)(Memory(call=a_call()))
    assert raised.value.reason in {Reason.MALFORMED, Reason.NO_MESSAGE}


async def test_an_error_of_ours_passes_as_it_is(caplog):
    error = BackendError(Reason.UNREACHABLE, "x")

    async def inside(_exchange):
        raise error

    with pytest.raises(BackendError) as raised:
        await answerable(inside)(Memory(call=a_call()))
    assert error is raised.value
    assert [] == caplog.records


async def test_a_cancellation_passes_as_it_is(caplog):
    async def inside(_exchange):
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(answerable(inside)(Memory(call=a_call())))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert [] == caplog.records


async def test_a_cancellation_by_nobody_is_a_defect_and_no_answer_is_waited_for_in_vain(caplog):
    async def inside(exchange):
        message = await exchange.receive()
        if message.body == b"1":
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        await exchange.send(message)

    exchange = conversing(*messages(3 * IN_FLIGHT))
    async with asyncio.timeout(10):
        await each(answerable(inside))(exchange)
    assert 3 * IN_FLIGHT == len(exchange.replies)
    assert b"something went wrong here" in exchange.replies[1].body
    assert "c-1.2 failed" in caplog.text
