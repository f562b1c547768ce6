"""The file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.embedded.batch import Batch
from gateway.embedded.fault import StoreError
from gateway.embedded.row import Held, offset_of, record_id
from gateway.embedded.store import MEMORY, PAGE_BYTES, Store


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log.db")


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def batch(*offsets, partition=1, new=False):
    return Batch(
        [(partition, "t", partition)] if new else [],
        [(record_id(partition, at), 1000 + at, 10 * (at + 1), None, b"%d" % at, None) for at in offsets],
    )


def test_partitions_are_told_with_their_ends(store):
    store.commit(batch(*range(1000), new=True))
    store.commit(batch(partition=2, new=True))
    assert [Held(1, "t", 1, 0, 1000, 10_000), Held(2, "t", 2, 0, 0, 0)] == store.partitions()


def test_a_read_is_bounded_in_records_and_bytes_and_by_its_partition(store):
    store.commit(batch(*range(10), new=True))
    store.commit(batch(0, partition=2, new=True))
    assert [4, 5, 6] == [offset_of(row[0]) for row in store.read(1, 4, 3, 1000)]
    assert [4, 5] == [offset_of(row[0]) for row in store.read(1, 4, 100, 2)]
    assert [8, 9] == [offset_of(row[0]) for row in store.read(1, 8, 100, 1000)]


def test_a_transaction_that_fails_leaves_nothing(store):
    store.commit(batch(0, 1, new=True))
    with pytest.raises(StoreError, match="SQLITE_CONSTRAINT") as caught:
        store.commit(batch(2, 3, 1))
    assert not caught.value.fatal
    assert 2 == store.partitions()[0].next
    store.commit(batch(2))


@pytest.mark.parametrize(
    ("oldest", "max_bytes", "first"),
    [
        (0, 10**9, 0),
        (1000, 10**9, 0),
        (1001, 10**9, 1),
        (1099, 10**9, 99),
        (5000, 10**9, 100),
        (0, 10, 99),
        (0, 990, 1),
        (0, 1000, 0),
    ],
)
def test_what_is_too_old_or_too_much_is_found(store, oldest, max_bytes, first):
    store.commit(batch(*range(100), new=True))
    assert first == store.overtaken(store.partitions()[0], oldest, max_bytes)


def test_what_is_trimmed_is_gone_and_the_start_says_so(store):
    store.commit(batch(*range(10), new=True))
    store.trim(1, 0, 4)
    assert [Held(1, "t", 1, 4, 10, 100)] == store.partitions()
    assert 4 == offset_of(store.read(1, 0, 1, 1000)[0][0])


def test_progress_is_kept_by_consumer_and_partition(store):
    store.commit(Batch(progress=[("a", 1, 5), ("b", 1, 6)]))
    store.commit(Batch(progress=[("a", 1, 7)]))
    assert {1: 7} == store.progress("a")
    assert {1: 6} == store.progress("b")
    assert {} == store.progress("c")


def test_the_write_ahead_log_is_folded_into_the_file(store, path, monkeypatch):
    assert not store.checkpoint_due
    monkeypatch.setattr("gateway.embedded.store.CHECKPOINT_BYTES", 1)
    store.commit(batch(*range(300), new=True))
    assert store.checkpoint_due
    store.checkpoint()
    assert not store.checkpoint_due
    store.commit(batch(300))
    assert 301 == store.partitions()[0].next


def test_every_commit_is_synchronised(store):
    assert ("wal",) == store._db.execute("PRAGMA journal_mode").fetchone()
    assert (2,) == store._db.execute("PRAGMA synchronous").fetchone()


def test_closing_leaves_one_file_and_its_lock(tmp_path, path):
    store = Store(path)
    store.commit(batch(0, new=True))
    store.close()
    assert {"log.db", "log.db.lock"} == {file.name for file in tmp_path.iterdir()}


def test_a_store_in_memory_makes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(MEMORY)
    store.commit(batch(0, new=True))
    assert [b"0"] == [row[4] for row in store.read(1, 0, 10, 1000)]
    store.close()
    assert [] == list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_says_so(store, monkeypatch):
    store._reading.execute("PRAGMA query_only = 1")
    store._db.execute("DROP TABLE record")
    with pytest.raises(StoreError, match="reading failed"):
        store.read(1, 0, 1, 1)


def test_a_full_file_is_a_definite_failure_that_may_pass(store):
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="the disk is full") as caught:
        store.commit(Batch([(1, "t", 0)], [(record_id(1, 0), 1, 1, None, bytes(100_000), None)]))
    assert not caught.value.fatal
    store._db.execute("PRAGMA max_page_count = 100000")
    store.commit(batch(0, new=True))
    assert sqlite3.SQLITE_FULL == caught.value.__cause__.sqlite_errorcode


def test_what_is_forgotten_is_gone_and_its_offset_is_never_given_again(store, path):
    store.commit(batch(*range(10), new=True))
    assert {1: 3} == store.commit(Batch(forgotten=[record_id(1, at) for at in (0, 1, 2, 5, 9)], ends={1: 10}))
    assert [Held(1, "t", 1, 3, 10, 90)] == store.partitions()
    assert [3, 4, 6, 7, 8] == [offset_of(row[0]) for row in store.read(1, 3, 100, 1000)]
    assert {1: 10} == store.commit(Batch(forgotten=[record_id(1, at) for at in (3, 4, 6, 7, 8)], ends={1: 10}))
    assert [Held(1, "t", 1, 10, 10, 0)] == store.partitions()


def test_a_place_in_time_is_found_among_records_of_which_some_are_gone(store):
    store.commit(batch(*range(10), new=True))
    store.commit(Batch(forgotten=[record_id(1, at) for at in (4, 5, 6)], ends={1: 10}))
    held = store.partitions()[0]
    places = [store.since(held, timestamp) for timestamp in (1003, 1004, 1007, 1008)]
    assert [3, 7, 7, 8] == [offset_of(store.read(1, at, 1, 1000)[0][0]) for at in places]


def test_a_partition_is_weighed_by_its_records(store):
    store.commit(batch(*range(10), new=True))
    assert (10, 10 * 201) == store.weigh(1)
    assert (0, 0) == store.weigh(2)


def test_a_file_may_be_deleted_while_nobody_else_can_have_it(tmp_path, path):
    store = Store(path)
    store.commit(batch(0, new=True))
    store.close(remove=True)
    assert {"log.db.lock"} == {file.name for file in tmp_path.iterdir()}


def test_what_another_connection_changes_is_noticed(store, path):
    store.commit(batch(0, new=True))
    before = store.touched()
    store.commit(batch(1))
    assert before == store.touched()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM record")
    db.close()
    assert before != store.touched()


def test_a_file_that_is_damaged_says_so_when_it_is_opened(path):
    store = Store(path)
    store.commit(batch(0, new=True))
    store.close()
    with Path(path).open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xff" * (3 * PAGE_BYTES))
    damaged = Store(path)
    try:
        with pytest.raises(StoreError, match="reading failed"):
            damaged.partitions()
    finally:
        damaged.close()
