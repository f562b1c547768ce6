"""What waits in other files when one is opened: of a worker that was here before, of a gateway that still drains.

Its keys may be those that come next, so what is stored from now on goes behind it. It only ever waits for what was there before
it was: nobody can wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.embedded.row import record_id
from gateway.spool.archive import partitions, reading
from gateway.spool.path import existing
from gateway.spool.record import WAITING, kept_for


@dataclass(frozen=True, slots=True)
class Older:
    """The records of one backend in one file, up to a row."""

    file: str
    backend: str
    partition: int
    last: int


def older(path: str, own: str) -> list[Older]:
    """What waits in the files of a spool beside one's own. Raises StoreError."""
    found = []
    for file in existing(path):
        if file == own:
            continue
        with reading(file) as db:
            for partition, topic in partitions(db):
                state, backend = kept_for(topic)
                (last,) = db.execute("SELECT max(id) FROM record WHERE id >= ? AND id < ?", _range(partition)).fetchone()
                if state == WAITING and last is not None:
                    found.append(Older(file, backend, partition, last))
    return found


def left(waited: Iterable[Older]) -> list[Older]:
    """Those of which something waits still. Raises StoreError."""
    return [one for one in waited if Path(one.file).exists() and _waits(one)]


def _waits(one: Older) -> bool:
    with reading(one.file) as db:
        (first,) = db.execute("SELECT min(id) FROM record WHERE id >= ? AND id < ?", _range(one.partition)).fetchone()
        return first is not None and first <= one.last


def _range(partition: int) -> tuple[int, int]:
    return record_id(partition, 0), record_id(partition + 1, 0)
