"""Whose question a reply answers, told by the correlation id alone: nothing need be remembered of what was asked.

    7f3a91c04b2e-1f     question 0x1f of the life 7f3a91c04b2e of a gateway, where its caller waits
    later-9f0c...       a question whose answer is fetched later, by a digest of its id (see `gateway.topic.later`)

So the gateways that share a reply topic pass over each other's replies, and one that is started anew over those of its life
before, without taking them for replies that nobody asked for.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from enum import Enum, auto

_LIFE = re.compile(r"([0-9a-f]{12})-([0-9a-f]{1,15})\Z")
_LATER = re.compile(r"later-[0-9a-f]{40}\Z")


class Whose(Enum):
    """What a correlation id says of a reply."""

    OURS = auto()
    """This life of this gateway asked."""
    FOREIGN = auto()
    """Another gateway did, or another life of this one."""
    LATER = auto()
    """Its answer is kept, by whichever gateway has the question."""
    NOBODYS = auto()
    """No gateway did."""


class Life:
    """One life of a gateway's backend: it ends with the process."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self._asked = 0

    def next(self) -> str:
        """The correlation id of another question."""
        self._asked += 1
        return f"{self.name}-{self._asked:x}"

    def whose(self, correlation: str) -> Whose:
        """Whose question a reply answers."""
        found = _LIFE.match(correlation)
        if found is None:
            return Whose.LATER if _LATER.match(correlation) else Whose.NOBODYS
        if found[1] != self.name:
            return Whose.FOREIGN
        return Whose.OURS if 0 < int(found[2], 16) <= self._asked else Whose.NOBODYS


def new_secret() -> str:
    """An id that nobody guesses: who has it may fetch the answer."""
    return secrets.token_urlsafe(18)


def later(asked: str, secret: str) -> str:
    """The correlation id of a question whose answer is fetched with `secret`, which it does not tell: whoever reads the topics,
    or the gateway's state, can fetch nothing by it. `asked` is the topic as the config writes it, so that an id is good for
    the routes of that topic alone.
    """
    return "later-" + hashlib.sha256(asked.encode() + b"\0" + secret.encode()).hexdigest()[:40]
