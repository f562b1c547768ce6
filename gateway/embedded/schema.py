"""How the file of a log is opened and what is in it."""

from __future__ import annotations

import sqlite3

from gateway.embedded.fault import StoreError

VERSION = 1
CHECKPOINT_BYTES = 16 << 20

SCHEMA = f"""
CREATE TABLE partition (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
    start INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number));
CREATE TABLE record (
    id INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, upto INTEGER NOT NULL,
    key BLOB, body BLOB NOT NULL, headers TEXT);
CREATE TABLE progress (
    consumer TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (consumer, partition)) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


def connected(path: str) -> sqlite3.Connection:
    """A connection, for whichever thread uses it first."""
    # isolation_level None: transactions begin where we say so.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)


def prepared(db: sqlite3.Connection) -> None:
    """Set the durability, and make or check the schema."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    # SQLite would checkpoint inside a commit, make its caller wait, and keep an error to itself.
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_BYTES}")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    elif version == 0:
        raise StoreError("the file is a database of something else")
    elif version != VERSION:
        raise StoreError(f"the file has version {version}, and this gateway knows {VERSION}: it was written by a newer one")
