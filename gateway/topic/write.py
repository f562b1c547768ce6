"""How a record is written, and what its writer is told: one function per target, put together when the config is loaded.

A `Write` is given the call, the topic and the record, and returns what became of it. Others are made from the plain ones: one
that stores where the broker is away, one that writes once per idempotency key.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable

from gateway.exchange import Call
from gateway.message import Headers, Message, compact, value
from gateway.topic.log import Log, Place, rfc3339

CREATED = Headers(((":status", "201"),))
TAKEN = Headers(((":status", "202"),))
REPLAYED = ("idempotency-replayed", "true")
DEFAULT_S = 30.0


@value
class Receipt:
    """What became of a record: where it was written or, where it was taken to be written later, its id and how safe it is."""

    place: Place | None = None
    id: str = ""
    state: str = ""
    """"accepted": in memory; "stored": fsynced in the spool; "" once it is written."""
    fate: Future[Place] | None = None
    """Where only the future tells what became of it: see `Exchange.settle`."""
    replayed: bool = False
    """It is that of an earlier call with the same idempotency key."""

    @property
    def head(self) -> Headers:
        """The head of the answer that holds it."""
        head = TAKEN if self.place is None else CREATED
        return head.plus(REPLAYED) if self.replayed else head

    def body(self) -> bytes:
        """What a publish answers, in JSON."""
        place = self.place
        if place is None:
            return compact({"id": self.id, "state": self.state}).encode()
        at = rfc3339(place.timestamp)
        told = {"topic": place.topic, "partition": place.partition, "offset": place.offset, "timestamp": at}
        return compact(told).encode()


Write = Callable[[Call, str, Message, int | None], Awaitable[Receipt]]
"""write(call, topic, record, partition): before the call's deadline. Raises what `Log.append` does."""


def lane(topic: str, key: bytes | None, partition: int | None) -> tuple[object, ...] | None:
    """What a record keeps its order in: its key or, where that is told, its partition. None where it keeps none."""
    if partition is not None:
        return (topic, partition)
    return None if key is None else (topic, key)


def acknowledged(log: Log, route: str = "") -> Write:
    """Written once the log has it safe by its own measure."""

    async def write(call: Call, topic: str, record: Message, partition: int | None) -> Receipt:
        return Receipt(await log.append(topic, record, call.due(DEFAULT_S), partition=partition, route=route))

    return write
