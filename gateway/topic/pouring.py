"""How one caller is sent the events of a topic: until it has what it asked for, or for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Exchange
from gateway.message import SHARED, SHARED_BYTES, Message
from gateway.port import Record
from gateway.result import PassedOver
from gateway.topic.event import cursor_of
from gateway.topic.follower import Follower
from gateway.topic.gap import SKIPPED, Why, between, gap
from gateway.topic.log import Offsets, OvertakenError
from gateway.topic.opening import forward
from gateway.topic.ring import Lag
from gateway.topic.slow import Slow, passes
from gateway.topic.turn import Turn

log = logging.getLogger("polygate")

# Why the way out of a tail refuses a message: its caller's format has no place for what the record holds.
_UNREADABLE = frozenset({Reason.BAD_ANSWER, Reason.TOO_LARGE})


class Events:
    """Records as a route's callers are sent them: one message for all who stand at the same place, so that whatever is made of it
    on its way is made once.
    """

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        # By the identity of a record, which is alive here: another topic, or another one of its name, may have its coordinates.
        self._kept: dict[int, tuple[Record, str, Message]] = {}

    def __call__(self, before: str, record: Record, at: Offsets) -> Message:
        """The event of a record for who stands at a cursor `before` it, and at a place behind it."""
        found = self._kept.get(id(record))
        if found is not None and found[1] == before:
            return found[2]
        message = Message(record.body, self._content_type, record.key, record.headers, cursor_of(at), record.timestamp)
        if len(record.body) <= SHARED_BYTES:
            if len(self._kept) >= SHARED:
                self._kept.clear()
            self._kept[id(record)] = (record, before, message)
        return message


@dataclass(frozen=True, slots=True)
class Terms:
    """What a route says of its callers, the same for all of them."""

    route: str
    events: Events
    tells: bool
    """They are told of gaps; else a place that is gone is an error."""
    slow: Slow
    behind: Lag


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one caller is to be sent."""

    limit: int | None
    until: Offsets | None
    """A place to end at."""
    shows: Callable[[Record, str], bool] | None
    turn: Turn | None = None
    asked: Offsets | None = None
    """Where it wanted to start, where the topic no longer has what came after that."""


