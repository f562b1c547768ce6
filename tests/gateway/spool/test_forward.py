"""Forwarding: order, bounds, and when it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.spool import forward
from gateway.spool.forward import REFUSALS, Forwarder
from gateway.spool.record import Stored
from gateway.task import Tasks
from tests.fake_log import FakeLog, unreachable
from tests.patience import until

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(forward, "PAUSE_S", (0.0001, 0.001))
    monkeypatch.setattr(forward.time, "time", lambda: 1.0)


class Settled:
    """What a forwarder was done with."""

    def __init__(self):
        self.all = []
        self.trouble = None
        self._more = asyncio.Event()

    async def __call__(self, record, why):
        if self.trouble is not None:
            raise self.trouble
        self.all.append((record.message.body, why))
        self._more.set()

    async def reach(self, count):
        async with asyncio.timeout(30):
            while len(self.all) < count:
                self._more.clear()
                await self._more.wait()
        return self.all


def record(number, key=b"k", age=0.0):
    return Stored(f"{number}", "t", None, Message(b"%d" % number, key=key), number, int((1.0 - age) * 1000))


@pytest.fixture
def settled():
    return Settled()


@pytest.fixture
def broker():
    return FakeLog({"t": 1})


@pytest.fixture
async def forwarder(broker, settled):
    forwarder = Forwarder("b", broker, settled, HOUR, (4, 1 << 20))
    async with Tasks() as tasks:
        forwarder.begin(tasks)
        yield forwarder


async def test_records_of_a_key_are_written_one_after_the_other(forwarder, settled):
    for number in range(20):
        forwarder.give(record(number))
    assert [(b"%d" % number, "") for number in range(20)] == await settled.reach(20)


async def test_there_is_room_for_no_more_than_it_may_hold(forwarder, broker, settled):
    broker.broken = unreachable()
    for number in range(4):
        forwarder.give(record(number, key=None))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await forwarder.room()
    broker.broken = None
    await settled.reach(4)
    await forwarder.room()


async def test_an_outage_and_its_end_are_told_once(forwarder, broker, settled, caplog):
    caplog.set_level("INFO")
    broker.broken = unreachable()
    forwarder.give(record(1))
    forwarder.give(record(2, b"j"))
    await until(lambda: forwarder.away)
    broker.broken = None
    await settled.reach(2)
    assert 1 == caplog.text.count("records for b wait: the log is away")
    assert 1 == caplog.text.count("b takes records again")


@pytest.mark.parametrize(
    "trouble", [BackendError(Reason.UNREACHABLE, "the disk is full"), ZeroDivisionError()], ids=["failure", "defect"]
)
async def test_what_cannot_be_noted_is_tried_again(forwarder, broker, settled, trouble):
    settled.trouble = trouble
    forwarder.give(record(1))
    await until(lambda: len(broker.topics["t"][0]) > 1)
    settled.trouble = None
    assert [(b"1", "")] == await settled.reach(1)


async def test_a_refusal_that_passes_sets_nothing_aside(forwarder, broker, settled):
    topic = broker.topics.pop("t")
    tries = 0

    async def append(*told, **more):
        nonlocal tries
        tries += 1
        if tries == REFUSALS:
            broker.topics["t"] = topic
        return await FakeLog.append(broker, *told, **more)

    broker.append = append
    forwarder.give(record(1))
    assert [(b"1", "")] == await settled.reach(1)


async def test_while_a_backend_refuses_whatever_it_be_records_wait_and_none_is_set_aside(forwarder, broker, settled, caplog):
    broker.broken = BackendError(Reason.REFUSED, "a wrong password")
    tries = 0

    async def append(*told, **more):
        nonlocal tries
        tries += 1
        return await FakeLog.append(broker, *told, **more)

    broker.append = append
    forwarder.give(record(1))
    await until(lambda: tries > 2 * REFUSALS)
    assert (True, []) == (forwarder.away, settled.all)
    assert "records for b wait: a wrong password" in caplog.text
    broker.broken = None
    assert [(b"1", "")] == await settled.reach(1)


async def test_one_that_is_too_old_is_not_tried(forwarder, broker, settled):
    forwarder.give(record(1, age=HOUR + 1))
    assert [(b"1", "it was older than 3600 s")] == await settled.reach(1)
    assert [] == broker.topics["t"][0]
