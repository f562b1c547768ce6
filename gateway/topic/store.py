"""The write `stored`: a record is in the spool, on the disk, and is forwarded later."""

from __future__ import annotations

from gateway.exchange import Call
from gateway.message import Message
from gateway.target import Spool
from gateway.topic.write import DEFAULT_S, Receipt, Write

STORED = "stored"


def stored(spool: Spool) -> Write:
    """Written once the spool has it safe."""

    async def write(call: Call, topic: str, record: Message, partition: int | None) -> Receipt:
        return Receipt(id=await spool.put(topic, record, call.due(DEFAULT_S), partition=partition), state=STORED)

    return write
