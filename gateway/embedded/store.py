"""The file of the embedded log: SQLite in WAL mode with synchronous=FULL, so that what was committed was fsynced.

Everything here blocks and runs in a thread: one that writes, one that reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.embedded.batch import Batch
from gateway.embedded.fault import InDoubtError, StoreError
from gateway.embedded.lock import locked
from gateway.embedded.room import Room
from gateway.embedded.row import OVERHEAD, Held, Row, offset_of, record_id
from gateway.embedded.schema import CHECKPOINT_BYTES, connected, prepared
from gateway.embedded.statement import chunks, runs

MEMORY = ":memory:"
PAGE_BYTES = 4096
# Of the records for which there is to be room.
PROBE_BYTES = 64 << 10
# What stays free on the disk: enough for a transaction that lets go of many records.
SPARE_BYTES = 384 << 10
# No consumer is called so: the rows of it say where partitions end that records were forgotten of.
ENDS = ""
# What a transaction adds to the write-ahead log beside its records: two pages that it changes, about.
COMMIT_BYTES = 8 << 10


@contextmanager
def _read() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"reading failed ({error.sqlite_errorname})") from error


class Store:
    """One open file. `commit`, `trim` and `close` belong to the writing thread, `read` to the reading one."""

    def __init__(self, path: str) -> None:
        """Open it, make it where it is not there. LockError where it is in use; StoreError where it is newer than we are, or
        cannot be opened.
        """
        if path != MEMORY:
            path = str(Path(path).absolute())
        self._path = path
        self._lock = locked(path) if path != MEMORY else None
        try:
            self._db = connected(path)
            prepared(self._db)
            self._reading = connected(path) if path != MEMORY else self._db
        except sqlite3.Error as error:
            self._unlock()
            raise StoreError(f"{path} cannot be opened: {error}") from error
        except StoreError:
            self._unlock()
            raise
        self._room = Room(path) if path != MEMORY else None
        self._unsynced = 0

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def close(self, *, remove: bool = False) -> None:
        """Fold the write-ahead log into the file (SQLite does, with the last connection), close, let go of the lock.

        `remove`: delete the file while the lock is held. The lock's own file stays, for another process may be waiting for it.
        """
        try:
            self._reading.close()
            self._db.close()
            if remove:
                for path in (self._path, f"{self._path}-wal", f"{self._path}-shm"):
                    Path(path).unlink(missing_ok=True)
        finally:
            self._unlock()

    def touched(self) -> int:
        """A number that changes with what other connections than the writing one have changed."""
        with _read():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def weigh(self, partition: int) -> tuple[int, int]:
        """How many records a partition holds, and about how many bytes."""
        with _read():
            records, size = self._reading.execute(
                "SELECT count(*), coalesce(sum(length(body) + coalesce(length(key), 0) + coalesce(length(headers), 0)), 0)"
                " FROM record WHERE id >= ? AND id < ?",
                (record_id(partition, 0), record_id(partition + 1, 0)),
            ).fetchone()
        return records, size + OVERHEAD * records

    def partitions(self) -> list[Held]:
        """Every partition, by its id. StoreError where the file cannot be read."""
        with _read():
            return self._partitions()

    def _partitions(self) -> list[Held]:
        found = self._db.execute("SELECT id, topic, number, start FROM partition ORDER BY id").fetchall()
        # Where the last records were forgotten, their offsets are not given again.
        ends = self.progress(ENDS)
        held = []
        for number, topic, partition, start in found:
            last = self._db.execute(
                "SELECT id, upto FROM record WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1",
                (record_id(number, 0), record_id(number + 1, 0)),
            ).fetchone()
            end, upto = (offset_of(last[0]) + 1, last[1]) if last else (start, 0)
            end = max(end, ends.get(number, 0))
            held.append(Held(number, topic, partition, start, end, upto))
        return held

    def progress(self, consumer: str) -> dict[int, int]:
        """Where a consumer goes on, by partition's id."""
        return dict(self._db.execute("SELECT partition, next FROM progress WHERE consumer = ?", (consumer,)).fetchall())

    def commit(self, batch: Batch) -> dict[int, int]:
        """Write one transaction. It is on the disk when this returns; returns where partitions begin by now that records went
        from, by id.

        StoreError where it surely is not and never will be, InDoubtError where it may be.
        """
        db, size = self._db, COMMIT_BYTES + 256 * len(batch.forgotten) + sum(256 + len(row[4]) for row in batch.rows)
        self._make_room(size, records=bool(batch.rows))
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO partition (id, topic, number) VALUES (?, ?, ?)", batch.partitions)
            for statement, values in chunks(batch.rows):
                db.execute(statement, values)
            db.executemany("REPLACE INTO progress VALUES (?, ?, ?)", batch.progress)
            db.executemany("DELETE FROM record WHERE id BETWEEN ? AND ?", runs(batch.forgotten))
            starts = {partition: self._first(partition, end) for partition, end in batch.ends.items()}
            db.executemany("UPDATE partition SET start = ? WHERE id = ?", ((start, one) for one, start in starts.items()))
            db.executemany("REPLACE INTO progress VALUES (?, ?, ?)", ((ENDS, one, end) for one, end in batch.ends.items()))
        except sqlite3.Error as error:
            raise self._undone(error) from error
        self._commit()
        self._unsynced += size
        return starts

    def probe(self) -> None:
        """Find out by writing whether records would be taken. StoreError as for `commit`."""
        self._make_room(PROBE_BYTES, records=True)
        self.commit(Batch(progress=[(ENDS, 0, 0)]))

    def _make_room(self, size: int, *, records: bool) -> None:
        """Refuse records that would leave no room on the disk for letting any go: a full log could never be emptied.

        What is written is once in the write-ahead log, which begins anew when it is folded, and once in the file.
        """
        room = self._room
        if room is None or room.free() >= 2 * size + self._unsynced + SPARE_BYTES:
            return
        self.checkpoint()
        (unused,) = self._db.execute("PRAGMA freelist_count").fetchone()
        grows = max(0, size - room.log()) + max(0, size - unused * PAGE_BYTES)
        if records and grows and room.free() < grows + SPARE_BYTES:
            raise StoreError("the disk is full")

    def _first(self, partition: int, end: int) -> int:
        found = self._db.execute(
            "SELECT id FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (record_id(partition, 0), record_id(partition, end)),
        ).fetchone()
        return offset_of(found[0]) if found else end

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk took no commit frame. After any other error the frame may be in the file, and be found there by
            # whoever opens it next; a failed fsync must not be tried again, for the kernel forgets what it could not write.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise self._undone(error) from error
            raise InDoubtError(f"writing failed ({error.sqlite_errorname})", fatal=True) from error

    def _undone(self, error: sqlite3.Error) -> StoreError:
        code = error.sqlite_errorcode & 0xFF
        fatal = code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            fatal = True  # nothing was committed all the same: the file holds no commit frame
        return StoreError(
            "the disk is full" if code == sqlite3.SQLITE_FULL else f"writing failed ({error.sqlite_errorname})", fatal=fatal
        )

    @property
    def checkpoint_due(self) -> bool:
        """Whether the write-ahead log has become long."""
        return self._unsynced >= CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file. Between commits, so that nobody waits for it to be acknowledged."""
        self._unsynced = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise StoreError(f"writing failed ({error.sqlite_errorname})", fatal=True) from error

    def read(self, partition: int, at: int, limit: int, max_bytes: int) -> list[Row]:
        """Records of a partition from an offset on, at most `limit`; the one that reaches `max_bytes` is the last."""
        with _read():
            cursor = self._reading.execute(
                "SELECT id, timestamp, upto, key, body, headers FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (record_id(partition, at), record_id(partition + 1, 0), limit),
            )
            rows: list[Row] = []
            for row in cursor:
                rows.append(row)
                max_bytes -= len(row[4])
                if max_bytes <= 0:
                    break
            cursor.close()
            return rows

    def overtaken(self, held: Held, oldest: int, max_bytes: int) -> int:
        """The first offset whose record is younger than a timestamp and among the partition's last `max_bytes`."""

        def kept(offset: int) -> bool:
            # The next one that is there: a record may have been dropped from among others.
            row = self._db.execute(
                "SELECT timestamp, upto FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                (record_id(held.id, offset), record_id(held.id + 1, 0)),
            ).fetchone()
            return bool(row is None or (row[0] >= oldest and row[1] > held.upto - max_bytes))

        low, high = held.start, held.next
        if low == high or kept(low):
            return low
        # Timestamps and sizes only grow, so a look at 20 records finds the place among a million.
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if kept(middle) else (middle, high)
        return high

    def since(self, held: Held, timestamp: int) -> int:
        """The first offset of a partition whose record is not older than a timestamp; the next one's where none is."""
        low, high = held.start, held.next
        while low < high:
            middle = (low + high) // 2
            with _read():
                row = self._reading.execute(
                    "SELECT timestamp FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                    (record_id(held.id, middle), record_id(held.id, held.next)),
                ).fetchone()
            low, high = (low, middle) if row is None or row[0] >= timestamp else (middle + 1, high)
        return low

    def trim(self, partition: int, start: int, to: int) -> None:
        """Drop the records from `start` up to an offset, and say so, in one transaction. StoreError as for `commit`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "DELETE FROM record WHERE id >= ? AND id < ?", (record_id(partition, start), record_id(partition, to))
            )
            self._db.execute("UPDATE partition SET start = ? WHERE id = ?", (to, partition))
        except sqlite3.Error as error:
            raise self._undone(error) from error
        self._commit()
        self._unsynced += 256 * (to - start)
