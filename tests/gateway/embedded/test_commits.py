"""Group commit: which outcome a record gets, whatever the disk does."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.embedded import commits as module
from gateway.embedded.batch import Batch
from gateway.embedded.commits import Commits
from gateway.embedded.fault import InDoubtError, StoreError
from gateway.embedded.row import record_id
from gateway.embedded.topic import Partition, Topic
from gateway.errors import BackendError, Outcome, Reason
from gateway.message import Message
from gateway.status import outcome_of
from gateway.task import Tasks
from tests.contract.log import soon


class Disk:
    """A store that waits before each commit until it is let on, and fails as it is told."""

    checkpoint_due = False

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.fail: list[Exception] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def commit(self, batch: Batch) -> dict[int, int]:
        self.begun.release()
        assert self.let.acquire(timeout=30)
        if self.fail:
            raise self.fail.pop(0)
        self.batches.append(batch)
        return dict.fromkeys(batch.ends, 0)

    def probe(self) -> None:
        self.commit(Batch())

    def checkpoint(self) -> None:
        if self.fail:
            raise self.fail.pop(0)

    @property
    def bodies(self) -> list[list[bytes]]:
        return [[row[4] for row in batch.rows] for batch in self.batches]


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def partition():
    topic = Topic("t", [])
    topic.partitions.append(Partition(1, topic, 0))
    return topic.partitions[0]


@pytest.fixture
async def commits(disk):
    commits = Commits(disk, asyncio.to_thread, lambda _: None, 1000)
    async with Tasks() as tasks:
        tasks.spawn(commits.run(), "commits")
        yield commits
        for _ in range(100):
            disk.let.release()


@pytest.fixture
async def append(commits, partition):
    async with Tasks() as tasks:

        def start(body: bytes, deadline: float | None = None) -> asyncio.Task:
            return tasks.spawn(commits.append(partition, Message(body), 10, deadline or soon()), body.decode())

        yield start


async def begun(disk):
    """Wait until a transaction is with the disk."""
    assert await asyncio.to_thread(disk.begun.acquire, timeout=30)


async def failure(task):
    (error,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, BackendError)
    return error


async def test_what_comes_while_the_disk_is_busy_makes_one_transaction(disk, append):
    tasks = [append(b"first")]
    await begun(disk)
    tasks += [append(b"%d" % number) for number in range(5)]
    await asyncio.sleep(0)
    disk.let.release()
    disk.let.release()
    assert [0, 1, 2, 3, 4, 5] == [(await task).offset for task in tasks]
    assert [[b"first"], [b"0", b"1", b"2", b"3", b"4"]] == disk.bodies


async def test_a_record_whose_deadline_comes_before_the_disk_had_it_is_never_written(disk, append):
    first = append(b"first")
    await begun(disk)
    late = append(b"late", asyncio.get_running_loop().time() + 0.01)
    error = await failure(late)
    assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))
    disk.let.release()
    await first
    after = append(b"after")
    disk.let.release()
    assert 1 == (await after).offset
    assert [[b"first"], [b"after"]] == disk.bodies


@pytest.mark.slow
async def test_a_record_whose_deadline_comes_while_the_disk_has_it_is_in_doubt(disk, append):
    late = append(b"late", asyncio.get_running_loop().time() + 1)
    await begun(disk)
    assert Reason.UNKNOWN_OUTCOME == (await failure(late)).reason
    disk.let.release()
    after = append(b"after")
    disk.let.release()
    assert 1 == (await after).offset
    assert [[b"late"], [b"after"]] == disk.bodies


async def test_a_record_whose_caller_left_before_the_disk_had_it_is_never_written(disk, append):
    first = append(b"first")
    await begun(disk)
    gone = append(b"gone")
    await asyncio.sleep(0)
    gone.cancel()
    disk.let.release()
    await first
    after = append(b"after")
    disk.let.release()
    await after
    assert [[b"first"], [b"after"]] == disk.bodies


async def test_what_was_rolled_back_is_a_definite_failure_and_its_offset_is_given_again(disk, append, commits):
    disk.fail = [StoreError("the disk is full")]
    failed = append(b"failed")
    disk.let.release()
    error = await failure(failed)
    assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))
    stored = append(b"stored")
    disk.let.release()
    assert 0 == (await stored).offset
    await commits.check()


async def test_a_check_after_a_failure_finds_out_by_writing(disk, append, commits):
    disk.fail = [StoreError("the disk is full"), StoreError("the disk is full")]
    failed = append(b"failed")
    disk.let.release()
    await failure(failed)
    disk.let.release()
    with pytest.raises(BackendError, match="the disk is full"):
        await commits.check()
    disk.let.release()
    await commits.check()


async def test_what_is_in_doubt_is_unknown_and_nothing_is_taken_after_it(disk, append, commits):
    disk.fail = [InDoubtError("writing failed", fatal=True)]
    doubtful = append(b"doubtful")
    await begun(disk)
    waiting = append(b"waiting")
    await asyncio.sleep(0)
    disk.let.release()
    assert Reason.UNKNOWN_OUTCOME == (await failure(doubtful)).reason
    assert Outcome.FAILED == outcome_of(await failure(waiting))
    assert Outcome.FAILED == outcome_of(await failure(append(b"later")))
    with pytest.raises(BackendError, match="writing failed"):
        await commits.check()
    with pytest.raises(BackendError, match="writing failed"):
        await commits.flush()
    assert [] == disk.bodies


async def test_a_defect_leaves_nobody_waiting(disk, append, caplog):
    disk.fail = [ZeroDivisionError()]
    doubtful = append(b"doubtful")
    disk.let.release()
    assert Reason.UNKNOWN_OUTCOME == (await failure(doubtful)).reason
    assert Reason.UNREACHABLE == (await failure(append(b"later"))).reason
    assert "ZeroDivisionError" in caplog.text


async def test_a_log_that_cannot_be_folded_stops(disk, append, commits, caplog):
    disk.checkpoint_due = True
    stored = append(b"stored")
    await begun(disk)
    disk.fail = []
    disk.let.release()
    assert 0 == (await stored).offset
    disk.fail = [StoreError("gone", fatal=True)]
    commits._due.set()
    await commits.checkpoint()
    assert Reason.UNREACHABLE == (await failure(append(b"later"))).reason


async def test_the_queue_is_bounded_in_bytes(disk, commits, partition, append):
    first = append(b"first")
    await begun(disk)
    with pytest.raises(BackendError) as caught:
        await commits.append(partition, Message(b""), 991, soon())
    assert Reason.OVERLOADED == caught.value.reason
    disk.let.release()
    await first
    disk.let.release()
    await commits.append(partition, Message(b""), 991, soon())


async def test_a_transaction_is_bounded(disk, append, monkeypatch):
    monkeypatch.setattr(module, "BATCH_RECORDS", 3)
    first = append(b"first")
    await begun(disk)
    tasks = [append(b"%d" % number) for number in range(5)]
    await asyncio.sleep(0)
    for _ in range(3):
        disk.let.release()
    assert 5 == (await tasks[-1]).offset
    assert [1, 3, 2] == [len(bodies) for bodies in disk.bodies]
    await first


async def test_progress_rides_with_the_next_record(disk, append, commits, partition):
    commits.progress("g", partition, 7)
    commits.progress("g", partition, 8)
    first = append(b"first")
    disk.let.release()
    await first
    assert [[("g", 1, 8)]] == [batch.progress for batch in disk.batches]


async def test_progress_alone_waits_only_a_moment(disk, commits, partition):
    commits.progress("g", partition, 7)
    disk.let.release()
    await begun(disk)
    await commits.flush()
    assert [([("g", 1, 7)], [(1, "t", 0)])] == [(batch.progress, batch.partitions) for batch in disk.batches]


async def test_a_clock_that_is_set_back_does_not_turn_the_order_of_timestamps(disk, append, monkeypatch):
    times = []
    for now in (5_000_000_000, 3_000_000_000, 6_000_000_000):
        monkeypatch.setattr(module.time, "time_ns", lambda now=now: now)
        task = append(b"x")
        disk.let.release()
        times.append((await task).timestamp)
    assert [5000, 5000, 6000] == times


async def test_several_are_written_in_one_transaction_or_not_at_all(disk, commits, partition):
    posts = [(partition, Message(b"%d" % number), 10) for number in range(3)]
    disk.fail = [StoreError("the disk is full")]
    disk.let.release()
    with pytest.raises(BackendError, match="the disk is full"):
        await commits.append_all(posts, soon())
    disk.let.release()
    assert [0, 1, 2] == [place.offset for place in await commits.append_all(posts, soon())]
    assert [[b"0", b"1", b"2"]] == disk.bodies


async def test_what_is_forgotten_rides_with_the_next_record(disk, append, commits, partition):
    commits.forget(partition, [3])
    commits.forget(partition, [4])
    first = append(b"first")
    disk.let.release()
    await first
    assert [([record_id(1, 3), record_id(1, 4)], {1: 1})] == [(batch.forgotten, batch.ends) for batch in disk.batches]


async def test_what_could_not_be_forgotten_beside_records_goes_by_itself(disk, append, commits, partition):
    disk.fail = [StoreError("the disk is full")]
    commits.forget(partition, [0])
    failed = append(b"failed")
    disk.let.release()
    await failure(failed)
    waiting = append(b"waiting")
    disk.let.release()
    disk.let.release()
    await waiting
    assert [([], [record_id(1, 0)]), ([b"waiting"], [])] == [
        ([row[4] for row in one.rows], one.forgotten) for one in disk.batches
    ]


async def test_what_could_not_be_noted_is_tried_again(disk, commits, partition, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    disk.fail = [StoreError("the disk is full")]
    commits.progress("g", partition, 5)
    commits.forget(partition, [0])
    for _ in range(2):
        disk.let.release()
    await begun(disk)
    await begun(disk)
    await commits.flush()
    assert [([("g", 1, 5)], [record_id(1, 0)])] == [(batch.progress, batch.forgotten) for batch in disk.batches]
