"""Routes as each protocol serves them, and which calls reach them: each call has one route, each route a call that may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from gateway.codec import MESSAGE, Contract, Rule
from gateway.config import Config, LeftOut
from gateway.exchange import Exchange
from gateway.message import Headers, Many
from gateway.pattern import pattern_of
from gateway.policy import PolicyConfig
from gateway.remedy import did_you_mean
from gateway.route import Condition, Endpoint, Facts
from gateway.source import Where
from gateway.table import Table
from gateway.target import TargetConfig

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
    where: Where = field(compare=False)
    rule: Rule = MESSAGE
    """How its requests stand for messages."""
    origin: str = field(default="", compare=False)
    """Where the call is written: file:line of the config, or of the .proto whose annotation gives it."""


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route that fits. Two are equal where they do the same, wherever they are written."""

    name: str
    to: TargetConfig
    contract: Contract | None
    """What the caller's messages mean."""
    target_contract: Contract | None
    """What the target's mean: the same, unless a policy between them builds one from the other."""
    bindings: tuple[Binding, ...]
    where: Where = field(compare=False)
    """Where it is written, or the service that it follows from."""
    example: Mapping[str, Any] = field(compare=False)
    condition: Condition | None = None
    """Which of the calls that fit its patterns it takes; None for all."""
    method_override: bool = False
    """A POST may say another method in X-HTTP-Method-Override."""
    generated: bool = False
    """It follows from an entry of `services:`."""
    left_out: tuple[LeftOut, ...] = field(default=(), compare=False)
    """The calls that would be its own, and cannot be served."""


Labelled = Mapping[str, tuple[PlannedRoute, Binding]]
Labels = tuple[Table, Labelled, list[tuple[str, str]]]
Conditions = Callable[[str, Condition], Condition]


_SUPPOSED = ":supposed"


@dataclass(frozen=True, slots=True)
class _Supposed:
    """A condition that holds where a call is made for its route, by the label: what is asked is whether any call can come."""

    condition: Condition
    label: str = field(compare=False)

    def __call__(self, facts: Facts) -> bool:
        return facts.headers.get(_SUPPOSED) in {None, self.label}


def _for(label: str) -> Headers:
    return Headers(((_SUPPOSED, label),))


def labelled(routes: Iterable[PlannedRoute], conditions: Conditions = lambda _label, condition: condition) -> Labels:
    """A router that tells of each call which binding has it, by a label; and the pairs of which the second came too late."""
    table = Table(lambda _protocol, _error: Endpoint("", _unused))
    bindings: dict[str, tuple[PlannedRoute, Binding]] = {}
    taken: list[tuple[str, str]] = []
    for route in routes:
        for binding in route.bindings:
            label = str(len(bindings))
            bindings[label] = (route, binding)
            condition = conditions(label, route.condition) if route.condition is not None else None
            endpoint = Endpoint(label, _unused, condition=condition)
            first = table.add(binding.protocol, binding.method, binding.pattern, endpoint)
            if first is not None:
                taken.append((first, label))
    return table, bindings, taken


async def _unused(_exchange: Exchange) -> None:
    raise AssertionError("this table is only asked, never served")


def _check_names(config: Config, routes: Iterable[PlannedRoute]) -> None:
    known: dict[str, Where] = {}
    for route in routes:
        if route.name in known and route.bindings:
            where = (*route.bindings[0].where[:2], "name")
            first = config.source.seen_from(where, known[route.name])
            config.source.wrong(where, f"{route.name} is the name of the route {first} too")
        known.setdefault(route.name, route.where)


def settled(config: Config, routes: Sequence[PlannedRoute]) -> tuple[PlannedRoute, ...]:
    """The routes less the calls of services that routes which somebody wrote have already, or take before them."""
    table, bindings, taken = labelled(routes, lambda label, condition: _Supposed(condition, label))
    firsts = {label: bindings[first] for first, label in taken}
    depth = max((binding.pattern.count("/") for _, binding in bindings.values()), default=0)
    lost: dict[str, list[tuple[Binding, str]]] = {}
    for label, (route, binding) in bindings.items():
        if not route.generated:
            continue
        if label in firsts:
            first, other = firsts[label]
            if not first.generated:
                why = f"route {first.name} has it {config.source.seen_from(binding.where, other.where)}"
                lost.setdefault(route.name, []).append((binding, why))
        elif not _reached(table, label, binding, depth):
            lost.setdefault(route.name, []).append((binding, "other routes, more specific, take it"))
    return tuple(_without(route, lost.get(route.name, [])) for route in routes)


