"""The files of a spool as its commands see them."""

from __future__ import annotations

import pytest

from gateway.embedded.fault import StoreError
from gateway.file import SpoolConfig
from gateway.message import Headers, Message
from gateway.spool import Spools, archive, forward
from tests.contract.log import soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(forward, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setattr("gateway.spool.LOOK_S", 0.01)
    monkeypatch.setattr("gateway.spool.LEAVE_S", 0.05)


@pytest.fixture
def config(tmp_path):
    return SpoolConfig(path=str(tmp_path / "spool.db"))


@pytest.fixture
def broker():
    return FakeLog({"t": 3})


def aside(config):
    return list(archive.entries(config.path, "aside"))


async def refused(spools, count):
    """Have records set aside, for there is no such topic."""
    headers = Headers((("a", "1"),))
    for number in range(count):
        await spools.of("b").put("new", Message(b"%d" % number, key=b"k", headers=headers), soon(), partition=2)


async def test_what_waits_and_what_was_set_aside_is_told_while_a_gateway_runs(config, broker):
    away = FakeLog({})
    away.broken = unreachable()
    async with Spools(config, {"b": broker, "away": away}) as spools:
        await refused(spools, 2)
        await spools.of("away").put("t", Message(bytes(1000)), soon())
        await until(lambda: len(aside(config)) == 2)
        await until(lambda: len(list(archive.entries(config.path))) == 3)
        told = {(heap.backend, heap.state): heap for heap in archive.heaps(config.path)}
        assert {("b", "aside"): 2, ("away", "waiting"): 1} == {key: heap.records for key, heap in told.items()}
        assert 1000 < told["away", "waiting"].bytes < 1400
        assert [b"0", b"1"] == [entry.record.message.body for entry in archive.entries(config.path, backend="b")]


@pytest.mark.parametrize("running", [True, False])
async def test_what_is_replayed_arrives_as_it_was_meant_to(config, broker, running):
    async with Spools(config, {"b": broker}) as spools:
        await refused(spools, 300)
        await until(lambda: len(aside(config)) == 300)
        broker.topics["new"] = [[], [], []]
        if running:
            assert 300 == await archive.replay(config.path, archive.entries(config.path, "aside"))
            await until(lambda: len(broker.topics["new"][2]) == 300)
    if not running:
        assert 300 == await archive.replay(config.path, archive.entries(config.path, "aside"))
        async with Spools(config, {"b": broker}):
            await until(lambda: len(broker.topics["new"][2]) == 300)
    records = broker.topics["new"][2]
    assert [b"%d" % number for number in range(300)] == [record.body for record in records]
    assert {(b"k", (("a", "1"),))} == {(record.key, record.headers) for record in records}
    await until(lambda: not list(archive.entries(config.path)))


async def test_only_what_is_chosen_is_dropped(config, broker):
    async with Spools(config, {"b": broker}) as spools:
        await refused(spools, 3)
        await until(lambda: len(aside(config)) == 3)
        assert 1 == archive.drop(aside(config)[1:2])
        assert [b"0", b"2"] == [entry.record.message.body for entry in aside(config)]


async def test_a_file_that_is_no_spool_says_so(tmp_path):
    (tmp_path / "spool.db").write_text("this is no database, and long enough to be seen as none" * 100)
    with pytest.raises(StoreError, match="the spool cannot be used"):
        list(archive.heaps(str(tmp_path / "spool.db")))


def test_a_spool_that_was_never_made_is_empty(config):
    assert [] == list(archive.heaps(config.path))
