"""A question whose answer is fetched later, and the answer, as the gateway's state has them."""

from __future__ import annotations

import base64
import json

from gateway.errors import BackendError, Reason
from gateway.message import Message, compact, value
from gateway.port import Record
from gateway.topic.log import ERROR

UNKEPT = "unkept"
"""In the place of why the answering side refused: it did not, but its answer is too large for the state."""


@value
class Pending:
    """A question without an answer yet."""

    asked: str
    """The topic that was asked, as the config writes it."""
    reply_to: str
    place: str
    """A cursor of the reply topic that the reply comes after."""
    keep: float
    """Seconds for which the answer is kept."""

    def written(self) -> bytes:
        """As the state has it."""
        return compact({"asked": self.asked, "reply_to": self.reply_to, "place": self.place, "keep": self.keep}).encode()


@value
class Answer:
    """The reply to a question. Whichever gateway reads it makes the same of it, to the byte."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    body: bytes
    key: bytes | None = None
    error: str = ""
    """Why the answering side refused; "" where it did not."""

    def written(self) -> bytes:
        """As the state has it: a line of JSON, and the body as it came."""
        key = None if self.key is None else base64.b64encode(self.key).decode()
        head = {"at": [self.partition, self.offset, self.timestamp], "key": key, "error": self.error}
        return compact(head).encode() + b"\n" + self.body

    def message(self, content_type: str) -> Message:
        """What the caller gets. Raises the answering side's refusal."""
        if self.error == UNKEPT:
            raise BackendError(Reason.BAD_ANSWER, "the answer came, and is too large to be kept")
        if self.error:
            raise failed_as(self.error)
        return Message(self.body, content_type, self.key)


def name_of(backend: str, key: str) -> str:
    """What the state calls a question."""
    return f"ask:{backend}:{key}"


def answer_of(record: Record) -> Answer:
    """A reply as it is kept."""
    error = record.headers.get(ERROR) or ""
    return Answer(record.partition, record.offset, record.timestamp, record.body, record.key, error)


def read(kept: bytes) -> Pending | Answer:
    """What `written` wrote."""
    head, line, body = kept.partition(b"\n")
    told = json.loads(head)
    if not line:
        return Pending(told["asked"], told["reply_to"], told["place"], told["keep"])
    key = None if told["key"] is None else base64.b64decode(told["key"])
    partition, offset, timestamp = told["at"]
    return Answer(partition, offset, timestamp, body, key, told["error"])


def failed_as(reason: str) -> BackendError:
    """The error that the answering side wrote in its reply's header, under its own reason where that is one of ours."""
    known = reason in Reason._value2member_map_
    return BackendError(Reason(reason) if known else Reason.BACKEND_UNKNOWN, "the answering side refused the question")
