"""Counters and gauges that any part of the gateway may keep, as plain numbers; `exposition.py` shows them to Prometheus.

    LATE = Counter("polygate_late_replies", "Replies that came after their caller was answered.", "backend")
    LATE.add(1, "events")

A metric is made once, where its module is loaded, and lives as long as the process, through every reload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal


class Counter:
    """A number that only grows, for each set of labels."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        """`name` without `_total`; `about` is the help text that Prometheus shows."""
        self.name = name
        self.about = about
        self.labels = labels
        self._values: dict[tuple[str, ...], float] = {}
        _known(self)

    def add(self, number: float = 1, *labels: str) -> None:
        """Count on."""
        self._values[labels] = self._values.get(labels, 0) + number

    def values(self) -> Mapping[tuple[str, ...], float]:
        """What was counted, by labels."""
        return dict(self._values)


class Gauge:
    """A number that is read when somebody asks, for each set of labels that is watched."""

    def __init__(self, name: str, about: str, *labels: str, across: Literal["sum", "max"] = "sum") -> None:
        """`across`: what the numbers of several processes come to."""
        self.across = across
        self.name = name
        self.about = about
        self.labels = labels
        self._reads: dict[tuple[str, ...], Callable[[], float]] = {}
        _known(self)

    def watch(self, read: Callable[[], float], *labels: str) -> Callable[[], None]:
        """Read it by this from now on; the one before of these labels is let go. Returns how to stop."""
        self._reads[labels] = read

        def stop() -> None:
            if self._reads.get(labels) is read:
                del self._reads[labels]

        return stop

    def values(self) -> Mapping[tuple[str, ...], float]:
        """What it is now, by labels."""
        return {labels: read() for labels, read in self._reads.items()}


Metric = Counter | Gauge

_KNOWN: dict[str, Metric] = {}


def _known(metric: Metric) -> None:
    if metric.name in _KNOWN:
        raise ValueError(f"there is a metric {metric.name} already")
    _KNOWN[metric.name] = metric


def known() -> Iterator[Metric]:
    """Every metric of the process, in the order of their names."""
    return (_KNOWN[name] for name in sorted(_KNOWN))
