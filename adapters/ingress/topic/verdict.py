"""What becomes of a record once it has been handled, or is given up: its reply, and what is kept of one that failed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gateway.errors import CallerError, GatewayError, Outcome
from gateway.message import BYTES, PROBLEM, Headers, Message
from gateway.port import Record
from gateway.status import TABLE, outcome_of, problem_body
from gateway.topic.log import CORRELATION, ERROR, REPLY_PARTITION, REPLY_TO, rfc3339, said

# Headers of a dead letter, beside those that the record had; its key and its body are the record's own.
DETAIL = "polygate-error-detail"
OUTCOME = "polygate-error-outcome"
ATTEMPTS = "polygate-attempts"
TOPIC = "polygate-original-topic"
PARTITION = "polygate-original-partition"
OFFSET = "polygate-original-offset"
TIMESTAMP = "polygate-original-timestamp"

DETAIL_CHARS = 1000
MAX_DIGITS = 9

DELIVERED, PASSED_OVER, DEAD_LETTERED = "delivered", "passed_over", "dead_lettered"


@dataclass(slots=True)
class Verdict:
    """The record is done with once all of these are written, acknowledged."""

    fate: str
    id: str
    """Of the last try, for whoever asks about it."""
    writes: deque[tuple[str, Message, int | None]] = field(default_factory=deque)
    """Topic, record and, where that is asked for, partition each. What is written is taken off, so that another try does not
    write it again.
    """


def is_poison(error: GatewayError) -> bool:
    """Whether another try of the same record would end the same way: it, and not the way to the backend, is to blame."""
    own = isinstance(error, CallerError) or error.reason.value.startswith("backend_")
    return own and not TABLE[error.reason].retryable and outcome_of(error) is Outcome.FAILED


def problem_of(error: GatewayError, exchange_id: str) -> Message:
    """What whoever asked is answered, where the record failed."""
    return Message(problem_body(error, exchange_id), PROBLEM, headers=Headers(((ERROR, error.reason.value),)))


@dataclass(frozen=True, slots=True)
class Names:
    """The headers by which a record asks for its reply."""

    correlation: str = CORRELATION
    reply_to: str = REPLY_TO

    def reply(self, record: Record, reply: Message) -> Message:
        """A reply as a record: found by the question's correlation, in order by its key."""
        correlation = said(record.headers, self.correlation)
        headers = reply.headers.plus((self.correlation, correlation)) if correlation else reply.headers
        return Message(reply.body, reply.content_type, record.key, headers)

    def asks_on(self, record: Record) -> tuple[str, int | None]:
        """The topic that a record wants its reply on, "" for none, and the partition of it where it says that too."""
        partition = record.headers.get(REPLY_PARTITION) or ""
        known = partition.isascii() and partition.isdigit() and len(partition) <= MAX_DIGITS
        return said(record.headers, self.reply_to), int(partition) if known else None


def letter(record: Record, error: GatewayError, attempts: int) -> Message:
    """A record as its dead-letter topic gets it: whole, with why it failed and where it was."""
    why = (
        (ERROR, error.reason.value),
        (DETAIL, error.message[:DETAIL_CHARS]),
        (OUTCOME, outcome_of(error).value),
        (ATTEMPTS, str(attempts)),
        (TOPIC, record.topic),
        (PARTITION, str(record.partition)),
        (OFFSET, str(record.offset)),
        (TIMESTAMP, rfc3339(record.timestamp)),
    )
    headers = record.headers.without(*(name for name, _ in why)).plus(*why)
    return Message(record.body, BYTES, record.key, headers)
