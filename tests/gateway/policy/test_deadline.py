"""The policy `deadline`. Whoever waits here waits for ever: what ends a test is the deadline, however late it comes."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason
from gateway.exchange import EndOfMessages, Exchange, Memory
from gateway.message import Many, Message
from gateway.policy import Guard
from gateway.policy.deadline import Config
from gateway.status import TABLE, outcome_of
from tests.contract.policy import Lock, PolicyContract, a_call

SOON, LATE = 0.01, 3600.0


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config()


async def _for_ever(_exchange=None) -> None:
    await asyncio.Event().wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _error(inside, exchange: Exchange | None = None, seconds: float = SOON) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await Config(seconds=seconds).build("orders", "rest")(exchange or Memory(Message(b"1"), call=a_call()), inside)
    return raised.value


async def _deadline_of(call, seconds: float = 30.0) -> float | None:
    seen = []

    async def inside(exchange):
        seen.append(exchange.call.deadline)

    await Config(seconds=seconds).build("orders", "rest")(Memory(call=call), inside)
    return seen[0]


async def test_the_inside_is_told_when_its_reply_is_due():
    before = _now()
    assert before + 30 <= await _deadline_of(a_call()) <= _now() + 30


async def test_a_caller_that_wants_it_sooner_gets_that_and_not_later():
    sooner = _now() + 10
    assert sooner == await _deadline_of(a_call(deadline=sooner))
    assert await _deadline_of(a_call(deadline=_now() + LATE)) <= _now() + 30


async def test_a_request_that_was_taken_and_not_answered_has_an_unknown_outcome():
    async def inside(exchange):
        await exchange.receive()
        await _for_ever()

    error = await _error(inside)
    assert (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN, 504) == (error.reason, outcome_of(error), TABLE[error.reason].http)


async def test_so_has_one_whose_caller_has_said_that_there_is_no_more():
    async def inside(exchange):
        with pytest.raises(EndOfMessages):
            await exchange.receive()
        await _for_ever()

    assert Reason.UNKNOWN_OUTCOME is (await _error(inside, Memory(call=a_call()))).reason


async def test_an_inside_that_never_took_the_request_has_failed_for_certain():
    error = await _error(_for_ever)
    assert (Reason.TIMED_OUT, Outcome.FAILED) == (error.reason, outcome_of(error))


async def test_a_request_that_does_not_come_is_slow():
    async def inside(exchange):
        await exchange.receive()

    error = await _error(inside, Lock(call=a_call()))
    assert (Reason.SLOW_REQUEST, True) == (error.reason, isinstance(error, CallerError))


async def test_the_callers_own_deadline_is_kept_too():
    assert Reason.TIMED_OUT is (await _error(_for_ever, Memory(call=a_call(deadline=_now() + SOON)), LATE)).reason
    assert Reason.TIMED_OUT is (await _error(_for_ever, Memory(call=a_call(deadline=_now() - 1)), LATE)).reason


async def test_a_backend_that_says_it_better_while_it_is_ended_is_believed():
    async def inside(_exchange):
        try:
            await _for_ever()
        except asyncio.CancelledError as error:
            raise BackendError(Reason.UNREACHABLE, "withdrawn in time") from error

    assert Reason.UNREACHABLE is (await _error(inside)).reason
    assert 0 == asyncio.current_task().cancelling()


async def test_the_first_reply_ends_it():
    answered = asyncio.Event()
    others = []

    async def inside(exchange):
        await exchange.send(Message(b"1"))
        # Someone else's time runs out meanwhile, and ours, had it not ended, would have before.
        others.append(await _error(_for_ever, seconds=SOON * 2))
        await exchange.send(Message(b"2"))
        answered.set()

    exchange = Memory(call=a_call())
    await Config(seconds=SOON).build("orders", "rest")(exchange, inside)
    assert [b"1", b"2"] == [reply.body for reply in exchange.replies]
    assert 1 == len(others)


@pytest.mark.parametrize("many", [Many.REPLIES, Many.BOTH])
async def test_a_stream_has_begun_once_it_says_yes(many):
    async def inside(exchange):
        await exchange.accept()
        await _error(_for_ever, seconds=SOON * 2)

    await Config(seconds=SOON).build("orders", "rest")(Memory(call=a_call(many=many)), inside)
    await Config(seconds=LATE).build("orders", "rest")(Memory(call=a_call(many=many, deadline=_now() + SOON)), inside)


async def test_a_single_reply_has_not():
    async def inside(exchange):
        await exchange.receive()
        await exchange.accept()
        await _for_ever()

    assert Reason.UNKNOWN_OUTCOME is (await _error(inside)).reason


async def test_a_caller_that_may_send_many_is_waited_for_from_its_first_message_on():
    speaks = asyncio.Event()

    class Slow(Memory):
        async def receive(self):
            await speaks.wait()
            return await super().receive()

    async def inside(exchange):
        assert exchange.call.deadline is None
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(exchange.receive())
            await _error(_for_ever, seconds=SOON * 2)
            assert not receiving.done()
            speaks.set()
        await _for_ever()

    assert Reason.UNKNOWN_OUTCOME is (await _error(inside, Slow(Message(b"1"), call=a_call(many=Many.BOTH)))).reason


async def test_many_that_wait_are_ended_each_at_its_own_time():
    policy = Config(seconds=SOON).build("orders", "rest")
    order = []

    async def one(number):
        with pytest.raises(GatewayError):
            await policy(Memory(call=a_call()), _for_ever)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(one(number))
            await _error(_for_ever, seconds=SOON / 5)
    assert list(range(5)) == order


async def test_a_caller_that_goes_away_is_no_deadline():
    policy = Config(seconds=LATE).build("orders", "rest")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await policy(Memory(call=a_call()), _for_ever)


async def test_nor_is_one_that_goes_away_while_the_deadline_passes():
    async def inside(_exchange):
        try:
            await _for_ever()
        finally:
            asyncio.current_task().cancel()

    policy = Config(seconds=SOON).build("orders", "rest")

    async def run():
        await policy(Memory(call=a_call()), inside)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
    assert task.cancelled()


async def test_what_the_task_was_told_before_is_not_forgotten():
    async def run():
        task = asyncio.current_task()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await _for_ever()
        assert Reason.TIMED_OUT is (await _error(_for_ever)).reason
        return task.cancelling()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
    assert 1 == task.result()


def test_it_guards_messages_and_gives_thirty_seconds_unless_told():
    assert 30.0 == Config().seconds
    assert Guard.MESSAGE is Config().build("orders", "rest").guards


@pytest.mark.parametrize("many", [Many.REPLIES, Many.BOTH])
async def test_a_time_that_the_caller_has_set_itself_ends_a_stream_that_has_begun(many):
    async def inside(exchange):
        await exchange.accept()
        await exchange.send(Message(b"1"))
        await _for_ever()

    memory = Memory(Message(b"1"), call=a_call(many=many, deadline=_now() + SOON, expires=_now() + SOON))
    error = await _error(inside, memory, seconds=LATE)
    assert "DEADLINE_EXCEEDED" == TABLE[error.reason].code.name
    assert [b"1"] == [reply.body for reply in memory.replies]


async def test_it_may_be_later_than_the_first_reply_must_be():
    async def inside(exchange):
        await exchange.send(Message(b"1"))
        await _for_ever()

    memory = Memory(call=a_call(many=Many.REPLIES, deadline=_now() + 5 * SOON, expires=_now() + 5 * SOON))
    assert "DEADLINE_EXCEEDED" == TABLE[(await _error(inside, memory)).reason].code.name


async def test_each_message_of_a_conversation_has_the_callers_time_too():
    expires = _now() + LATE
    part = a_call(expires=expires).part(1)
    assert (expires, expires) == (part.deadline, part.expires)