def _without(route: PlannedRoute, lost: Sequence[tuple[Binding, str]]) -> PlannedRoute:
    if not route.generated or not lost:
        return route
    gone = [binding for binding, _ in lost]
    left = (LeftOut(one.protocol, one.when, one.origin, why) for one, why in lost)
    return replace(route, bindings=tuple(one for one in route.bindings if one not in gone), left_out=(*route.left_out, *left))


def _reached(table: Table, label: str, binding: Binding, depth: int) -> bool:
    """Whether any call comes to a binding."""
    found = (table.find(binding.protocol, call, _for(label)) for call in _samples(binding, depth))
    return any(one.endpoint.route == label for one in found)


def check_calls(config: Config, routes: Sequence[PlannedRoute]) -> None:
    """Note every name and every call that has two routes, and every route that no call can reach."""
    _check_names(config, routes)
    table, bindings, taken = labelled(routes, lambda label, condition: _Supposed(condition, label))
    for first, label in taken:
        route, other = bindings[first]
        binding = bindings[label][1]
        # Of a service that is served whole it is the annotation that tells which is meant.
        place = f"on {other.origin}" if route.generated else config.source.seen_from(binding.where, other.where)
        config.source.wrong(binding.where, f"{binding.when} is taken by route {route.name} {place}")
    late = {label for _, label in taken}
    depth = max((binding.pattern.count("/") for _, binding in bindings.values()), default=0)
    for label, (_, binding) in bindings.items():
        found = [table.find(binding.protocol, call, _for(label)) for call in _samples(binding, depth)]
        if label not in late and all(one.endpoint.route != label for one in found):
            why = "other routes, more specific, take them all" if found[0].error is None else "a path has no . or .. in it"
            config.source.wrong(binding.where, f"no call can reach {binding.when}: {why}")
    _check_asked(config, table, bindings)


def _samples(binding: Binding, depth: int) -> Iterator[str]:
    """Calls that a binding's pattern takes, of every length that could be told from another pattern's."""
    pattern = pattern_of(binding.pattern)
    method = f"{binding.method} " if binding.method else ""
    verb = f":{quote(pattern.verb, safe='')}" if pattern.verb else ""
    fixed = [quote(text, safe="") if kind == "literal" else _ANY_SEGMENT for kind, text in pattern.segments if kind != "rest"]
    for length in range(depth + 2 if pattern.segments[-1].kind == "rest" else 1):
        yield f"{method}/{'/'.join((*fixed, *[_ANY_SEGMENT] * length))}{verb}"


def _check_asked(config: Config, table: Table, bindings: Labelled) -> None:
    """Where listeners know beforehand which calls they will make, every one has a route, and every route is called."""
    asked: dict[str, dict[str, str]] = {}
    called: set[str] = set()
    for name, listener in config.listeners.items():
        for call in listener.asks() or ():
            method, path = type(listener).pattern(call)
            target = f"{method} {path}".lstrip()
            found = table.find(listener.protocol, target)
            asked.setdefault(listener.protocol, {})[call] = target
            called.add(found.endpoint.route)
            if found.error is not None and "routes" not in config.broken and not config.source.problems:
                text = f"no route takes {call}; add one with when: {{{listener.protocol}: {call}}}"
                config.source.wrong(("listeners", name), text)
    for label, (_, binding) in bindings.items():
        known = asked.get(binding.protocol)
        if label in called or known is None or "listeners" in config.broken:
            continue
        found_for = (table.find(binding.protocol, target, _for(label)) for target in known.values())
        if all(found.endpoint.route != label for found in found_for):
            config.source.wrong(
                binding.where, f"no {binding.protocol} listener asks for {binding.when}{did_you_mean(binding.when, known)}"
            )
