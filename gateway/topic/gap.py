"""A gap: records of a topic that a caller is not sent, told in their place as an event of its own. What is not sent is never
passed over in silence: it is told, or counted and logged, as the route says.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.message import JSON, Notice, compact
from gateway.metric import Counter
from gateway.topic.event import cursor_of
from gateway.topic.log import Offsets

GAP = "gap"
SKIPPED = Counter("polygate_tail_skipped", "Records that callers of a tail were not sent, at the most.", "route", "reason")


class Why(StrEnum):
    """Why a caller is not sent them."""

    RETENTION = "retention"
    """The topic no longer has them."""
    SLOW = "slow"
    """The caller was too slow."""
    UNREADABLE = "unreadable"
    """They cannot be shown in the caller's format."""
    CONFLATED = "conflated"
    """Newer ones of their keys were there. Told by no event: that is what the route asks for."""


def between(before: Offsets, after: Offsets) -> int:
    """How many records there are from one place to another, at the most: an offset may hold none."""
    return sum(max(0, offset - before.get(partition, offset)) for partition, offset in after.items())


def gap(before: Offsets, after: Offsets, why: Why) -> Notice:
    """The event that tells of what is missing between two places."""
    cursor = cursor_of(after)
    told = {"from": cursor_of(before), "to": cursor, "reason": why.value, "records": between(before, after)}
    return Notice(compact(told).encode(), JSON, cursor=cursor, name=GAP)
