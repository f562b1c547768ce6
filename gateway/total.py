"""What several processes have counted, as one. Counters, histograms and gauges add up, or the greatest counts where a gauge
says so; what is of a process itself (process_*) is told for each, by a label.

What a process had counted when it died stays counted, so that no counter ever goes back; what it had under way is then counted as
ended, its outcome unknown, so that accepted = ended + in flight still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Key = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample and its labels."""

OF_A_PROCESS = "process_"
DIED = (("outcome", "unknown"), ("reason", "died"))
_ENDED = {f"polygate_{kind}_in_flight": f"polygate_{kind}" for kind in ("exchanges", "conversations")}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, with its samples."""

    name: str
    type: str
    about: str
    across: str = "sum"
    """What several processes' samples come to: their "sum", or their "max"."""
    samples: Mapping[Key, float] = field(default_factory=dict)

    def plain(self) -> list[Any]:
        """The same as JSON has it."""
        samples = [[name, labels, number] for (name, labels), number in self.samples.items()]
        return [self.name, self.type, self.about, self.across, samples]


Families = Mapping[str, Family]


def read(told: Iterable[list[Any]]) -> Families:
    """What another process has told, by name."""
    return {
        name: Family(name, kind, about, across, {(one, tuple(map(tuple, labels))): number for one, labels, number in samples})
        for name, kind, about, across, samples in told
    }


def total(parts: Iterable[Families]) -> Families:
    """The families of several processes as one's."""
    whole: dict[str, Family] = {}
    for families in parts:
        for name, family in families.items():
            known = whole.get(name)
            whole[name] = family if known is None else replace(family, samples=_sum(known.samples, family.samples, family.across))
    return whole


def _sum(one: Mapping[Key, float], other: Mapping[Key, float], across: str) -> Mapping[Key, float]:
    samples = dict(one)
    for key, number in other.items():
        before = samples.get(key)
        if before is None:
            samples[key] = number
        else:
            samples[key] = max(before, number) if across == "max" else before + number
    return samples


def of_worker(families: Families, number: int) -> Families:
    """The same, where what is of the process itself says of which."""
    label = ("worker", str(number))
    return {
        name: replace(family, samples={(one, (*labels, label)): value for (one, labels), value in family.samples.items()})
        if name.startswith(OF_A_PROCESS)
        else family
        for name, family in families.items()
    }


def remains(families: Families) -> Families:
    """What still counts of a process that is dead."""
    counted = {name: family for name, family in families.items() if family.type != "gauge" and not name.startswith(OF_A_PROCESS)}
    for flying, ended in _ENDED.items():
        if flying not in families or ended not in counted:
            continue
        left = {
            (f"{ended}_total", (*labels, *DIED)): number for (_, labels), number in families[flying].samples.items() if number
        }
        counted[ended] = replace(counted[ended], samples=_sum(counted[ended].samples, left, "sum"))
    return counted


class Totals:
    """The numbers of several processes, the dead among them."""

    def __init__(self) -> None:
        self._living: dict[int, Families] = {}
        self._dead: Families = {}

    def told(self, number: int, families: Families) -> None:
        """What a worker has counted by now."""
        self._living[number] = families

    def died(self, number: int) -> None:
        """A worker is no more: what it told last stays counted."""
        last = self._living.pop(number, {})
        self._dead = total((self._dead, remains(last)))

    def whole(self) -> Families:
        """All of it."""
        return total((self._dead, *(of_worker(families, number) for number, families in self._living.items())))
