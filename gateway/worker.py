"""Which of several processes this one is, where `workers` asks for more than one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field

VARIABLE = "POLYGATE_WORKER"


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker is told by the process that looks after it. Number 0 is a process of its own."""

    number: int = 0
    """Counted from 1; a worker that takes the place of one that died has its number."""
    of: int = 0
    """How many there are."""
    channel: int = -1
    """The descriptor of the socket to that process."""
    sockets: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The descriptors of its listening sockets, by listener."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The ports of the listeners that must open their sockets themselves, where they asked for any."""
    binds: Mapping[str, str] = field(default_factory=dict)
    """What a listener said when its sockets were opened; one that says otherwise by now opens its own. Not of those that systemd
    has handed over: their name counts."""

    def told(self) -> Mapping[str, str]:
        """The same as a variable of the environment."""
        return {VARIABLE: json.dumps(asdict(self))}


_own = Worker()


def own() -> Worker:
    """This process."""
    return _own


def become(environment: MutableMapping[str, str] = os.environ) -> Worker:
    """Be the worker that the environment tells of, if it does. It is taken out, so that no child takes itself for it."""
    global _own  # noqa: PLW0603  as a process has one pid, it has one number
    told = environment.pop(VARIABLE, "")
    _own = Worker(**json.loads(told)) if told else Worker()
    return _own
