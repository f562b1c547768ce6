"""The spool as its users meet it: records go in, and come out at their backend's log, whatever happens between."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway import spool as module
from gateway.embedded.fault import InDoubtError, StoreError
from gateway.embedded.store import Store
from gateway.errors import BackendError, CallerError, Reason
from gateway.file import SpoolConfig
from gateway.message import Headers, Message
from gateway.spool import Spools, archive, forward
from gateway.spool.path import existing
from gateway.task import Tasks
from tests.contract.log import everything, soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Nothing waits for long."""
    monkeypatch.setattr(forward, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "LEAVE_S", 0.05)
    monkeypatch.setattr(module, "TURN_S", 0.01)


@pytest.fixture
def config(tmp_path):
    return SpoolConfig(path=str(tmp_path / "var" / "spool.db"))


@pytest.fixture
def broker():
    return FakeLog({"t": 1, "wide": 3})


async def arrived(broker, topic, count):
    """Wait until a topic has so many records; their bodies."""
    await until(lambda: sum(map(len, broker.topics[topic])) >= count)
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


class Failing(FakeLog):
    """Fails for some bodies, in the way that is told."""

    def __init__(self, topics, failures):
        super().__init__(topics)
        self.failures = failures
        self.tried = []

    async def append(self, topic, message, deadline, *, partition=None, route=""):
        self.tried.append(message.body)
        if message.body in self.failures:
            raise self.failures[message.body]
        return await super().append(topic, message, deadline, partition=partition, route=route)


async def test_the_next_of_a_key_waits_for_the_one_before_and_other_keys_do_not(config):
    broker = Failing({"t": 1}, {b"a1": BackendError(Reason.UNKNOWN_OUTCOME, "no answer")})
    async with Spools(config, {"b": broker}) as spools:
        for body in (b"a1", b"a2", b"b1", b"b2"):
            await spools.of("b").put("t", Message(body, key=body[:1]), soon())
        await until(lambda: broker.tried.count(b"a1") > 3)
        assert [b"b1", b"b2"] == await arrived(broker, "t", 2)
        broker.failures.clear()
        assert [b"b1", b"b2", b"a1", b"a2"] == await arrived(broker, "t", 4)


async def test_a_record_without_a_key_waits_for_no_other(config):
    broker = Failing({"t": 1}, {b"1": unreachable()})
    async with Spools(config, {"b": broker}) as spools:
        for body in (b"1", b"2"):
            await spools.of("b").put("t", Message(body), soon())
        assert [b"2"] == await arrived(broker, "t", 1)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [(CallerError(Reason.TOO_LARGE, "too large for it"), 1), (BackendError(Reason.REFUSED, "no such topic"), 3)],
)
async def test_what_can_never_be_written_is_set_aside_and_told(config, caplog, failure, tries):
    broker = Failing({"t": 1}, {b"bad": failure})
    before = module.queue.SET_ASIDE.values().get(("b",), 0)
    async with Spools(config, {"b": broker}) as spools:
        bad = await spools.of("b").put("t", Message(b"bad", key=b"k"), soon())
        await spools.of("b").put("t", Message(b"good", key=b"k"), soon())
        assert [b"good"] == await arrived(broker, "t", 1)
    assert tries == broker.tried.count(b"bad")
    assert f"record {bad} for b is set aside, not forwarded: {failure.message}" in caplog.text
    assert 1 == module.queue.SET_ASIDE.values()["b",] - before
    (aside,) = (entry.record for entry in archive.entries(config.path, "aside"))
    assert (bad, "t", b"bad", failure.message) == (aside.id, aside.topic, aside.message.body, aside.why)


async def test_what_has_waited_for_too_long_is_set_aside(config, broker, monkeypatch):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(b"old"), soon())
        now = time.time()
        monkeypatch.setattr(forward.time, "time", lambda: now + config.max_age + 1)
        await until(lambda: list(archive.entries(config.path, "aside")))
    (aside,) = archive.entries(config.path)
    assert ("aside", f"it was older than {config.max_age:.0f} s") == (aside.state, aside.record.why)


