"""Topics and partitions in memory, and which partition a record goes to: by murmur2 of its key, as in Kafka."""

from __future__ import annotations

import re
from dataclasses import dataclass

# As Kafka has it: a name may come from a caller, by a template.
PATTERN = r"^[A-Za-z0-9._-]{1,249}$"
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")
NAMES = "letters, digits, dot, dash and underscore, at most 249"

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@dataclass(slots=True, eq=False)
class Partition:
    """One partition as it was last committed. `upto` is the size in bytes of all that it has seen."""

    id: int
    topic: Topic
    number: int
    start: int = 0
    next: int = 0
    upto: int = 0


@dataclass(slots=True, eq=False)
class Topic:
    """A topic. It is `stored` once the file knows its partitions: they are written with the first record."""

    name: str
    partitions: list[Partition]
    stored: bool = False
    turn: int = 0
    compacted: bool = False
    """Its records are let go one by one, when whoever keeps something in it says so, and there is no other retention."""

    def choose(self, key: bytes | None) -> Partition:
        """Where a record goes: by the key's hash, and in turn without a key."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        if key is None:
            self.turn += 1
            return self.partitions[self.turn % len(self.partitions)]
        return self.partitions[(murmur2(key) & 0x7FFFFFFF) % len(self.partitions)]


def is_name(text: str) -> bool:
    """Whether a topic can be called so."""
    return _NAME.match(text) is not None


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`), unsigned."""
    whole = len(data) & ~3
    value = _SEED ^ len(data)
    for at in range(0, whole, 4):
        part = (int.from_bytes(data[at : at + 4], "little") * _M) & _MASK
        part = ((part ^ (part >> 24)) * _M) & _MASK
        value = ((value * _M) & _MASK) ^ part
    if whole < len(data):
        value = ((value ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    value = ((value ^ (value >> 13)) * _M) & _MASK
    return value ^ (value >> 15)
