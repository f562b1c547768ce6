"""Records on their way to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.embedded.topic import Partition
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.topic.log import Place


@dataclass(slots=True, eq=False)
class Append:
    """Records on their way, in one transaction. They are withdrawn by ending their future before they are handed over."""

    posts: Sequence[tuple[Partition, Message, int]]
    """Each with its size."""
    size: int
    done: asyncio.Future[Any]
    """The place of the one record or, where they are `several`, the places of all."""
    several: bool = False
    ended: Callable[[bool], None] | None = None
    """Told once it is known whether they are written, which may be after whoever waits was told that nobody knows."""
    handed: bool = False

    def withdrawn(self, _done: object) -> None:
        """Their future has ended: before they were handed over they are withdrawn by that."""
        if not self.handed:
            self.settle(written=False)

    def settle(self, *, written: bool) -> None:
        """It is known what became of them."""
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(written)

    def expire(self) -> None:
        """The deadline has come."""
        if self.done.done():
            return
        if self.handed:
            error = BackendError(Reason.UNKNOWN_OUTCOME, "the disk has not confirmed the record in time")
        else:
            error = BackendError(Reason.UNREACHABLE, "the record was not written in time, and will not be")
        self.done.set_exception(error)

    def written(self, places: Sequence[Place]) -> None:
        """They are on the disk."""
        self.settle(written=True)
        if not self.done.done():
            self.done.set_result(places if self.several else places[0])
