"""Whether the parts of a config fit together and, where they do, the routes compiled from them.

What cannot work is refused here, when the config is loaded, with the reason: nothing is weakened in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway import registry
from gateway.codec import Contract
from gateway.config import Config, Route, did_you_mean, load
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Handler
from gateway.message import Many
from gateway.pipeline import answerable, conversation, pipeline
from gateway.policy import Policy, PolicyConfig
from gateway.port import Backend, ListenerConfig, Target, TargetConfig
from gateway.present import offers, translation
from gateway.route import Endpoint, PatternError, Table, segments_of
from gateway.source import ConfigError, Where
from gateway.template import Template, TemplateError
from gateway.topic.event import RECEIPT

ALWAYS = ("observe", "concurrency", "size", "deadline")
"""The policies that every route has, in their order; a route that names one itself has its own in its own place."""
MISS = "-"
"""What metrics and logs call the route of a call that has none."""


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
    where: Where


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route that fits."""

    name: str
    to: TargetConfig
    contract: Contract | None
    bindings: tuple[Binding, ...]
    line: int
    example: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A config that can work: its routes, ready to be bound to the backends once those are built."""

    config: Config
    routes: tuple[PlannedRoute, ...]

    def table(self, backends: Mapping[str, Backend]) -> Table:
        """The router over every route, with its handlers compiled."""
        table = Table(self._refusing)
        for route in self.routes:
            handler = backends[route.to.backend].handler(bound(self.config, route))
            for binding in route.bindings:
                table.add(binding.protocol, binding.method, binding.pattern, self._endpoint(route, binding, handler))
        return table

    def _endpoint(self, route: PlannedRoute, binding: Binding, handler: Handler) -> Endpoint:
        translate = translation(self.config.formats, route.to, route.contract, binding.protocol, binding.method)
        policies = [policy.build(route.name, binding.protocol) for policy in binding.policies]
        # Inside the policies too, so that what observe counts is the reason that the caller is told.
        inner = answerable(pipeline([translate], handler))
        run = conversation(policies, inner) if binding.each else pipeline(policies, inner)
        return Endpoint(route.name, answerable(run), binding.many, offers(self.config.formats, route.to, route.contract))

    def _refusing(self, protocol: str, error: GatewayError) -> Endpoint:
        async def refuse(_exchange: Exchange) -> None:
            raise type(error)(error.reason, error.message, details=error.details)

        return Endpoint(MISS, partial(_observed(protocol), forward=refuse))


_OBSERVERS: dict[str, Policy] = {}


def _observed(protocol: str) -> Policy:
    """The observer of misses, one a protocol."""
    if protocol not in _OBSERVERS:
        _OBSERVERS[protocol] = registry.load(registry.POLICY, "observe")(kind="observe").build(MISS, protocol)
    return _OBSERVERS[protocol]


def plan(path: Path, environment: Mapping[str, str] | None = None) -> Plan:
    """Load a config file and fit it together. Raises ConfigError with every problem found."""
    config = load(path, environment)
    protocols = {type(listener).protocol: type(listener) for listener in config.listeners.values() if listener.protocol}
    routes = [fitted for route in config.routes if (fitted := _fit(config, protocols, route)) is not None]
    _refuse_duplicates(config, routes)
    if config.source.problems:
        raise ConfigError(config.source.problems)
    return Plan(config, tuple(routes))


def bound(config: Config, route: PlannedRoute) -> Target:
    """A route's target as its backend is given it."""
    form = config.formats[route.to.format]
    kind = route.contract.request if route.contract and (form.typed or route.to.verb == "call") else None
    codec = form.codec(kind if form.typed else None)

    def fields(body: bytes) -> Mapping[str, object]:
        value = codec.decode(body)
        return value if isinstance(value, dict) else {}

    safe = route.to.safe or (route.contract is not None and route.contract.safe)
    content_type = form.content_types[0]
    return Target(route.name, route.to, route.contract, content_type, (lambda _body: {}) if form.opaque else fields, safe)


def _fit(config: Config, protocols: Mapping[str, type[ListenerConfig]], route: Route) -> PlannedRoute | None:
    source = config.source
    before = len(source.problems)
    contract = _contract(config, route)
    to = (*route.where, "to")
    backend = config.backends[route.to.backend]
    for refusal in (*route.to.refusals(contract), *backend.refusals(route.to, contract)):
        source.wrong(to, refusal)
    form = config.formats[route.to.format]
    if form.typed and contract is None:
        source.wrong((*to, "format"), f"{form.name} means nothing without a contract; name one with `contract:`")
    bindings: list[Binding] = []
    for protocol, calls in route.config.when.items():
        where = (*route.where, "when", protocol)
        if protocol not in protocols:
            known = ", ".join(protocols) or "none"
            source.wrong(where, f"no listener serves {protocol}{did_you_mean(protocol, protocols)} (served: {known})")
            continue
        for call in (calls,) if isinstance(calls, str) else calls:
            binding = _bind(config, protocols[protocol], route, contract, call, where)
            if binding is not None:
                bindings.append(binding)
    if len(source.problems) > before:
        return None
    return PlannedRoute(route.config.name, route.to, contract, tuple(bindings), source.line(route.where), route.config.example)


