"""Falling back to the spool: when, and in which order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.exchange import Call
from gateway.message import Message
from gateway.task import Tasks
from gateway.topic.fallback import falling_back
from gateway.topic.log import Place
from gateway.topic.write import Receipt
from tests.fake_spool import FakeSpool
from tests.patience import until

CALL = Call("1", "rest", "POST /")
WRITTEN = Receipt(Place("t", 0, 0, 0))


class Broker:
    """A write whose end is told, record by record."""

    def __init__(self):
        self.ends = {}
        self.tried = []
        self.written = []
        self.deadlines = []

    async def __call__(self, call, topic, record, partition):
        self.tried.append(record.body)
        self.deadlines.append(call.deadline)
        end = self.ends.setdefault(record.body, asyncio.get_running_loop().create_future())
        failure = await end
        if failure is not None:
            raise failure
        self.written.append(record.body)
        return WRITTEN

    def end(self, body, failure=None):
        self.ends.setdefault(body, asyncio.get_running_loop().create_future()).set_result(failure)


def away():
    return BackendError(Reason.UNREACHABLE, "the broker is away")


def record(body, key=b"k"):
    return Message(body, key=key)


class Ran:
    """Writes of one call each, and what became of them."""

    def __init__(self, tasks):
        self.broker, self.spool = Broker(), FakeSpool()
        self._write = falling_back(self.broker, self.spool)
        self._tasks = tasks
        self.told = {}

    async def begin(self, *bodies, key=b"k", call=CALL):
        for body in bodies:
            self._tasks.spawn(self._run(body, key, call), body.decode())
        await self.settle()

    async def _run(self, body, key, call):
        try:
            receipt = await self._write(call, "t", record(body, key), None)
        except GatewayError as error:
            self.told[body] = error.reason.value
        else:
            self.told[body] = receipt.state or "written"

    async def end(self, body, failure=None):
        self.broker.end(body, failure)
        await self.settle()

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def ran():
    async with Tasks() as tasks:
        yield Ran(tasks)


async def test_while_the_broker_is_there_nothing_is_stored(ran):
    await ran.begin(b"1")
    await ran.end(b"1")
    assert {b"1": "written"} == ran.told
    assert [] == ran.spool.bodies


@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.OVERLOADED])
async def test_what_was_not_written_and_will_not_be_is_stored(ran, reason):
    await ran.begin(b"1")
    await ran.end(b"1", BackendError(reason, "no"))
    assert {b"1": "stored"} == ran.told
    assert [b"1"] == ran.spool.bodies


@pytest.mark.parametrize(
    "failure",
    [
        BackendError(Reason.UNKNOWN_OUTCOME, "perhaps"),
        BackendError(Reason.REFUSED, "no such topic"),
        CallerError(Reason.TOO_LARGE, "too large"),
    ],
)
async def test_what_may_be_written_or_never_can_be_is_not_stored(ran, failure):
    await ran.begin(b"1")
    await ran.end(b"1", failure)
    assert {b"1": failure.reason.value} == ran.told
    assert [] == ran.spool.bodies


async def test_behind_a_record_of_its_key_that_waits_a_record_is_stored_without_asking_the_broker(ran):
    await ran.begin(b"1")
    await ran.end(b"1", away())
    await ran.begin(b"2")
    await ran.begin(b"other", key=b"j")
    assert [b"1", b"other"] == ran.broker.tried
    assert [b"1", b"2"] == ran.spool.bodies


async def test_records_of_a_key_that_fail_together_are_stored_in_the_order_in_which_they_came(ran):
    await ran.begin(b"1", b"2", b"3")
    for body in (b"3", b"1", b"2"):
        await ran.end(body, away())
    assert [b"1", b"2", b"3"] == ran.spool.bodies


async def test_one_that_comes_while_others_wait_to_be_stored_goes_behind_them(ran):
    await ran.begin(b"1", b"2")
    await ran.end(b"1", away())
    await ran.begin(b"3")
    assert [b"1", b"2"] == ran.broker.tried
    await ran.end(b"2", away())
    assert [b"1", b"2", b"3"] == ran.spool.bodies


@pytest.mark.parametrize("later", [None, BackendError(Reason.UNKNOWN_OUTCOME, "perhaps")], ids=["written", "unknown"])
async def test_one_that_a_later_one_of_its_key_has_overtaken_fails(ran, later):
    await ran.begin(b"1", b"2")
    await ran.end(b"1", away())
    assert {} == ran.told
    await ran.end(b"2", later)
    assert "unreachable" == ran.told[b"1"]
    assert [] == ran.spool.bodies


async def test_a_later_one_whose_caller_left_may_be_written(ran):
    async with Tasks() as leaving:
        gone = leaving.spawn(ran._run(b"2", b"k", CALL), "leaves")
        await ran.begin(b"1")
        await ran.end(b"1", away())
        gone.cancel()
        await ran.settle()
    assert {b"1": "stored"} == ran.told
    await ran.begin(b"3", key=b"j")
    async with Tasks() as leaving:
        gone = leaving.spawn(ran._run(b"4", b"j", CALL), "leaves")
        await ran.settle()
        await ran.end(b"3", away())
        gone.cancel()
        await ran.settle()
    assert "unreachable" == ran.told[b"3"]


async def test_keys_do_not_wait_for_each_other_nor_records_without_one(ran):
    await ran.begin(b"1", b"2", key=None)
    await ran.begin(b"a", key=b"a")
    await ran.begin(b"b", key=b"b")
    await ran.end(b"1", away())
    await ran.end(b"a", away())
    assert {b"1": "stored", b"a": "stored"} == ran.told


async def test_time_is_left_for_storing(ran):
    now = asyncio.get_running_loop().time()
    await ran.begin(b"1", call=Call("1", "rest", "POST /", deadline=now + 10))
    await ran.begin(b"2", key=b"j", call=Call("1", "rest", "POST /", deadline=now + 1))
    first, second = ran.broker.deadlines
    assert now + 7 < first < now + 8.1
    assert now + 0.3 < second < now + 0.6


async def test_one_that_waits_for_others_until_its_time_is_over_fails_and_is_never_stored(ran):
    now = asyncio.get_running_loop().time()
    await ran.begin(b"1", call=Call("1", "rest", "POST /", deadline=now + 0.1))
    await ran.begin(b"2")
    await ran.end(b"1", away())
    await until(lambda: b"1" in ran.told)
    assert {b"1": "unreachable"} == ran.told
    await ran.end(b"2", away())
    assert [b"2"] == ran.spool.bodies


async def test_a_spool_that_takes_nothing_is_the_failure_of_the_call(ran):
    ran.spool.broken = BackendError(Reason.OVERLOADED, "the spool is full")
    await ran.begin(b"1")
    await ran.end(b"1", away())
    assert {b"1": "overloaded"} == ran.told


STEPS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["written", "away", "unknown"])), max_size=10)


@given(st.integers(1, 10), STEPS)
def test_whatever_ends_in_which_order_what_is_stored_comes_after_what_is_written(count, steps):
    async def run():
        async with Tasks() as tasks:
            ran = Ran(tasks)
            bodies = [b"%d" % number for number in range(count)]
            await ran.begin(*bodies)
            ends = {"written": None, "away": away(), "unknown": BackendError(Reason.UNKNOWN_OUTCOME, "perhaps")}
            left = list(bodies)
            for at, how in steps:
                if left:
                    await ran.end(left.pop(at % len(left)), ends[how])
            for body in left:
                await ran.end(body, ends["away"])
            assert len(bodies) == len(ran.told)
            written = sorted(bodies.index(body) for body, told in ran.told.items() if told in {"written", "unknown_outcome"})
            stored = [bodies.index(body) for body in ran.spool.bodies]
            assert sorted(stored) == stored
            assert not written or not stored or written[-1] < stored[0]

    asyncio.run(run())
