"""Records on their way to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
    handed: bool = False

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
        if not self.done.done():
            self.done.set_result(places if self.several else places[0])
