"""The messages of one caller that have come and were not yet received: bounded in number and in bytes.

The library's own queue grows by whatever one read of the socket holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.exchange import EndOfMessages
from gateway.message import Message

HELD_BYTES = 64 << 10
"""What the inbox may hold before reading pauses, whatever the number of messages."""


class Inbox:
    """The messages that have come and were not yet received."""

    def __init__(self, limit: int, resume: Callable[[], None]) -> None:
        self._limit = limit
        self._low = limit // 4
        self._resume = resume
        self._messages: deque[Message] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = False
        """No further message will come."""
        self.told = False
        """And whoever receives knows it."""
        self.used = False
        self.full = False

    @property
    def waiting(self) -> bool:
        """Somebody receives now."""
        return self._waiter is not None

    def put(self, message: Message) -> bool:
        """Add one. True where that makes it full: the socket is then not to be read until `resume` is called."""
        self._messages.append(message)
        self._held += len(message.body)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.full or (len(self._messages) <= self._limit and self._held <= HELD_BYTES):
            return False
        self.full = True
        return True

    async def get(self) -> Message:
        """The next one. Raises EndOfMessages after the last."""
        self.used = True
        messages = self._messages
        while not messages:
            if self.ended:
                self.told = True
                raise EndOfMessages
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        message = messages.popleft()
        self._held -= len(message.body)
        if self.full and len(messages) <= self._low and self._held <= HELD_BYTES:
            self.full = False
            self._resume()
        return message

    def end(self, *, keep: bool = True) -> None:
        """No further message comes; those that are there are received first, or dropped."""
        self.ended = True
        if not keep:
            self._messages.clear()
            self._held, self.full = 0, False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
