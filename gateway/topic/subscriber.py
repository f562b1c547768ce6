"""Subscribers: callers with a name, for each of which the gateway keeps the place up to which it has acknowledged.

What a subscriber has not acknowledged it is sent again when it comes back, to whichever gateway shares the state: at least once.
One connection at a time: a new one takes over, since the one before may be dead without anybody knowing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import Field

from gateway.backoff import Backoff
from gateway.errors import BackendError, CallerError, Reason
from gateway.metric import Counter
from gateway.part import Part
from gateway.state import State
from gateway.task import Tasks
from gateway.topic.event import offsets_of
from gateway.topic.opening import wrong

log = logging.getLogger("polygate")

BACKOFF_S = (0.1, 5.0)
ACKNOWLEDGED = Counter("polygate_tail_acks", "Acknowledgements of subscribers that were stored.", "route")


class Subscribers(Part):
    """Callers with a name acknowledge what they are done with, and go on after that when they come back."""

    name: str = Field(min_length=1, examples=["{subscriber}"])
    """Who a caller is: a template over the path's variables and what it asks with (a WebSocket's query, the first message of a
    gRPC call).
    """
    unacked: int = Field(default=1000, gt=0, le=100_000)
    """How many events one may have been sent and not have acknowledged; it is sent no more until it does."""
    keep: float = Field(default=7 * 86_400.0, ge=60, le=366 * 86_400)
    """For how many seconds the place of one is kept that neither comes back nor acknowledges anything."""


class Session:
    """One connection of a subscriber: what was sent on it, and what of that is acknowledged and stored."""

    def __init__(self, places: Places, name: str, unacked: int, start: str) -> None:
        self._places = places
        self._name = name
        self._unacked = unacked
        self._sent: dict[str, int] = {}
        self._number = 0
        self._latest = 0
        """What is numbered higher was sent later; and the latest of those that were acknowledged."""
        self._done = start
        self.told: Callable[[], None] = lambda: None
        """Called when there may be room again."""

    @property
    def full(self) -> bool:
        """It has been sent as much as it may without an acknowledgement."""
        return len(self._sent) >= self._unacked

    def sent(self, cursor: str) -> None:
        """An event is being sent."""
        self._number += 1
        self._sent.setdefault(cursor, self._number)

    def unsent(self, cursor: str) -> None:
        """It was not, after all."""
        self._sent.pop(cursor, None)

    def ack(self, cursor: str) -> None:
        """All up to an event is done with. CallerError for a cursor that was not sent on this connection."""
        if cursor not in self._sent:
            at = offsets_of(cursor)
            done = offsets_of(self._done)
            if any(offset > done.get(partition, 0) for partition, offset in at.items()):
                raise wrong("ack", "is the cursor of no event that was sent here")
            return
        # All before the latest is done with already: who is told of an earlier one after it must not go back.
        if (number := self._sent[cursor]) > self._latest:
            self._latest = number
            self._places.keep(self._name, cursor, self._stored)

    def _stored(self, cursor: str) -> None:
        if cursor in self._sent:
            self._done = cursor
            for one in list(self._sent):
                del self._sent[one]
                if one == cursor:
                    break
        self.told()


class Places:
    """The places of one route's subscribers, in the gateway's state."""

    def __init__(self, state: State, route: str, spec: Subscribers, tasks: Tasks) -> None:
        self._state = state
        self._route = route
        self._spec = spec
        self._tasks = tasks
        self._seconds = spec.keep
        self._waiting: dict[str, tuple[str, Callable[[str], None]]] = {}
        self._storing: set[str] = set()

    def _key(self, name: str) -> str:
        return f"subscriber:{self._route}:{name}"

    def _holder(self, name: str) -> str:
        # Not behind the name, which may be anything: it would be the place of another.
        return f"holder:{self._route}:{name}"

    async def open(self, name: str, holder: str) -> str | None:
        """A new connection of a subscriber takes over from the one before. Returns the cursor up to which it has acknowledged;
        None for a new one. CallerError for no name at all, BackendError where the state is away.
        """
        if not name:
            raise CallerError(Reason.MALFORMED, "a subscriber has a name")
        await self._state.put(self._holder(name), holder.encode(), self._seconds)
        kept = await self._state.get(self._key(name))
        return None if kept is None else kept.decode()

    async def begin(self, name: str, cursor: str) -> Session:
        """Go on from a cursor, which is kept from now on: what comes while a subscriber is away is for it."""
        await self._state.put(self._key(name), cursor.encode(), self._seconds)
        return Session(self, name, self._spec.unacked, cursor)

    async def taken(self, name: str, holder: str) -> None:
        """Wait until another connection has taken over. Raises CallerError(TAKEN_OVER)."""
        known: bytes | None = holder.encode()
        while known is None or known == holder.encode():
            known = await self._state.changed(self._holder(name), known)
        raise CallerError(Reason.TAKEN_OVER, "another connection of this subscriber has taken over")

    def keep(self, name: str, cursor: str, stored: Callable[[str], None]) -> None:
        """Store a place, the latest only where several wait; then say so. It is stored though the connection ends meanwhile."""
        self._waiting[name] = (cursor, stored)
        if name not in self._storing:
            self._storing.add(name)
            self._tasks.spawn(self._store(name), f"place of a subscriber of {self._route}")

    async def _store(self, name: str) -> None:
        backoff = Backoff(BACKOFF_S)
        try:
            while name in self._waiting:
                cursor, stored = self._waiting[name]
                try:
                    await self._state.put(self._key(name), cursor.encode(), self._seconds)
                except BackendError as error:
                    log.warning(
                        "a subscriber of %s: its acknowledgement waits %.1f s: %s", self._route, backoff.seconds, error.message
                    )
                    await backoff.wait()
                    continue
                backoff.reset()
                ACKNOWLEDGED.add(1, self._route)
                if self._waiting[name][0] == cursor:
                    del self._waiting[name]
                stored(cursor)
        finally:
            self._storing.discard(name)