class Pouring:
    """One caller's stream. `cursor` is where it is gone on with: after the latest event that was sent whole, for what is sent
    twice is a duplicate, and what is passed over a loss.
    """

    def __init__(self, exchange: Exchange, follower: Follower, terms: Terms, wanted: Wanted) -> None:
        self._exchange = exchange
        self._follower = follower
        self._terms = terms
        self._wanted = wanted
        self._left = wanted.limit
        self._unreadable = PassedOver("showing them to this caller")
        self._at = dict(follower.at)
        self.cursor = cursor_of(wanted.asked or follower.at)
        self._held: Sequence[Record] = ()
        """What was read last, of which so many are sent, and when it was read."""
        self._sent = 0
        self._read = 0.0

    def lag(self) -> Lag | None:
        """How far its caller is behind, with what was read for it and is not sent yet; None as for a follower."""
        lag, held = self._follower.lag(), self._held[self._sent :]
        if lag is None or not held:
            return lag
        seconds = max(lag.seconds, asyncio.get_running_loop().time() - self._read)
        return Lag(lag.records + len(held), lag.bytes + sum(len(record.body) for record in held), seconds)

    async def run(self) -> None:
        """Send until the limit, or until the place to end at."""
        if self._wanted.asked is not None:
            await self._tell(self._wanted.asked, Why.RETENTION)
        follower, until = self._follower, self._wanted.until
        loop = asyncio.get_running_loop()
        behind = False
        paces = self._terms.slow in {"conflate", "drop_oldest"}
        while until is None or any(follower.at.get(partition, 0) < end for partition, end in until.items()):
            behind = paces and self._behind(behind=behind)
            if behind and self._terms.slow == "drop_oldest":
                await self._skip()
            try:
                records = await follower.read()
            except OvertakenError as error:
                await self._overtaken(error)
                continue
            if behind and self._terms.slow == "conflate":
                records = self._newest(records)
            self._held, self._sent, self._read = records, 0, loop.time()
            if not await self._send(records):
                return
            if self._wanted.shows is not None or behind:
                await asyncio.sleep(0)  # where nothing was sent, nobody else has run

    def _behind(self, *, behind: bool) -> bool:
        """Whether the caller is too far behind or, once it was, has not caught up yet."""
        lag = self._follower.lag()
        return lag is not None and (passes(lag, self._terms.behind) or (behind and lag.records > 0))

    async def _send(self, records: Sequence[Record]) -> bool:
        """Whether there is more to come."""
        exchange, at, events = self._exchange, self._at, self._terms.events
        until, shows, turn = self._wanted.until, self._wanted.shows, self._wanted.turn
        for record in records:
            if until is not None and record.offset >= until.get(record.partition, 0):
                continue
            at[record.partition] = record.offset + 1
            message = events(self.cursor, record, at)
            cursor = message.cursor or ""
            if shows is None or shows(record, cursor):
                if turn is not None:
                    await turn.next(cursor)
                try:
                    await exchange.send(message)
                except BackendError as error:
                    await self._passed_over(record, cursor, error)
                else:
                    if self._left is not None:
                        self._left -= 1
                        if self._left == 0:
                            return False
            self.cursor = cursor
            self._sent += 1
        return True

    async def _passed_over(self, record: Record, cursor: str, error: BackendError) -> None:
        """A record that cannot be shown to this caller: those behind it are not to be lost, however often it comes back."""
        if error.reason not in _UNREADABLE:
            raise error
        place = f"{record.topic}/{record.partition}/{record.offset}"
        self._unreadable.note(self._exchange.call.id, place, CallerError(error.reason, error.message))
        if self._wanted.turn is not None:
            self._wanted.turn.unsent(cursor)
        if self._terms.tells:
            await self._tell({**self._at, record.partition: record.offset}, Why.UNREADABLE)
        else:
            SKIPPED.add(1, self._terms.route, Why.UNREADABLE.value)

    async def _tell(self, before: Offsets, why: Why) -> None:
        """Say what is missing between a place and this one."""
        SKIPPED.add(between(before, self._at), self._terms.route, why.value)
        notice = gap(before, self._at, why)
        cursor = notice.cursor or ""
        if self._wanted.turn is not None:
            self._wanted.turn.noted(cursor)
        await self._exchange.send(notice)
        self.cursor = cursor

    async def _move(self, why: Why) -> None:
        """The follower goes on at a later place."""
        before, self._at = self._at, dict(self._follower.at)
        if between(before, self._at):
            await self._tell(before, why)

    async def _skip(self) -> None:
        self._follower.skip(self._terms.behind)
        await self._move(Why.SLOW)

    async def _overtaken(self, error: OvertakenError) -> None:
        """Retention was faster than this caller, while it was sent events. Raises the error where it is not to be told."""
        follower = self._follower
        if not self._terms.tells:
            raise error
        at = forward(follower.at, await follower.feed.log.starts(follower.feed.topic))
        if at == follower.at:
            raise error  # its place is not before the topic's start, so it is behind its end: another topic of this name
        follower.go(at)
        await self._move(Why.RETENTION)

    def _newest(self, records: Sequence[Record]) -> Sequence[Record]:
        """Of these, those of which no newer one of their key is here, or in memory."""
        superseded = self._follower.feed.ring.superseded
        latest = {record.key: record for record in records if record.key is not None}
        kept = [one for one in records if one.key is None or (latest[one.key].offset <= one.offset and not superseded(one))]
        if len(kept) < len(records):
            SKIPPED.add(len(records) - len(kept), self._terms.route, Why.CONFLATED.value)
        return kept


def too_slow() -> CallerError:
    """For a caller that took too little, where its route lets it go for that."""
    return CallerError(Reason.SLOW_CALLER, "the caller is too far behind; go on with this cursor")
