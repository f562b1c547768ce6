"""What a caller asks of a tail, and where in the topic that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.errors import CallerError, FieldError, Reason
from gateway.topic.event import offsets_of
from gateway.topic.log import Log, Offsets

SNAPSHOT_LIMIT = 1000
MAX_LIMIT = 2**63 - 1
OPTIONS = frozenset({"start", "limit"})
"""What every caller of a tail may say."""

# RFC 3339 5.6; seconds may be 60 only where there was a leap second, which no clock of ours has.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STARTS = "must be earliest, latest, a cursor, or a time as in 2026-11-21T14:00:00Z"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a caller asks of a tail."""

    start: str
    limit: int | None
    credit: int | None = None
    """How many events it may be sent at first; None where it has not said."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a caller starts. `asked` is the place that it asked for, where the topic no longer has what came after that."""

    at: Offsets
    asked: Offsets | None = None


def opening_of(fields: Mapping[str, object], default: str, *, snapshot: bool) -> Opening:
    """Read `start`, `limit` and `credit`, from a URL or a message; "" and 0 are as good as absent (proto3). CallerError."""
    start = fields.get("start") or ("earliest" if snapshot else default)
    if not isinstance(start, str):
        raise wrong("start", _STARTS)
    return Opening(start, count_of(fields, "limit") or (SNAPSHOT_LIMIT if snapshot else None), count_of(fields, "credit"))


def count_of(fields: Mapping[str, object], name: str) -> int | None:
    """A field that holds a number of events, as JSON or a URL write it; None where there is none. CallerError."""
    number = fields.get(name) or None
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) <= len(str(MAX_LIMIT)):
        number = int(number) or None
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MAX_LIMIT):
        raise wrong(name, "must be a whole number, 0 for none")
    return number


def wrong(name: str, detail: str) -> CallerError:
    """For a field of a request that cannot be what it is."""
    return CallerError(Reason.MALFORMED, f"{name} {detail}", details=(FieldError(f"/{name}", detail),))


def milliseconds_of(text: str) -> int | None:
    """The time that an RFC 3339 text names, in milliseconds since 1970, rounded up: a record of that very millisecond is not
    before it. None for what is no time.
    """
    found = _TIME.match(text)
    if found is None:
        return None
    day, time, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return None
    whole = (moment - _EPOCH) // timedelta(seconds=1) * 1000
    return whole - (-int((fraction or "").ljust(9, "0")) // 1_000_000)


async def place(log: Log, topic: str, start: str) -> Start:
    """Where a start is in a topic. CallerError for a cursor that is none, or is of another topic."""
    if start == "latest":
        return Start(await log.ends(topic))
    if start == "earliest":
        return Start(await log.starts(topic))
    moment = milliseconds_of(start)
    if moment is not None:
        return Start(await log.at(topic, moment))
    try:
        cursor = offsets_of(start)
    except CallerError as error:
        raise wrong("start", _STARTS) from error
    starts = await log.starts(topic, named=cursor)
    if not cursor.keys() <= starts.keys():
        raise wrong("start", "is a cursor of another topic")
    ends = await log.ends(topic)
    if any(offset > ends[partition] for partition, offset in cursor.items()):
        # Waiting for the log to get there would skip all that comes before.
        raise wrong("start", "is a cursor of another topic")
    asked = {**starts, **cursor}
    at = forward(asked, starts)
    return Start(at, asked if at != asked else None)


def forward(at: Offsets, starts: Offsets) -> dict[int, int]:
    """A place moved on to where the topic now begins."""
    return {**at, **{partition: max(start, at.get(partition, start)) for partition, start in starts.items()}}
