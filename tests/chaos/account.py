"""What the gateway itself counted, and whether that adds up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Metrics = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Numbers by name and labels."""
OUTCOMES = {"acknowledged", "failed", "unknown", "stored", "dropped"}


def read(text: str) -> Metrics:
    """What /metrics says."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def accounted(metrics: Metrics) -> None:
    """Accepted = acknowledged + failed + unknown + stored + dropped + in flight."""
    accepted = sum(metrics["polygate_exchanges_accepted_total"].values())
    ended = sum(metrics["polygate_exchanges_total"].values())
    flying = sum(metrics["polygate_exchanges_in_flight"].values())
    outcomes = {dict(labels)["outcome"] for labels in metrics["polygate_exchanges_total"]}
    assert accepted == ended + flying, (accepted, ended, flying)
    assert outcomes <= OUTCOMES, outcomes


def settled_later(metrics: Metrics, route: str) -> tuple[int, int]:
    """How many of the records that a route accepted were dropped, and may have been, by the gateway's own account."""
    ended = [(dict(labels), number) for labels, number in metrics["polygate_exchanges_total"].items()]
    mine = [(labels["outcome"], int(number)) for labels, number in ended if labels["route"] == route]
    return sum(n for outcome, n in mine if outcome == "dropped"), sum(n for outcome, n in mine if outcome == "unknown")
