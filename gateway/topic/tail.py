"""The verb `tail`: a topic, out to the caller, each message with its cursor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from gateway.codec import Contract
from gateway.errors import CallerError, FieldError, Reason
from gateway.exchange import EndOfMessages, Exchange, Handler
from gateway.expression import ExpressionError
from gateway.message import Many, Message
from gateway.port import Record, Target, TargetConfig
from gateway.template import Template
from gateway.topic.event import cursor_of, offsets_of
from gateway.topic.feed import Feeds, Follower, gone
from gateway.topic.filter import Filter, Selection
from gateway.topic.log import Log, Offsets

SNAPSHOT_LIMIT = 1000
MAX_LIMIT = 2**63 - 1
_OPTIONS = frozenset({"start", "limit"})


class TailTo(TargetConfig):
    """Send a topic's messages to the caller as they come, each with a cursor to resume after it."""

    verb: ClassVar[str] = "tail"
    streams: ClassVar[Many] = Many.REPLIES
    safe: ClassVar[bool] = True

    own: ClassVar[bool] = True
    tail: str = Field(min_length=1, examples=["orders.placed", "orders.{region}"])
    """The topic. `{name}` is a path variable or a field of the request."""
    start: Literal["earliest", "latest"] = "latest"
    """Where a caller starts that does not say."""
    envelope: bool = False
    """Over NDJSON and JSON array: events (cursor, key, timestamp, headers, body) in place of bare bodies."""

    filter: str | None = Field(
        default=None, min_length=1, max_length=4096, examples=['body.quantity > 2 && headers["x-tenant"] == query.tenant']
    )
    """A CEL expression over body, key, headers, timestamp and cursor of each event, and params, query and request of the caller:
    only events of which it is true are sent. One on which it fails is passed over, and that is logged; cursors go on.
    """

    def templates(self) -> Sequence[str]:
        return (self.tail,)

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        del contract
        if self.filter is None:
            return ()
        try:
            Filter(self.filter, json.loads)
        except ExpressionError as error:
            return (f"filter: {error}",)
        return ()


@dataclass(frozen=True, slots=True)
class Opening:
    """What a caller asks of a tail."""

    start: str
    limit: int | None


def opening_of(fields: Mapping[str, object], default: str, *, snapshot: bool) -> Opening:
    """Read `start` and `limit`, from a URL or a request message; "" and 0 are as good as absent (proto3). CallerError."""
    start = fields.get("start") or ("earliest" if snapshot else default)
    limit = fields.get("limit") or None
    if not isinstance(start, str):
        raise _wrong("start", "must be earliest, latest or a cursor")
    if isinstance(limit, str) and limit.isascii() and limit.isdigit() and len(limit) <= len(str(MAX_LIMIT)):
        limit = int(limit) or None
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= MAX_LIMIT):
        raise _wrong("limit", "must be a whole number, 0 for no limit")
    return Opening(start, limit or (SNAPSHOT_LIMIT if snapshot else None))


def _wrong(name: str, detail: str) -> CallerError:
    return CallerError(Reason.MALFORMED, f"{name} {detail}", details=(FieldError(f"/{name}", detail),))


async def _asked(exchange: Exchange, target: Target, known: frozenset[str]) -> Mapping[str, object]:
    """The request of a caller that sends one; the URL of one that may send many (a WebSocket), which need not speak first."""
    call = exchange.call
    if call.many & Many.REQUESTS:
        unknown = [name for name, _ in call.query if name not in known]
        if unknown or len(dict(call.query)) < len(call.query):
            raise CallerError(Reason.MALFORMED, f"the query takes {' and '.join(sorted(known, reverse=True))}, once each")
        return dict(call.query)
    try:
        message = await exchange.receive()
    except EndOfMessages:
        return {}
    return target.fields(message.body) if message.body else {}


async def _place(log: Log, topic: str, start: str) -> Offsets:
    """Where a start is in a topic. CallerError for a cursor that is none, is of another topic, or was overtaken."""
    if start == "latest":
        return await log.ends(topic)
    starts = await log.starts(topic)
    if start == "earliest":
        return starts
    cursor = offsets_of(start)
    if not cursor.keys() <= starts.keys():
        raise _wrong("start", "is a cursor of another topic")
    if any(offset < starts[partition] for partition, offset in cursor.items()):
        raise gone(topic)
    ends = await log.ends(topic)
    if any(offset > ends[partition] for partition, offset in cursor.items()):
        # Waiting for the log to get there would skip all that comes before.
        raise _wrong("start", "is a cursor of another topic")
    return {**starts, **cursor}


def tail(log: Log, feeds: Feeds, target: Target, spec: TailTo) -> Handler:
    """The handler of one tail target."""
    name = Template(spec.tail)
    shown = Filter(spec.filter, target.opened) if spec.filter is not None else None
    known = _OPTIONS | (shown.queried if shown is not None else frozenset())

    async def run(exchange: Exchange) -> None:
        call = exchange.call
        asked = await _asked(exchange, target, known)
        resumed = call.headers.get("last-event-id")
        opening = opening_of({**asked, **({"start": resumed} if resumed else {})}, spec.start, snapshot=call.snapshot)
        topic = name.render(call.params, lambda: asked)
        async with feeds.following(topic) as feed:
            follower = Follower(feed, await _place(log, topic, opening.start))
            until = await log.ends(topic) if call.snapshot else None
            await exchange.accept()
            shows = None if shown is None else Selection(shown, call, asked, topic).shows
            await _pour(exchange, _Pouring(follower, target.content_type, opening.limit, until, shows))

    return run


@dataclass(frozen=True, slots=True)
class _Pouring:
    """What one caller is sent."""

    follower: Follower
    content_type: str
    limit: int | None
    until: Offsets | None
    shows: Callable[[Record, str], bool] | None


async def _pour(exchange: Exchange, what: _Pouring) -> None:
    """Send until the limit, or until the place `until` is reached; for ever where there is neither."""
    follower, until, shows, left = what.follower, what.until, what.shows, what.limit
    at = dict(follower.at)
    while until is None or any(follower.at.get(partition, 0) < end for partition, end in until.items()):
        for record in await follower.read():
            if until is not None and record.offset >= until.get(record.partition, 0):
                continue
            at[record.partition] = record.offset + 1
            cursor = cursor_of(at)
            if shows is not None and not shows(record, cursor):
                continue
            await exchange.send(_message(record, what.content_type, cursor))
            if left is not None:
                left -= 1
                if left == 0:
                    return
        if shows is not None:
            await asyncio.sleep(0)  # where nothing was sent, nobody else has run


def _message(record: Record, content_type: str, cursor: str) -> Message:
    return Message(record.body, content_type, record.key, record.headers, cursor, record.timestamp)
