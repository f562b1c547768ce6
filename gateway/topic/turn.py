"""What a caller of a tail says while it is sent events: how many more it may be sent, and which of them it is done with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.errors import CallerError, Reason
from gateway.exchange import EndOfMessages, Exchange
from gateway.topic.opening import count_of, wrong
from gateway.topic.subscriber import Session

WORDS = frozenset({"ack", "credit"})


class Turn:
    """Whether one caller may be sent the next event. One task hears, another waits for its turn."""

    def __init__(self, credit: int | None, session: Session | None) -> None:
        self._credit = credit
        self._session = session
        self._more = asyncio.Event()
        if session is not None:
            session.told = self._more.set

    async def next(self, cursor: str) -> None:
        """Wait until the event with this cursor may be sent, and take it as sent."""
        session = self._session
        while self._credit == 0 or (session is not None and session.full):
            self._more.clear()
            await self._more.wait()
        if self._credit is not None:
            self._credit -= 1
        if session is not None:
            session.sent(cursor)

    def unsent(self, cursor: str) -> None:
        """It was not sent after all."""
        if self._credit is not None:
            self._credit += 1
        if self._session is not None:
            self._session.unsent(cursor)

    def noted(self, cursor: str) -> None:
        """A notice is being sent, which takes no credit and may be acknowledged."""
        if self._session is not None:
            self._session.sent(cursor)

    async def hear(self, exchange: Exchange, fields: Callable[[bytes], Mapping[str, object]], *, leaves: bool) -> None:
        """Take what the caller says until it has finished. `leaves`: it is gone then, which ends the tail (EndOfMessages); else
        it listens on. CallerError for anything but credit and acknowledgements.
        """
        try:
            while True:
                message = await exchange.receive()
                self.say(fields(message.body) if message.body else {})
        except EndOfMessages:
            if leaves:
                raise

    def say(self, said: Mapping[str, object]) -> None:
        """One message of the caller; what is empty or 0 is as good as absent (proto3)."""
        given = {name: what for name, what in said.items() if what}
        if not given.keys() <= WORDS:
            raise CallerError(Reason.MALFORMED, "a caller of a tail says ack and credit, and nothing else")
        ack = given.get("ack")
        if ack is not None:
            if self._session is None:
                raise wrong("ack", "is taken from subscribers, and this route has none")
            if not isinstance(ack, str):
                raise wrong("ack", "must be a cursor")
            self._session.ack(ack)
        more = count_of(given, "credit")
        if more is not None:
            self._credit = (self._credit or 0) + more
        self._more.set()
