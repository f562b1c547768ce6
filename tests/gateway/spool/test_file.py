"""One file of the spool."""

from __future__ import annotations

import asyncio

import pytest

from gateway.message import Message
from gateway.spool import archive
from gateway.spool.file import File
from gateway.spool.record import Stored
from tests.contract.log import soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until

HOUR = 3600.0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "spool.db")


def record(body):
    return Stored("1", "t", None, Message(body))


async def test_leaving_waits_for_what_waits(path):
    broker = FakeLog({"t": 1})
    async with File(path, {"b": broker}, HOUR) as file:
        for number in range(50):
            await file.queues["b"].put(record(b"%d" % number), 300, soon())
        await file.leave(30)
        assert 50 == len(broker.topics["t"][0])


async def test_leaving_does_not_wait_for_a_backend_that_is_away(path):
    broker = FakeLog({"t": 1})
    broker.broken = unreachable()
    async with File(path, {"b": broker}, HOUR) as file:
        await file.queues["b"].put(record(b"1"), 300, soon())
        await until(lambda: file.queues["b"].away)
        async with asyncio.timeout(30):
            await file.leave(3600)


async def test_leaving_waits_no_longer_than_it_is_told(path, caplog):
    caplog.set_level("INFO")
    broker = FakeLog({"t": 1})

    async def hanging(*_, **__):
        await asyncio.Event().wait()

    broker.append = hanging
    async with File(path, {"b": broker}, HOUR) as file:
        await file.queues["b"].put(record(b"1"), 300, soon())
        await file.leave(0.01)
    assert "1 records wait in" in caplog.text


async def test_what_was_set_aside_is_weighed_again_when_another_process_drops_it(path):
    broker = FakeLog({})
    async with File(path, {"b": broker}, HOUR) as file:
        await file.queues["b"].put(record(bytes(1000)), 1300, soon())
        async with asyncio.timeout(30):
            await file.queues["b"].empty()
        assert 1000 < file.bytes
        assert 1 == archive.drop(archive.entries(path, "aside"))
        await file.look()
        assert 0 == file.bytes
