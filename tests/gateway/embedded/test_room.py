"""The disk that a log is on."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.embedded.batch import Batch
from gateway.embedded.fault import StoreError
from gateway.embedded.room import Room
from gateway.embedded.row import record_id
from gateway.embedded.store import Store


def batch(*offsets, size=100):
    return Batch([(1, "t", 0)] if 0 in offsets else [], [(record_id(1, at), 1, 1, None, bytes(size), None) for at in offsets])


def gone(*offsets, end):
    return Batch(forgotten=[record_id(1, at) for at in offsets], ends={1: end})


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "log.db"))
    yield store
    store.close()


def test_a_disk_says_what_is_free_and_what_its_log_takes(store, tmp_path):
    room = Room(str(tmp_path / "log.db"))
    assert room.free() > 0
    before = room.log()
    store.commit(batch(0))
    assert room.log() > before


def test_records_are_refused_before_the_disk_is_full_and_those_that_are_there_can_go(store, monkeypatch):
    store.commit(batch(*range(50)))
    monkeypatch.setattr(Room, "free", lambda _: 100_000)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        store.commit(batch(50, size=1_000_000))
    assert not caught.value.fatal
    with pytest.raises(StoreError, match="the disk is full"):
        store.probe()
    assert {1: 50} == store.commit(gone(*range(50), end=50))


def test_what_was_let_go_gives_its_room_to_other_records(store, monkeypatch):
    store.commit(batch(*range(50), size=4000))
    monkeypatch.setattr(Room, "free", lambda _: 0)
    store.commit(gone(*range(50), end=50))
    store.commit(batch(50))
    (count,) = sqlite3.connect(store._path).execute("SELECT count(*) FROM record").fetchone()
    assert 1 == count
