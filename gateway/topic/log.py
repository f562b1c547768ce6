"""The port of a log: topics cut into partitions of records, each with an offset. `local` and `kafka` implement it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Headers, Message
from gateway.port import Record

Offsets = Mapping[int, int]
"""An offset for each partition of a topic."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record was written; the timestamp is in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Post:
    """One record of several that are written together: its topic, and its partition where the key is not to choose it."""

    topic: str
    message: Message
    partition: int | None = None


class Reader(Protocol):
    """Reads a topic on from where it was opened. Used by one task."""

    @property
    def at(self) -> Offsets:
        """The place after what was read, and after what holds no record (compacted away, a transaction's marker)."""

    async def read(self) -> Sequence[Record]:
        """The next records, in order per partition, some hundred at the most. Waits for one, but a second at the longest.

        BackendError where the topic cannot be read now; `gone` for a place that the topic no longer has.
        """


class Log(Protocol):
    """What a broker's adapter gives. Every method ends within its own deadline."""

    async def check(self) -> None:
        """Raise the BackendError that any record would be answered with now, whatever its topic."""

    async def append(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> Place:
        """Write one record, acknowledged by the log's own durability, before `deadline` (event-loop time).

        The message's key chooses the partition unless it is told. `route` is in whose name: a log that is short of room shares it
        fairly between them. BackendError: UNREACHABLE (nothing was or will be written), UNKNOWN_OUTCOME (it may have been),
        OVERLOADED (too much waits to be written), REFUSED (no such topic or partition, not allowed). CallerError: TOO_LARGE.
        """

    async def admit(
        self, topic: str, message: Message, deadline: float, *, partition: int | None = None, route: str = ""
    ) -> asyncio.Future[Place]:
        """Take one record into the log's bounded queue, in its order there, and return what ends as `append` does.

        Raises what `append` would where that is known at once. Cancelling the future withdraws a record that was not handed over.
        """

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> Sequence[Place]:
        """Write all of several records, or none, in one transaction; their places, in the same order. Raises as `append` does."""

    async def starts(self, topic: str, *, named: Collection[int] = ()) -> Offsets:
        """The offset of the first record still held, for each partition; also of those that are `named`, of which another gateway
        may have heard before this one. BackendError(REFUSED) for an unknown topic.
        """

    async def ends(self, topic: str) -> Offsets:
        """The offset that the next record will get, for each partition."""

    async def at(self, topic: str, timestamp: int) -> Offsets:
        """The offset of the first record that is not older than a time (milliseconds since 1970), for each partition; where there
        is none, the offset that the next record will get.
        """

    async def make_compacted(self, topic: str, seconds: float) -> None:
        """Make a topic of one partition in which the latest record of each key stays for so many seconds at least, while those
        before it may be let go; or see that there is such a topic. BackendError(REFUSED) where there is another of its name.
        """

    async def forget(self, topic: str, offsets: Sequence[int]) -> None:
        """Nobody will ask for these records of a compacted topic any more. A broker that finds out by itself does nothing."""

    def reading(self, topic: str, at: Offsets) -> AbstractAsyncContextManager[Reader]:
        """Read every partition in `at` from its offset on. Without a group: other readers are not disturbed."""


class OvertakenError(CallerError):
    """A place that retention has overtaken."""


def gone(topic: str) -> OvertakenError:
    """For a place that a topic no longer has, since retention was faster. Never skipped in silence."""
    return OvertakenError(Reason.INVALID, f"{topic} no longer holds the records after this cursor; start at earliest or latest")


def not_compacted(why: str) -> BackendError:
    """The refusal of a topic that would not keep the latest record of each key."""
    return BackendError(Reason.REFUSED, f"the topic is there, and not one to keep things in: {why}")


def no_partition(count: int) -> BackendError:
    """The refusal of a partition that a topic does not have."""
    return BackendError(Reason.REFUSED, f"the topic has no such partition: it has {count}, counted from 0")


def rfc3339(milliseconds: int) -> str:
    """A timestamp as callers read it: UTC, to the millisecond (RFC 3339)."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


# Headers that the gateway gives meaning to. Callers cannot set them: they are dropped where a call becomes a record.
CORRELATION = "polygate-correlation-id"
REPLY_TO = "polygate-reply-to"
REPLY_PARTITION = "polygate-reply-partition"
ERROR = "polygate-error"
RESERVED = "polygate-"
HEADER = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"
"""How a header's name is written (RFC 9110 5.6.2)."""


def said(headers: Headers, name: str) -> str:
    """A header of a record by a name that a config gives; "" where there is none. Kafka's names come in lower case, whatever they
    were written in.
    """
    return headers.get(name) or headers.get(name.lower()) or ""
