"""The ledger: every attempt and what its caller was told, held against what the topic has in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Told(StrEnum):
    """What a caller was told of one attempt, in the words of the accounting."""

    ACKNOWLEDGED = "acknowledged"
    STORED = "stored"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    """No connection was to be had: nothing was sent, and nobody answered."""


ONCE = "once"
"""The mode whose records have idempotency keys."""
KEPT = {Told.ACKNOWLEDGED, Told.STORED}
"""After these a record must be there."""
ABSENT = {Told.FAILED, Told.REFUSED}
"""After these it must not."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One record that somebody tried to write; `number` counts the attempts of one writer, whose records have one key."""

    mode: str
    writer: str
    number: int
    told: Told
    why: str = ""
    connection: int = 0
    """Which of its writer's, counted as they were made."""

    @property
    def id(self) -> str:
        return f"{self.writer}/{self.number}"


@dataclass(slots=True)
class Verdict:
    """What one run came to."""

    told: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    dropped: int = 0
    """Accepted with `ack: none`, and not there."""
    lost: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    """Those of them that had an idempotency key."""
    reordered: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """In the topic, and in nobody's ledger."""

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.told + other.told,
            self.attempts + other.attempts,
            self.dropped + other.dropped,
            self.lost + other.lost,
            self.phantom + other.phantom,
            self.duplicate + other.duplicate,
            self.twice + other.twice,
            self.reordered + other.reordered,
            self.strange + other.strange,
        )


def verdict(attempts: Sequence[Attempt], found: Iterable[Sequence[str]], *, alone: bool = True) -> Verdict:
    """Hold a ledger against a topic. `found`: the ids in each partition, in order. `alone`: all connections of a writer are to
    one process, so that order holds from one to the next too.
    """
    partitions = [list(ids) for ids in found]
    times = Counter(one for ids in partitions for one in ids)
    known = {attempt.id: attempt for attempt in attempts}
    result = Verdict(attempts=len(attempts))
    for attempt in attempts:
        result.told[attempt.told] += 1
        present = times[attempt.id]
        if attempt.told in KEPT and not present:
            result.lost.append(attempt.id)
        if attempt.told is Told.ACCEPTED and not present:
            result.dropped += 1
        if attempt.told in ABSENT and present:
            result.phantom.append(attempt.id)
    result.duplicate = [one for one, count in times.items() if count > 1]
    result.twice = [one for one in result.duplicate if one in known and known[one].mode == ONCE]
    result.strange = [one for one in times if one not in known]
    result.reordered = [one for ids in partitions for one in _turned(ids, known, alone=alone)]
    return result


def _turned(ids: Sequence[str], known: dict[str, Attempt], *, alone: bool) -> Iterable[str]:
    """The records whose first copy stands behind one that their writer wrote after them had been answered."""
    latest: dict[tuple[str, int], int] = defaultdict(int)
    seen: set[str] = set()
    for one in ids:
        attempt = known.get(one)
        if attempt is None or one in seen:
            continue
        seen.add(one)
        order = attempt.writer, 0 if alone else attempt.connection
        # Of one whose outcome was unknown nobody has promised when it comes.
        if attempt.number < latest[order] and attempt.told is not Told.UNKNOWN:
            yield one
        latest[order] = max(latest[order], attempt.number)
