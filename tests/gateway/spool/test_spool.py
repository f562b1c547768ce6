"""The spool as its users meet it: records go in, and come out at their backend's log, whatever happens between."""

from __future__ import annotations

import asyncio

import pytest

from gateway import spool as module
from gateway.errors import BackendError, CallerError, Reason
from gateway.file import SpoolConfig
from gateway.message import Headers, Message
from gateway.spool import Spools, file, forward
from tests.contract.log import everything, soon
from tests.fake_log import FakeLog, unreachable


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Nothing waits for long."""
    monkeypatch.setattr(forward, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "LEAVE_S", 0.05)


@pytest.fixture
def config(tmp_path):
    return SpoolConfig(path=str(tmp_path / "var" / "spool.db"))


@pytest.fixture
def broker():
    return FakeLog({"t": 1, "wide": 3})


async def arrived(broker, topic, count):
    """Wait until a topic has so many records; their bodies."""
    async with asyncio.timeout(30):
        while sum(len(partition) for partition in broker.topics[topic]) < count:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)
    return [record.body for partition in broker.topics[topic] for record in partition]


async def test_what_is_put_arrives_as_it_is(config, broker):
    headers = Headers((("a", "1"), ("x-request-id", "7")))
    async with Spools(config, {"b": broker}) as spools:
        assert await spools.of("b").put("wide", Message(b"body", key=b"k", headers=headers), soon(), partition=2)
        await arrived(broker, "wide", 1)
    (record,) = await everything(broker, "wide")
    assert (2, b"k", b"body", headers) == (record.partition, record.key, record.body, record.headers)


async def test_what_waits_outlives_the_process_and_arrives_in_order(config, broker):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        for number in range(300):
            await spools.of("b").put("t", Message(b"%d" % number, key=b"k"), soon())
    broker.broken = None
    async with Spools(config, {"b": broker}):
        assert [b"%d" % number for number in range(300)] == await arrived(broker, "t", 300)
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(b"last", key=b"k"), soon())
        assert b"last" == (await arrived(broker, "t", 301))[-1]
    assert 301 == len(broker.topics["t"][0])
