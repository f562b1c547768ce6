"""A spool in memory, which forwards nothing."""

from __future__ import annotations

from gateway.message import Message
from gateway.topic.write import lane


class FakeSpool:
    """`broken` is raised while it is set."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Message, int | None]] = []
        self.deadlines: list[float] = []
        self.broken: Exception | None = None

    async def put(self, topic: str, message: Message, deadline: float, *, partition: int | None = None) -> str:
        if self.broken is not None:
            raise self.broken
        self.records.append((topic, message, partition))
        self.deadlines.append(deadline)
        return f"{len(self.records)}"

    def holds(self, topic: str, message: Message, *, partition: int | None = None) -> bool:
        wanted = lane(topic, message.key, partition)
        held = [lane(topic, message.key, partition) for topic, message, partition in self.records]
        return wanted is not None and wanted in held

    @property
    def waits(self) -> bool:
        return bool(self.records)

    @property
    def bodies(self) -> list[bytes]:
        """What was stored, in order."""
        return [message.body for _, message, _ in self.records]
