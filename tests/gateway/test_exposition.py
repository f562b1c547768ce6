"""What Prometheus reads. What it is told of exchanges is proved in test_observe."""

from __future__ import annotations

from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from gateway.exposition import families, metrics, text
from gateway.policy.tally import tally_of


def samples(told: bytes, route: str) -> dict[tuple[str, ...], float]:
    """What a text says of one route, by name and other labels."""
    return {
        (sample.name, *sorted(f"{name}={value}" for name, value in sample.labels.items() if name != "route")): sample.value
        for family in text_string_to_metric_families(told.decode())
        for sample in family.samples
        if sample.labels.get("route") == route
    }


def test_the_process_is_measured_too():
    assert b"process_resident_memory_bytes" in metrics()
    assert b'polygate_log_lines_dropped_total{log="stdout"}' in metrics()


def test_what_has_seen_nothing_is_left_out():
    route = f"route-{uuid4().hex}"
    tally_of("exchanges", route, "rest")
    assert {} == samples(metrics(), route)


def test_what_one_process_tells_another_reads_as_it_does_itself():
    route = f"route-{uuid4().hex}"
    tally = tally_of("exchanges", route, "rest")
    tally.accepted += 1
    tally.end("acknowledged", "", 0.3)
    own = samples(metrics(), route)
    assert 1 == own["polygate_exchanges_total", "outcome=acknowledged", "protocol=rest", "reason="]
    assert own == samples(text(families()), route)
