"""Every number of the process, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metric import Counter, Gauge, known
from gateway.policy.access import LOGS
from gateway.policy.tally import BOUNDS, Tally, tallies
from gateway.total import Families, Family

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_LABELS = ("route", "protocol")


class Metrics(Collector):
    """Every tally of the process, as Prometheus reads them. What has seen nothing yet is left out."""

    def collect(self) -> Iterator[Metric]:
        for kind, found in tallies().items():
            used = [(list(labels), tally) for labels, tally in found.items() if tally.accepted]
            yield from _counted(kind, used)
            if kind == "exchanges":
                yield _timed(used)
                yield from _carried(used)
        dropped = CounterMetricFamily("polygate_log_lines_dropped", "Access log lines that nobody read in time.", labels=["log"])
        for name, lines in LOGS.items():
            dropped.add_metric([name], lines.dropped)
        yield dropped
        for metric in known():
            yield _shown(metric)


Used = list[tuple[list[str], Tally]]


def _shown(metric: Counter | Gauge) -> Metric:
    model = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    family = model(metric.name, metric.about, labels=metric.labels)
    for labels, number in metric.values().items():
        family.add_metric(labels, number)
    return family


def _counted(kind: str, used: Used) -> Iterator[Metric]:
    accepted = CounterMetricFamily(f"polygate_{kind}_accepted", f"{kind.capitalize()} that were begun.", labels=_LABELS)
    flying = GaugeMetricFamily(f"polygate_{kind}_in_flight", f"{kind.capitalize()} that have not ended.", labels=_LABELS)
    ended = CounterMetricFamily(f"polygate_{kind}", f"{kind.capitalize()} that ended.", labels=(*_LABELS, "outcome", "reason"))
    for labels, tally in used:
        accepted.add_metric(labels, tally.accepted)
        flying.add_metric(labels, tally.accepted - tally.ended)
        for (outcome, reason), number in tally.outcomes.items():
            ended.add_metric([*labels, outcome, reason], number)
    return iter((accepted, flying, ended))


def _timed(used: Used) -> Metric:
    family = HistogramMetricFamily("polygate_exchange_seconds", "How long exchanges took, from first to last.", labels=_LABELS)
    for labels, tally in used:
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, number in zip((*map(str, BOUNDS), "+Inf"), tally.buckets, strict=True):
            below += number
            buckets.append((bound, below))
        family.add_metric(labels, buckets, tally.seconds)
    return family


def _carried(used: Used) -> Iterator[Metric]:
    labels = (*_LABELS, "direction")
    messages = CounterMetricFamily("polygate_messages", "Messages that were carried.", labels=labels)
    sizes = CounterMetricFamily("polygate_bytes", "Bytes of those messages' bodies.", labels=labels)
    for named, tally in used:
        messages.add_metric([*named, "in"], tally.messages_in)
        messages.add_metric([*named, "out"], tally.messages_out)
        sizes.add_metric([*named, "in"], tally.bytes_in)
        sizes.add_metric([*named, "out"], tally.bytes_out)
    return iter((messages, sizes))


_REGISTRY = CollectorRegistry()
_REGISTRY.register(Metrics())
ProcessCollector(registry=_REGISTRY)


def metrics() -> bytes:
    """Every metric of the process in Prometheus's text format, of type METRICS_TYPE. Call it on the event loop's thread."""
    return generate_latest(_REGISTRY)


def families() -> Families:
    """The same, for another process."""
    across = {metric.name: metric.across for metric in known() if isinstance(metric, Gauge)}
    return {
        one.name: Family(
            one.name,
            one.type,
            one.documentation,
            across.get(one.name, "sum"),
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in one.samples},
        )
        for one in _REGISTRY.collect()
    }


def text(told: Families) -> bytes:
    """What several processes have counted, as `metrics` has it of one."""
    registry = CollectorRegistry()
    registry.register(_Told(told))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, told: Families) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        for family in self._told.values():
            metric = Metric(family.name, family.about, family.type)
            for (name, labels), number in family.samples.items():
                metric.add_sample(name, dict(labels), number)
            yield metric
