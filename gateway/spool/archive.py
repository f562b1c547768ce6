"""The files of a spool as its commands see them, whether a gateway runs or not: read without a lock, in short looks.

A gateway never looks back at what it set aside. So that can be dropped here while it runs; and it is replayed by way of a file
of the spool that nobody has, which a gateway takes over.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote

from gateway.embedded import Embedded
from gateway.embedded.fault import StoreError
from gateway.embedded.row import OVERHEAD, offset_of, record_id
from gateway.message import NO_HEADERS, Headers
from gateway.port import Record
from gateway.spool.file import settings
from gateway.spool.path import existing, first_free
from gateway.spool.record import WAITING, Stored, kept_for, kept_in, opened, wrapped
from gateway.topic.log import Post

LOOK = 256
BUSY_S = 10.0
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a spool, and where it is."""

    file: str
    row: int
    state: str
    backend: str
    record: Stored


@dataclass(frozen=True, slots=True)
class Heap:
    """What a file holds for one backend in one state. `oldest` is in milliseconds since 1970."""

    file: str
    state: str
    backend: str
    records: int
    bytes: int
    oldest: int | None


def heaps(path: str) -> Iterator[Heap]:
    """What every file of a spool holds. Raises StoreError."""
    for file in existing(path):
        with reading(file) as db:
            for partition, topic in partitions(db):
                state, backend = kept_for(topic)
                records, size, oldest = db.execute(
                    "SELECT count(*), coalesce(sum(length(body) + coalesce(length(key), 0) + coalesce(length(headers), 0)), 0),"
                    " min(timestamp) FROM record WHERE id >= ? AND id < ?",
                    (record_id(partition, 0), record_id(partition + 1, 0)),
                ).fetchone()
                if records:
                    yield Heap(file, state, backend, records, size + OVERHEAD * records, oldest)


def entries(path: str, state: str | None = None, backend: str | None = None) -> Iterator[Entry]:
    """The records of a spool, or those in one state or for one backend, in the order of each file. Raises StoreError."""
    for file in existing(path):
        with reading(file) as db:
            for partition, topic in partitions(db):
                kept = kept_for(topic)
                if state in {None, kept[0]} and backend in {None, kept[1]}:
                    for row, record in _records(db, partition, topic):
                        yield Entry(file, row, *kept, opened(record))


def drop(chosen: Iterable[Entry]) -> int:
    """Let records go that were set aside; returns how many. Raises StoreError."""
    count = 0
    todo = iter(chosen)
    while some := list(islice(todo, LOOK)):
        for file in {entry.file for entry in some}:
            count += _drop(file, [entry for entry in some if entry.file == file])
    return count


async def replay(path: str, chosen: Iterable[Entry]) -> int:
    """Let records wait again that were set aside; returns how many. They are in the new place before they leave the old.

    Raises StoreError and BackendError.
    """
    count = 0
    todo = iter(chosen)
    while some := list(islice(todo, LOOK)):
        async with _free(path) as log:
            posts = [Post(kept_in(WAITING, entry.backend), wrapped(replace(entry.record, why=""))) for entry in some]
            await log.append_all(posts, asyncio.get_running_loop().time() + WITHIN_S)
        count += drop(some)
    return count


@asynccontextmanager
async def _free(path: str) -> AsyncIterator[Embedded]:
    """The first file of a spool that no process has."""
    async with AsyncExitStack() as stack:
        yield await first_free(path, lambda name: stack.enter_async_context(Embedded(settings(name))))


def _drop(file: str, entries: Sequence[Entry]) -> int:
    with _troubles(), closing(sqlite3.connect(file, isolation_level=None, timeout=BUSY_S)) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("BEGIN IMMEDIATE")
        gone = db.executemany(
            "DELETE FROM record WHERE id = ? AND timestamp = ?", [(entry.row, entry.record.timestamp) for entry in entries]
        )
        db.execute("COMMIT")
        return gone.rowcount


@contextmanager
def reading(file: str) -> Iterator[sqlite3.Connection]:
    """A file, to look at. StoreError where that cannot be."""
    with _troubles(), closing(sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True, timeout=BUSY_S)) as db:
        yield db


@contextmanager
def _troubles() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the spool cannot be used: {error}") from error


def partitions(db: sqlite3.Connection) -> Sequence[tuple[int, str]]:
    """The ids of its partitions, and their topics. One that another process is about to make has none yet."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        return ()
    return db.execute("SELECT id, topic FROM partition ORDER BY id").fetchall()


def _records(db: sqlite3.Connection, partition: int, topic: str) -> Iterator[tuple[int, Record]]:
    """The rows of a partition. No look is a long one: the gateway could not fold its write-ahead log meanwhile."""
    at = record_id(partition, 0)
    while rows := db.execute(
        "SELECT id, timestamp, key, body, headers FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (at, record_id(partition + 1, 0), LOOK),
    ).fetchall():
        for row, timestamp, key, body, headers in rows:
            told = Headers((name, value) for name, value in json.loads(headers)) if headers else NO_HEADERS
            yield row, Record(topic, 0, offset_of(row), timestamp, key, body, told)
        at = rows[-1][0] + 1
