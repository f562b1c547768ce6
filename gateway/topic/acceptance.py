"""`ack: none`: the answer comes once the log has a record in its queue, and what becomes of it is counted later."""

from __future__ import annotations

import asyncio

from gateway.errors import BackendError, GatewayError, Reason
from gateway.exchange import Call
from gateway.message import Message
from gateway.metric import Counter
from gateway.topic.log import Log, Place
from gateway.topic.write import DEFAULT_S, Receipt, Write

# How long a record may wait in the log's queue: its caller waits for nothing.
PATIENCE_S = 30.0

DROPPED = Counter(
    "polygate_records_dropped",
    "Accepted records of which nobody knows that they were written.",
    "route",
    "reason",
)


def accepted(log: Log, route: str) -> Write:
    """Taken into memory, and written at most once. What cannot be taken is refused as it is where the caller waits."""

    def settled(fate: asyncio.Future[Place]) -> None:
        error = None if fate.cancelled() else fate.exception()
        if error is not None or fate.cancelled():
            DROPPED.add(1, route, (error.reason if isinstance(error, GatewayError) else Reason.CANCELLED).value)

    async def write(call: Call, topic: str, record: Message, partition: int | None) -> Receipt:
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(call.due(DEFAULT_S)):
                fate = await log.admit(topic, record, now + PATIENCE_S, partition=partition, route=route)
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the log did not take the record in time") from error
        fate.add_done_callback(settled)
        return Receipt(id=call.id, state="accepted", fate=fate)

    return write