async def test_a_full_spool_takes_nothing_until_there_is_room_again(tmp_path, broker):
    config = SpoolConfig(path=str(tmp_path / "spool.db"), max_bytes=1 << 20)
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        with pytest.raises(CallerError) as caught:
            await spools.of("b").put("t", Message(bytes(2 << 20)), soon())
        assert Reason.TOO_LARGE == caught.value.reason
        await spools.of("b").put("t", Message(bytes(600_000)), soon())
        with pytest.raises(BackendError) as caught:
            await spools.of("b").put("t", Message(bytes(600_000)), soon())
        assert Reason.OVERLOADED == caught.value.reason
        await spools.check()
        broker.broken = None
        await arrived(broker, "t", 1)
        await until(lambda: not spools.of("b").holds("t", Message(b"", key=b"k")))
        await spools.of("b").put("t", Message(bytes(600_000)), soon())
        await arrived(broker, "t", 2)


async def test_a_second_process_has_a_file_of_its_own_and_takes_over_what_the_first_leaves(config, broker):
    away = FakeLog({})
    away.broken = unreachable()
    async with Spools(config, {"b": broker}) as second_to_be:
        del second_to_be
        async with Spools(config, {"b": away}) as other:
            await other.of("b").put("t", Message(b"left", key=b"k"), soon())
            assert [config.path, config.path.replace("spool.db", "spool.1.db")] == existing(config.path)
        assert [b"left"] == await arrived(broker, "t", 1)
        await until(lambda: existing(config.path) == [config.path])


async def test_a_file_that_cannot_be_read_is_no_reason_to_leave_the_others_behind(config, broker, caplog):
    async with Spools(config, {"b": broker}):
        for number, content in ((1, "this is no database, and long enough to be seen as none" * 100), (2, "")):
            Path(config.path).with_name(f"spool.{number}.db").write_text(content)
        await until(lambda: "spool.2.db" not in str(existing(config.path)))
    assert "spool.1.db cannot be taken over" in caplog.text


async def test_records_for_a_backend_that_is_gone_wait_and_are_told(config, broker, caplog):
    broker.broken = unreachable()
    async with Spools(config, {"old": broker}) as spools:
        await spools.of("old").put("t", Message(b"1"), soon())
    async with Spools(config, {"b": broker}):
        assert "1 records in" in caplog.text
        assert "wait for old, no backend of topics here" in caplog.text
    broker.broken = None
    async with Spools(config, {"old": broker}):
        assert [b"1"] == await arrived(broker, "t", 1)


async def test_a_key_is_held_while_a_record_of_it_waits(config, broker):
    broker.broken = unreachable()

    def held(spool, key, partition=None):
        return spool.holds("t", Message(b"", key=key), partition=partition)

    async with Spools(config, {"b": broker}) as spools:
        spool = spools.of("b")
        await spool.put("t", Message(b"1", key=b"k"), soon())
        await spool.put("t", Message(b"1"), soon(), partition=3)
        assert (True, False, False) == (held(spool, b"k"), held(spool, b"j"), held(spool, None))
        assert (True, False) == (held(spool, b"k", 3), held(spool, b"k", 2))
        broker.broken = None
        await until(lambda: not held(spool, b"k"))


async def test_every_key_is_held_while_records_of_an_earlier_process_wait(config, broker):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(b"1", key=b"k"), soon())
    async with Spools(config, {"b": broker}) as spools:
        assert spools.of("b").holds("t", Message(b"", key=b"j"))
        broker.broken = None
        await until(lambda: not spools.of("b").holds("t", Message(b"", key=b"j")))


async def test_what_waits_is_measured(config, broker):
    broker.broken = unreachable()
    stored = module.STORED.values().get(("b",), 0)
    forwarded = module.queue.FORWARDED.values().get(("b",), 0)
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(bytes(1000)), soon())
        await until(lambda: module.OLDEST.values()["b",] > 0)
        assert 1 == module.RECORDS.values()["b",]
        assert 1000 < module.BYTES.values()["b",] < 1400
        broker.broken = None
        await until(lambda: module.RECORDS.values()["b",] == 0)
        assert (0, 0, 0) == (module.BYTES.values()["b",], module.OLDEST.values()["b",], module.BROKEN.values()[()])
    assert 1 == module.STORED.values()["b",] - stored
    assert 1 == module.queue.FORWARDED.values()["b",] - forwarded
    assert {} == module.RECORDS.values()


