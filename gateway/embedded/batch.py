"""One transaction: what goes into it, as the event loop has it and as the file gets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.embedded.append import Append
from gateway.embedded.row import Row, record_id
from gateway.embedded.topic import Partition, Topic
from gateway.message import Message
from gateway.topic.log import Place

# In ASCII: a header may hold what UTF-8 cannot. `json.dumps` with settings would make an encoder for every record.
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False)


@dataclass(slots=True)
class Batch:
    """One transaction, as the file gets it."""

    partitions: list[tuple[int, str, int]] = field(default_factory=list)
    """New ones: id, topic, number."""
    rows: list[Row] = field(default_factory=list)
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    """Consumer, partition's id, the offset that it goes on at."""
    forgotten: list[int] = field(default_factory=list)
    """The ids of records that go."""
    ends: dict[int, int] = field(default_factory=dict)
    """The partitions that they go from, by id, each with the offset of its next record: where it begins if none is left."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.progress or self.forgotten)


@dataclass(slots=True)
class Round:
    """What goes into one transaction, and is told what became of it. The file gets its `batch`."""

    batch: Batch = field(default_factory=Batch)
    appends: list[Append] = field(default_factory=list)
    written: list[tuple[Message, Place]] = field(default_factory=list)
    topics: list[Topic] = field(default_factory=list)
    """Those that the file does not know yet."""
    ends: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    """By partition, the offset of its next record once this is written, and the bytes that it has seen by then."""
    flushed: list[asyncio.Future[None]] = field(default_factory=list)
    progress: dict[tuple[str, Partition], int] = field(default_factory=dict)
    forgotten: dict[Partition, list[int]] = field(default_factory=dict)
    size: int = 0
    """Of its records, in bytes."""

    def take(self, waiting: Append, now: int) -> None:
        """Let records go with it, at a time in milliseconds since 1970: nobody can withdraw them any more."""
        rows = self.batch.rows
        for partition, message, size in waiting.posts:
            self._introduce(partition.topic)
            offset, upto = self.ends.get(partition) or (partition.next, partition.upto)
            upto += size
            self.ends[partition] = (offset + 1, upto)
            self.written.append((message, Place(partition.topic.name, partition.number, offset, now)))
            headers = _JSON.encode(message.headers) if message.headers else None
            rows.append((record_id(partition.id, offset), now, upto, message.key, message.body, headers))
        self.size += waiting.size
        self.appends.append(waiting)
        waiting.handed = True

    def note(self, progress: dict[tuple[str, Partition], int], forgotten: dict[Partition, list[int]]) -> None:
        """Let ride with its records where consumers go on, and which records are forgotten. After the last `take`."""
        self.progress, self.forgotten = progress, forgotten
        batch = self.batch
        for (consumer, partition), at in progress.items():
            self._introduce(partition.topic)
            batch.progress.append((consumer, partition.id, at))
        for partition, offsets in forgotten.items():
            batch.forgotten.extend(record_id(partition.id, offset) for offset in offsets)
            end, _ = self.ends.get(partition) or (partition.next, 0)
            batch.ends[partition.id] = end

    def _introduce(self, topic: Topic) -> None:
        if not topic.stored and topic not in self.topics:
            self.topics.append(topic)
            self.batch.partitions.extend((partition.id, topic.name, partition.number) for partition in topic.partitions)

    def succeed(self, starts: Mapping[int, int]) -> None:
        """It is on the disk; `starts` says where partitions begin by now that records went from, by id."""
        for topic in self.topics:
            topic.stored = True
        for partition, (offset, upto) in self.ends.items():
            partition.next, partition.upto = offset, upto
        for partition in self.forgotten:
            partition.start = starts[partition.id]
        at = 0
        for waiting in self.appends:
            count = len(waiting.posts)
            waiting.written([place for _, place in self.written[at : at + count]])
            at += count
