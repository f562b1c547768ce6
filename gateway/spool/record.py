"""A record as the spool has it: the one that its backend is to get, with where it goes beside it."""

from __future__ import annotations

import re

from gateway.embedded.log import size_of
from gateway.message import BYTES, Headers, Message, value
from gateway.port import Record
from gateway.topic.write import lane

# Reserved names, which no caller can set; they stand before the record's own headers.
ID, TOPIC, PARTITION, WHY = "polygate-spool-id", "polygate-spool-topic", "polygate-spool-partition", "polygate-spool-why"
WAITING, ASIDE = "waiting", "aside"
# The names of these headers, in bytes.
ABOUT = 40


@value
class Stored:
    """One record of the spool."""

    id: str
    topic: str
    partition: int | None
    message: Message
    offset: int = -1
    timestamp: int = 0
    """When it was stored, in milliseconds since 1970."""
    why: str = ""
    """Why it was set aside."""

    @property
    def size(self) -> int:
        """What it takes in the file, about."""
        return size_of(self.message) + len(self.topic) + len(self.id) + ABOUT

    @property
    def lane(self) -> object:
        """Those of one lane keep their order. One that is told neither a key nor a partition has a lane for itself."""
        return lane(self.topic, self.message.key, self.partition) or self.offset


def wrapped(record: Stored) -> Message:
    """A record as it is written to the spool."""
    told = [(ID, record.id), (TOPIC, record.topic)]
    if record.partition is not None:
        told.append((PARTITION, str(record.partition)))
    if record.why:
        told.append((WHY, record.why))
    message = record.message
    return Message(message.body, BYTES, message.key, Headers((*told, *message.headers)))


def opened(record: Record) -> Stored:
    """What was wrapped."""
    told: dict[str, str] = {}
    own = 0
    for name, text in record.headers:
        if name not in {ID, TOPIC, PARTITION, WHY}:
            break
        told[name] = text
        own += 1
    partition = told.get(PARTITION)
    message = Message(record.body, BYTES, record.key, Headers(record.headers[own:]))
    return Stored(
        told[ID],
        told[TOPIC],
        None if partition is None else int(partition),
        message,
        record.offset,
        record.timestamp,
        told.get(WHY, ""),
    )


def kept_in(state: str, backend: str) -> str:
    """The topic of the spool's log for the records of a backend that wait, or were set aside; any name of a backend will do."""
    return f"{state}.{re.sub(r'[^A-Za-z0-9.-]', lambda found: f'_{found[0].encode().hex()}_', backend)}"


def kept_for(topic: str) -> tuple[str, str]:
    """The state and the backend that a topic of the spool's log is for."""
    state, _, name = topic.partition(".")
    return state, re.sub(r"_([0-9a-f]+)_", lambda found: bytes.fromhex(found[1]).decode(), name)