async def test_a_caller_that_leaves_while_the_disk_writes_is_counted_all_the_same(config, broker):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        async with Tasks() as putting:
            for number in range(50):
                putting.spawn(spools.of("b").put("t", Message(b"%d" % number, key=b"k"), soon()), f"put {number}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        broker.broken = None
        await until(lambda: module.RECORDS.values()["b",] == 0)
        assert not spools.of("b").holds("t", Message(b"", key=b"k"))
    assert [] == list(archive.entries(config.path))


async def test_after_a_failed_fsync_nothing_is_taken_and_nothing_more_is_forwarded(config, broker, monkeypatch):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(b"safe"), soon())

        def failing(store, batch):
            raise InDoubtError("writing failed (SQLITE_IOERR_FSYNC)", fatal=True)

        monkeypatch.setattr(Store, "commit", failing)
        with pytest.raises(BackendError) as caught:
            await spools.of("b").put("t", Message(b"in doubt"), soon())
        assert Reason.UNKNOWN_OUTCOME == caught.value.reason
        monkeypatch.undo()
        with pytest.raises(BackendError) as caught:
            await spools.of("b").put("t", Message(b"later"), soon())
        assert Reason.UNREACHABLE == caught.value.reason
        with pytest.raises(BackendError, match="SQLITE_IOERR_FSYNC"):
            await spools.check()
        assert 1 == module.BROKEN.values()[()]
    broker.broken = None
    async with Spools(config, {"b": broker}) as spools:
        await spools.check()
        assert [b"safe"] == await arrived(broker, "t", 1)


async def test_a_full_disk_refuses_and_is_taken_from_again_once_there_is_room(config, broker, monkeypatch):
    broker.broken = unreachable()
    async with Spools(config, {"b": broker}) as spools:
        await spools.of("b").put("t", Message(b"1"), soon())

        def failing(store, batch):
            raise StoreError("the disk is full")

        with monkeypatch.context() as full:
            full.setattr(Store, "commit", failing)
            full.setattr(Store, "probe", lambda store: failing(store, None))
            for _ in range(2):
                with pytest.raises(BackendError, match="the disk is full") as caught:
                    await spools.of("b").put("t", Message(b"no"), soon())
                assert Reason.UNREACHABLE == caught.value.reason
            with pytest.raises(BackendError, match="the disk is full"):
                await spools.check()
            broker.broken = None
            await arrived(broker, "t", 1)
        await spools.of("b").put("t", Message(b"2"), soon())
        assert [b"1", b"2"] == await arrived(broker, "t", 2)
    assert [] == list(archive.entries(config.path))


async def test_a_file_that_cannot_be_opened_is_refused(tmp_path, broker):
    (tmp_path / "spool.db").write_text("this is no database, and long enough to be seen as none" * 100)
    with pytest.raises(BackendError, match=r"spool\.db cannot be opened") as caught:
        await Spools(SpoolConfig(path=str(tmp_path / "spool.db")), {"b": broker}).__aenter__()
    assert Reason.REFUSED == caught.value.reason


async def test_what_is_stored_goes_behind_what_another_process_still_holds(config, broker):
    first = FakeLog({})
    first.broken = unreachable()
    async with Spools(config, {"b": first}) as draining:
        await draining.of("b").put("t", Message(b"1", key=b"k"), soon())
        async with Spools(config, {"b": broker}) as spools:
            spool = spools.of("b")
            assert spool.holds("t", Message(b"", key=b"k"))
            await spool.put("t", Message(b"2", key=b"k"), soon())
            await asyncio.sleep(0.05)
            assert [] == broker.topics["t"][0]
            # The one before ends, and leaves its file: it is taken over.
            await draining.__aexit__()
            assert [b"1", b"2"] == await arrived(broker, "t", 2)
            await until(lambda: not spool.holds("t", Message(b"", key=b"k")))
            await spool.put("t", Message(b"3", key=b"k"), soon())
            await arrived(broker, "t", 3)
