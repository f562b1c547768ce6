"""What is seen of every exchange: a line in the access log, metrics, and a trace.

It stands on the way of every request, so an exchange only counts on plain integers bound when the config is loaded; what
Prometheus wants is made of them when it asks. The accounting holds between any two steps of the event loop:
accepted = acknowledged + failed + unknown + stored + dropped + in flight.
"""

from __future__ import annotations

from asyncio import CancelledError, Future
from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from json.encoder import encode_basestring_ascii as quoted
from time import perf_counter
from typing import Any, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.errors import GatewayError, Outcome, Reason
from gateway.exchange import Call, Exchange, Handler, Wrapper
from gateway.message import NO_HEADERS, Headers, Message
from gateway.metric import Counter, Gauge, known
from gateway.policy import Guard, Policy, PolicyConfig
from gateway.policy.access import Clock, Lines
from gateway.policy.trace import traced
from gateway.status import outcome_of
from gateway.total import Families, Family
from gateway.worker import own

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's buckets, in seconds."""
METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
TARGET_CHARS = 1024


class Config(PolicyConfig):
    """Access log line, metrics and `traceparent` for every exchange, and for every message that is an exchange of its own."""

    kind: Literal["observe"] = "observe"
    log: Literal["stdout", "stderr", "none"] = "stdout"
    """Where the access log goes: one JSON object a line."""

    def build(self, route: str, protocol: str) -> Policy:
        return Observe(route, protocol, LOGS.get(self.log))


class Tally:
    """The numbers of one route over one protocol: of its exchanges or, apart from them, of the conversations that hold these."""

    __slots__ = ("accepted", "buckets", "bytes_in", "bytes_out", "ended", "messages_in", "messages_out", "outcomes", "seconds")

    def __init__(self) -> None:
        self.accepted = 0
        self.ended = 0
        self.outcomes: dict[tuple[str, str], int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0

    def end(self, outcome: str, reason: str, seconds: float) -> None:
        """One exchange is over."""
        self.ended += 1
        key = (outcome, reason)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def settle(self, seconds: float, fate: Future[Any]) -> None:
        """What one exchange that was answered long ago came to. Until then it was in flight."""
        error = CancelledError() if fate.cancelled() else fate.exception()
        if error is None:
            self.end("acknowledged", "", seconds)
        else:
            told = error if isinstance(error, GatewayError) else GatewayError(Reason.CANCELLED, "", outcome=Outcome.FAILED)
            self.end("unknown" if outcome_of(told) is Outcome.UNKNOWN else "dropped", told.reason.value, seconds)


class Observe:
    """Counts, times, traces and logs one exchange."""

    guards = Guard.BOTH

    def __init__(self, route: str, protocol: str, lines: Lines | None) -> None:
        self._exchanges = _METRICS.tally("exchanges", route, protocol)
        self._conversations = _METRICS.tally("conversations", route, protocol)
        self._lines = lines
        number = own().number
        worker = f',"worker":{number}' if number else ""
        self._named = f'"route":{quoted(route)},"protocol":{quoted(protocol)}{worker}'

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        tally = self._conversations if call.each else self._exchanges
        headers, trace = traced(call.headers)
        seen = _Seen(exchange, call.but(headers=headers), tally)
        tally.accepted += 1
        started = perf_counter()
        outcome, reason = "unknown", "bug"
        try:
            await forward(seen)
            outcome, reason = seen.success, ""
        except GatewayError as error:
            outcome, reason = outcome_of(error).value, error.reason.value
            raise
        except CancelledError as error:
            # The caller is gone, or the listener ends it and says why: `task.cancel(Reason.OVERLOADED)`.
            why = error.args[0] if error.args else None
            reason = why.value if isinstance(why, Reason) else Reason.CANCELLED.value
            raise
        finally:
            seconds = perf_counter() - started
            if seen.fate is None:
                tally.end(outcome, reason, seconds)
            else:
                outcome, reason = "accepted", ""
                seen.fate.add_done_callback(partial(tally.settle, seconds))
            if self._lines is not None:
                self._lines.add(self._line(call, seen, f'"outcome":"{outcome}","reason":"{reason}"', seconds, trace))

    def _line(self, call: Call, seen: _Seen, result: str, seconds: float, trace: str) -> str:
        """Written by hand: json.dumps of the same object costs three times as much. Only target and peer are the caller's."""
        target = call.target.partition("?")[0][:TARGET_CHARS]
        return (
            f'{{"time":"{_clock()}","id":"{call.id}",{self._named},"target":{quoted(target)},{result},"ms":{seconds * 1000:.3f},'
            f'"messages_in":{seen.messages_in},"messages_out":{seen.messages_out},'
            f'"bytes_in":{seen.bytes_in},"bytes_out":{seen.bytes_out},"trace":"{trace}","peer":{quoted(call.peer)}}}'
        )


class _Seen(Wrapper):
    """Counts what passes, for the log line and, as it passes, for the metrics."""

    __slots__ = ("_tally", "bytes_in", "bytes_out", "fate", "messages_in", "messages_out", "success")

    def __init__(self, inner: Exchange, call: Call, tally: Tally) -> None:
        self.inner = inner
        self.call = call
        self._tally = tally
        self.success = "acknowledged"
        self.fate: Future[Any] | None = None
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        # 202: kept, to be carried out later.
        if headers and headers.get(":status") == "202":
            self.success = "stored"
        await self.inner.accept(headers)

    async def receive(self) -> Message:
        message = await self.inner.receive()
        size = len(message.body)
        tally = self._tally
        self.messages_in += 1
        self.bytes_in += size
        tally.messages_in += 1
        tally.bytes_in += size
        return message

    async def send(self, message: Message) -> None:
        await self.inner.send(message)
        size = len(message.body)
        tally = self._tally
        self.messages_out += 1
        self.bytes_out += size
        tally.messages_out += 1
        tally.bytes_out += size

    def settle(self, fate: Future[Any]) -> None:
        self.fate = fate


_LABELS = ("route", "protocol")


class Metrics(Collector):
    """Every tally of the process, as Prometheus reads them. What has seen nothing yet is left out."""

    def __init__(self) -> None:
        self._tallies: dict[str, dict[tuple[str, str], Tally]] = {"exchanges": {}, "conversations": {}}

    def tally(self, kind: str, route: str, protocol: str) -> Tally:
        """The one of a route and a protocol: it counts on through a reload of the config."""
        return self._tallies[kind].setdefault((route, protocol), Tally())

    def collect(self) -> Iterator[Metric]:
        for kind, tallies in self._tallies.items():
            used = [(list(labels), tally) for labels, tally in tallies.items() if tally.accepted]
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


_VALUES_DROPPED = Counter(
    "polygate_header_values_dropped", "Header values that cannot be passed on: no ASCII, no base64.", "protocol"
)
_clock = Clock()
LOGS = {"stdout": Lines(1), "stderr": Lines(2)}
_METRICS = Metrics()
_REGISTRY = CollectorRegistry()
_REGISTRY.register(_METRICS)
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


def header_values_dropped(protocol: str, number: int = 1) -> None:
    """Count values of headers that were left out, for no wire could carry them further."""
    _VALUES_DROPPED.add(number, protocol)


def flush() -> None:
    """Write what the access logs still hold. For the end of the process."""
    for lines in LOGS.values():
        lines.flush()
