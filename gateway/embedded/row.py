"""What the file holds: records and partitions. The id of a record is its partition's id and its offset in one integer, so that a
partition is a range of the one B-tree and appending never splits a page in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

OFFSET_BITS = 40
# What a record costs beyond its body, in memory or in the file, about.
OVERHEAD = 200

Row = tuple[int, int, int, bytes | None, bytes, str | None]
"""One record: id, timestamp, the bytes that its partition has seen up to and with it, key, body, headers as JSON."""


@dataclass(frozen=True, slots=True)
class Held:
    """A partition as the file has it. `upto` is the size in bytes of all that it has seen."""

    id: int
    topic: str
    number: int
    start: int
    next: int
    upto: int


def record_id(partition: int, offset: int) -> int:
    """The id of a record."""
    return partition << OFFSET_BITS | offset


def offset_of(record: int) -> int:
    """The offset in a record's id."""
    return record & ((1 << OFFSET_BITS) - 1)
