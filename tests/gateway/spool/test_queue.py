"""The queue of one backend in one file."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.embedded import Embedded
from gateway.embedded.fault import StoreError
from gateway.embedded.store import Store
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.spool import archive, forward, queue
from gateway.spool.file import settings
from gateway.spool.queue import Queue
from gateway.spool.record import Stored
from gateway.task import Tasks
from tests.contract.log import PATIENCE_S, soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until

MANY = 3000


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "spool.db")


@pytest.fixture
async def file(path):
    async with Embedded(settings(path)) as file:
        yield file


@pytest.fixture
async def tasks():
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
def broker():
    return FakeLog({"t": 1})


def record(number, key=b"k"):
    return Stored(f"{number}", "t", None, Message(b"%d" % number, key=key))


async def filled(queue, count):
    await asyncio.gather(*(queue.put(record(number), 300, soon()) for number in range(count)))


async def test_more_than_memory_holds_is_forwarded_in_order(file, tasks, broker, monkeypatch):
    monkeypatch.setattr(queue, "WINDOW", (10, 1 << 20))
    one = Queue(file, "b", broker, 3600)
    await one.begin(tasks)
    await filled(one, MANY)
    async with asyncio.timeout(60):
        await one.empty()
    assert [b"%d" % number for number in range(MANY)] == [record.body for record in broker.topics["t"][0]]
    assert (0, 0) == (one.records, one.bytes)


async def test_what_is_forwarded_leaves_the_file(path, file, tasks, broker):
    one = Queue(file, "b", broker, 3600)
    await one.begin(tasks)
    await filled(one, 300)
    async with asyncio.timeout(30):
        await one.empty()
    await until(lambda: not list(archive.entries(path)))


async def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(file, tasks, broker, monkeypatch, caplog):
    monkeypatch.setattr(queue, "AGAIN_S", 0.001)
    monkeypatch.setattr(forward, "PAUSE_S", (0.001, 0.001))
    broker.broken = unreachable()
    async with Tasks() as first:
        one = Queue(file, "b", broker, 3600)
        await one.begin(first)
        await filled(one, 10)
    read = Store.read

    def failing(store, *where):
        raise StoreError("reading failed (SQLITE_IOERR)")

    monkeypatch.setattr(Store, "read", failing)
    two = Queue(file, "b", broker, 3600)
    await two.begin(tasks)
    await until(lambda: "records for b cannot be read" in caplog.text)
    monkeypatch.setattr(Store, "read", read)
    broker.broken = None
    async with asyncio.timeout(30):
        await two.empty()
    assert 10 == len(broker.topics["t"][0])


async def test_one_whose_caller_was_told_that_nobody_knows_is_forwarded_once(file, tasks, broker, monkeypatch):
    one = Queue(file, "b", broker, 3600)
    await one.begin(tasks)
    writing, commit = threading.Event(), Store.commit

    def slow(store, batch):
        if batch.rows:
            writing.wait(PATIENCE_S)
        return commit(store, batch)

    monkeypatch.setattr(Store, "commit", slow)
    with pytest.raises(BackendError) as caught:
        await one.put(record(1), 300, asyncio.get_running_loop().time() + 0.02)
    assert Reason.UNKNOWN_OUTCOME == caught.value.reason
    assert one.holds(record(2)), "it may be there, and none of its key must overtake it"
    writing.set()
    await one.put(record(2), 300, soon())
    await until(lambda: not one.records)
    assert [b"1", b"2"] == [record.body for record in broker.topics["t"][0]]
    assert (0, 0, False) == (one.records, one.bytes, one.holds(record(3)))


async def test_one_that_the_disk_refuses_after_its_caller_was_told_that_nobody_knows_holds_nobody_up(
    file, tasks, broker, monkeypatch
):
    one = Queue(file, "b", broker, 3600)
    await one.begin(tasks)
    writing = threading.Event()

    def full(_store, _batch):
        writing.wait(PATIENCE_S)
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(BackendError):
        await one.put(record(1), 300, asyncio.get_running_loop().time() + 0.02)
    writing.set()
    await until(lambda: not one.holds(record(2)))
    assert (0, 0) == (one.records, one.bytes)
