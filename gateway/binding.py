"""Routes as each protocol serves them, and which calls reach them: each call has one route, each route a call that may come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway.codec import MESSAGE, Contract, Rule
from gateway.config import Config
from gateway.exchange import Exchange
from gateway.message import Many
from gateway.policy import PolicyConfig
from gateway.port import TargetConfig
from gateway.remedy import did_you_mean
from gateway.route import Endpoint, Table, segments_of
from gateway.source import Where

# Stands for any segment: no literal of a pattern can be NUL.
_ANY_SEGMENT = "\0"


@dataclass(frozen=True, slots=True)
class Binding:
    """A route as one protocol serves it."""

    protocol: str
    when: str
    method: str
    pattern: str
    many: Many
    """What is streamed on this wire for this route."""
    each: bool
    """Whether every message of the caller becomes an exchange of its own."""
    policies: tuple[PolicyConfig, ...]
    limit: int | None
    """The largest message that a listener of the protocol takes, in bytes; None where one has no limit of its own."""
    where: Where
    rule: Rule = MESSAGE
    """How its requests stand for messages."""


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route that fits."""

    name: str
    to: TargetConfig
    contract: Contract | None
    """What the caller's messages mean."""
    target_contract: Contract | None
    """What the target's mean: the same, unless a policy between them builds one from the other."""
    bindings: tuple[Binding, ...]
    line: int
    example: Mapping[str, Any]


Labelled = Mapping[str, tuple[PlannedRoute, Binding]]


def labelled(routes: Iterable[PlannedRoute]) -> tuple[Table, Labelled, list[tuple[str, str]]]:
    """A router that tells of each call which binding has it, by a label; and the pairs of which the second came too late."""
    table = Table(lambda _protocol, _error: Endpoint("", _unused))
    bindings: dict[str, tuple[PlannedRoute, Binding]] = {}
    taken: list[tuple[str, str]] = []
    for route in routes:
        for binding in route.bindings:
            label = str(len(bindings))
            bindings[label] = (route, binding)
            first = table.add(binding.protocol, binding.method, binding.pattern, Endpoint(label, _unused))
            if first is not None:
                taken.append((first, label))
    return table, bindings, taken


async def _unused(_exchange: Exchange) -> None:
    raise AssertionError("this table is only asked, never served")


def _check_names(config: Config, routes: Iterable[PlannedRoute]) -> None:
    lines: dict[str, int] = {}
    for route in routes:
        if route.name in lines:
            where = (*route.bindings[0].where[:2], "name")
            config.source.wrong(where, f"{route.name} is the name of the route on line {lines[route.name]} too")
        lines.setdefault(route.name, route.line)


def check_calls(config: Config, routes: Sequence[PlannedRoute]) -> None:
    """Note every name and every call that has two routes, and every route that no call can reach."""
    _check_names(config, routes)
    table, bindings, taken = labelled(routes)
    for first, label in taken:
        route, other = bindings[first]
        binding = bindings[label][1]
        line = config.source.line(other.where)
        config.source.wrong(binding.where, f"{binding.when} is taken by route {route.name} on line {line}")
    late = {label for _, label in taken}
    depth = max((binding.pattern.count("/") for _, binding in bindings.values()), default=0)
    for label, (_, binding) in bindings.items():
        found = [table.find(binding.protocol, call) for call in _samples(binding, depth)]
        if label not in late and all(one.endpoint.route != label for one in found):
            why = "other routes, more specific, take them all" if found[0].error is None else "a path has no . or .. in it"
            config.source.wrong(binding.where, f"no call can reach {binding.when}: {why}")
    _check_asked(config, table, bindings)


def _samples(binding: Binding, depth: int) -> Iterator[str]:
    """Calls that a binding's pattern takes, of every length that could be told from another pattern's."""
    segments = segments_of(binding.pattern)
    method = f"{binding.method} " if binding.method else ""
    fixed = [quote(name, safe="") if kind == "literal" else _ANY_SEGMENT for kind, name in segments if kind != "rest"]
    for length in range(depth + 2 if segments[-1][0] == "rest" else 1):
        yield f"{method}/{'/'.join((*fixed, *[_ANY_SEGMENT] * length))}"


def _check_asked(config: Config, table: Table, bindings: Labelled) -> None:
    """Where listeners know beforehand which calls they will make, every one has a route, and every route is called."""
    asked: dict[str, list[str]] = {}
    for name, listener in config.listeners.items():
        for call in listener.asks() or ():
            method, path = type(listener).pattern(call)
            found = table.find(listener.protocol, f"{method} {path}".lstrip())
            asked.setdefault(listener.protocol, []).append(call)
            if found.error is not None and "routes" not in config.broken and not config.source.problems:
                text = f"no route takes {call}; add one with when: {{{listener.protocol}: {call}}}"
                config.source.wrong(("listeners", name), text)
            asked[found.endpoint.route] = []
    for label, (_, binding) in bindings.items():
        if binding.protocol in asked and label not in asked and "listeners" not in config.broken:
            known = asked[binding.protocol]
            config.source.wrong(
                binding.where, f"no {binding.protocol} listener asks for {binding.when}{did_you_mean(binding.when, known)}"
            )
