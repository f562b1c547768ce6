"""A record as an exchange: one message in, at most one reply."""

from __future__ import annotations

from gateway.exchange import Call, EndOfMessages, Exchange, new_id
from gateway.message import NO_HEADERS, Headers, Message
from gateway.port import Record


class RecordExchange(Exchange):
    """One try of one record."""

    def __init__(self, record: Record, content_type: str) -> None:
        self.call = Call(
            id=new_id(), protocol="topic", target=f"/{record.topic}", headers=record.headers, record=identity_of(record)
        )
        self._message: Message | None = Message(record.body, content_type, record.key)
        self.reply: Message | None = None

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        """A record has no head to answer with."""

    async def receive(self) -> Message:
        if self._message is None:
            raise EndOfMessages
        message, self._message = self._message, None
        return message

    async def send(self, message: Message) -> None:
        self.reply = message


def identity_of(record: Record) -> str:
    """What every try of a record has in common with no other record. Its time tells it from one at its place in a topic that
    was made anew.
    """
    return f"{record.topic}/{record.partition}/{record.offset}@{record.timestamp}"


def place_of(record: Record) -> str:
    """Where a record is, for logs."""
    return f"{record.topic}/{record.partition}/{record.offset}"