def _contract(config: Config, route: Route) -> Contract | None:
    """The route's own contract or, unless told, the method that gRPC calls it by."""
    called = route.config.when.get("grpc")
    name = route.config.contract or (called if isinstance(called, str) else None)
    if name is None:
        return None
    contract = config.contracts.methods.get(name)
    if contract is None:
        field: Where = ("contract",) if route.config.contract else ("when", "grpc")
        known = config.contracts.methods
        remedy = did_you_mean(name, known) if known else "; name a descriptor set under `contracts:`"
        config.source.wrong((*route.where, *field), f"no contract has the method {name!r}{remedy}")
    return contract


def _bind(
    config: Config, listener: type[ListenerConfig], route: Route, contract: Contract | None, call: str, where: Where
) -> Binding | None:
    source = config.source
    protocol = listener.protocol
    try:
        method, pattern = listener.pattern(call)
        names = {name for kind, name in segments_of(pattern) if kind != "literal"}
    except (PatternError, GatewayError, ValueError) as error:
        source.wrong(where, str(error))
        return None
    wire = listener.shape(contract)
    target = route.to.many(contract)
    each = bool(wire & Many.REQUESTS) and target is Many.NEITHER
    if (refusal := _misfit(protocol, wire, target, each=each)) is not None:
        source.wrong(where, refusal)
        return None
    if protocol == "grpc" and route.to.verb == "publish" and contract is not None and contract.reply.name != RECEIPT:
        source.wrong(where, f"a publish answers {RECEIPT}, but {contract.name} replies {contract.reply.name}")
        return None
    _check_templates(config, route, contract, names, where)
    many = Many.BOTH if each else (wire & target if protocol != "websocket" else wire)
    limit = max((part.limit() for part in config.listeners.values() if part.protocol == protocol), default=1 << 20)
    policies = tuple(_always(config, route, limit))
    return Binding(protocol, call, method, pattern, many, each, policies, where)


def _misfit(protocol: str, wire: Many, target: Many, *, each: bool) -> str | None:
    if target & Many.REPLIES and not wire & Many.REPLIES:
        return f"the target streams replies, and a {protocol} caller of this route gets one"
    if each and not wire & Many.REPLIES:
        return "the caller may send many messages, each answered by one, and gets a single reply: make the method bidirectional"
    if target is Many.REQUESTS and protocol == "websocket":
        return "the target replies once all requests are sent, which a WebSocket cannot say: it has no half-close"
    return None


def _check_templates(config: Config, route: Route, contract: Contract | None, names: Iterable[str], where: Where) -> None:
    """A variable must be in the path or, where a contract says which fields there are, in the message."""
    try:
        wanted = {name for text in route.to.templates() for name in Template(text).names}
    except TemplateError as error:
        config.source.wrong((*route.where, "to"), str(error))
        return
    if contract is None:
        return
    known = {*names, *contract.request.fields}
    for name in sorted(wanted - known):
        config.source.wrong(
            (*route.where, "to"), f"{{{name}}} is neither in {where[-1]}'s path nor a field of {contract.request.name}"
        )


def _always(config: Config, route: Route, limit: int) -> Iterable[PolicyConfig]:
    """The policies of a route in their order: those that always run, the file's, the route's own."""
    own = (*config.policies, *route.policies)
    named = {policy.kind for policy in own}
    for kind in ALWAYS:
        if kind not in named:
            model = registry.load(registry.POLICY, kind)
            yield model(kind=kind, limit=limit) if kind == "size" else model(kind=kind)
    yield from own


def _refuse_duplicates(config: Config, routes: Iterable[PlannedRoute]) -> None:
    names: dict[str, int] = {}
    calls: dict[tuple[str, str, str], tuple[str, int]] = {}
    for route in routes:
        if route.name in names:
            config.source.wrong(
                (*route.bindings[0].where[:2], "name"), f"{route.name} is the name of the route on line {names[route.name]} too"
            )
        names.setdefault(route.name, route.line)
        for binding in route.bindings:
            segments = tuple(name if kind == "literal" else f"{{{kind}}}" for kind, name in segments_of(binding.pattern))
            call = (binding.protocol, binding.method, "/".join(segments))
            line = config.source.line(binding.where)
            if call in calls:
                other, first = calls[call]
                config.source.wrong(binding.where, f"{binding.when} is taken by route {other} on line {first}")
            calls.setdefault(call, (route.name, line))
