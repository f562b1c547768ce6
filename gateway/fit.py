"""Whether the parts of a config fit together. What cannot work is refused here, when the config is loaded, with the reason:
nothing is weakened in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace

from gateway import registry
from gateway.alone import check_alone
from gateway.below import below, check_posts, check_results
from gateway.binding import Binding, PlannedRoute, check_calls, settled
from gateway.codec import Contract, Rule
from gateway.condition import When
from gateway.config import Config, LeftOut, Route
from gateway.errors import GatewayError
from gateway.expression import ExpressionError
from gateway.file import CallConfig
from gateway.listener import ListenerConfig
from gateway.meaning import Contracts, check_target, check_templates, check_variables, contracts_of
from gateway.message import Many
from gateway.owner import check_owners
from gateway.pattern import PatternError, pattern_of
from gateway.policy import PolicyConfig
from gateway.remedy import did_you_mean
from gateway.route import Condition
from gateway.service import service_routes
from gateway.source import Where
from gateway.target import TargetConfig
from gateway.topic.event import RECEIPT
from gateway.topic.tail import TALKERS, TailTo
from gateway.wire import Wire

ALWAYS = ("observe", "concurrency", "size", "deadline")
"""The policies that every route has, in their order; a route that names one itself has its own in its own place."""


def fitted(config: Config) -> tuple[PlannedRoute, ...]:
    """The routes that fit. Every problem is noted in the config's source."""
    check_owners(config)
    wires: dict[str, tuple[Wire, ...]] = {}
    for listener in config.listeners.values():
        for name, spoken in listener.wires().items():
            known = {wire.protocol for wire in wires.get(name, ())}
            # A protocol's own listener first: what is wrong with a call is told in its words.
            new = tuple(wire for wire in spoken if wire.protocol not in known)
            wires[name] = (*new, *wires.get(name, ())) if name == listener.protocol else (*wires.get(name, ()), *new)
    # What somebody wrote goes before what follows from a service.
    wanted = (*config.routes, *service_routes(config, wires))
    routes = settled(config, [found for route in wanted for found in _fits(config, wires, route)])
    check_calls(config, routes)
    check_alone(config, routes)
    check_results(config, routes)
    return routes


def _check_kept(config: Config, route: Route) -> None:
    """Nothing is to be kept for longer than the gateway's state lasts."""
    longest = config.file.state.max_age
    for field, seconds in route.to.keeps().items():
        if seconds > longest:
            text = f"keeps for longer than the gateway's state does: state.max_age is {longest:g} s"
            config.source.wrong((*route.where, "to", *field), text)


def _fits(config: Config, wires: Mapping[str, Sequence[Wire]], route: Route) -> Iterator[PlannedRoute]:
    """A route that fits, and the one below it."""
    found = _fit(config, wires, route)
    if found is None:
        return
    yield found
    lower = below(route, found)
    if lower is not None and (served := _fit(config, wires, lower)) is not None:
        yield served


def _fit(config: Config, wires: Mapping[str, Sequence[Wire]], route: Route) -> PlannedRoute | None:
    source = config.source
    before = len(source.problems)
    for protocol in route.config.when:
        if protocol not in wires and "listeners" not in config.broken:
            source.wrong((*route.where, "when", protocol), f"no listener serves {protocol}{did_you_mean(protocol, wires)}")
        if not route.config.when[protocol]:
            source.wrong((*route.where, "when", protocol), "names no call; take it out, or write one")
    _check_policies(config, route)
    _check_kept(config, route)
    check_posts(config, route)
    condition = _condition(config, route)
    contracts = contracts_of(config, route)
    if contracts is None:
        return None
    check_target(config, route, contracts)
    bindings = [
        binding
        for protocol in route.config.when
        if protocol in wires
        for call in route.config.calls(protocol)
        for binding in _bind(config, protocol, wires[protocol], route, contracts, call)
    ]
    generated = route.origins is not None
    if len(source.problems) > before or not (bindings or generated):
        return None
    return PlannedRoute(
        route.config.name,
        route.to,
        *contracts,
        tuple(bindings),
        route.where,
        route.config.example,
        generated=generated,
        left_out=tuple(route.left_out),
        condition=condition,
        method_override=route.config.method_override,
    )


def _condition(config: Config, route: Route) -> Condition | None:
    """The route's `if:`."""
    if route.config.condition is None:
        return None
    try:
        return When(route.config.condition)
    except ExpressionError as error:
        config.source.wrong((*route.where, "if"), str(error))
        return None


def _check_policies(config: Config, route: Route) -> None:
    """Each can do something where it stands."""
    source = config.source
    placed: list[tuple[Where, PolicyConfig]] = [
        *((("policies", index), policy) for index, policy in enumerate(config.policies)),
        *(((*route.where, "policies", index), policy) for index, policy in enumerate(route.policies)),
    ]
    if sum(policy.kind == "observe" for _, policy in placed) > 1:
        source.wrong((*route.where, "policies"), "observe runs twice for this route: everything would be counted twice")
    broken = "listeners" in config.broken
    everywhere = None if broken else _limit(config, {name for part in config.listeners.values() for name in part.wires()})
    here = None if broken else _limit(config, route.config.when)
    for number, (where, policy) in enumerate(placed):
        before = [other for _, other in placed[:number]]
        for field, refusal in policy.refusals(before, everywhere if number < len(config.policies) else here):
            source.wrong((*where, field) if isinstance(field, str) else (*where, *field), refusal)


def _bind(
    config: Config, when: str, wires: Sequence[Wire], route: Route, contracts: Contracts, called: CallConfig
) -> Iterator[Binding]:
    """One call of a route on each wire that carries it. What is wrong with it is told once, in the first one's words."""
    source = config.source
    where, origin = _place(config, route, when, called.call)
    wire, contract, call = wires[0], contracts[0], called.call

    def wrong(text: str) -> None:
        source.wrong(where, text if route.origins is None else f"{call} ({origin}): {text}")

    try:
        method, pattern = wire.pattern(call)
        names = pattern_of(pattern).names
    except (PatternError, GatewayError, ValueError) as error:
        wrong(str(error))
        return
    shape = wire.shape(contract)
    target = route.to.many(contracts[1])
    each = wire.each and bool(shape & Many.REQUESTS) and target is Many.NEITHER
    if (refusal := _misfit(when, shape, target, each=each) or _misreply(when, route.to, contract)) is not None:
        if route.origins is None:
            wrong(refusal)
        else:
            route.left_out.append(LeftOut(when, call, origin, refusal))
        return
    if any(_calls_itself(part, route.to, call) for part in config.listeners.values() if part.protocol == when):
        wrong(f"the target writes to {call}, so every record would call this route again, without end")
    check_templates(config, route, contracts[1], names, when)
    rule = replace(_rule(route, called, wire.rule(method), wrong), variables=names if route.to.reads else ())
    check_variables(config, route, contract, rule, when, wrong)
    many = Many.BOTH if each else shape & target
    for one in wires:
        limit = _limit(config, {one.protocol})
        policies = tuple(_always(config, route, limit))
        yield Binding(one.protocol, call, method, pattern, many, each, policies, limit, where, rule, origin)


def _place(config: Config, route: Route, when: str, call: str) -> tuple[Where, str]:
    """Where a call is told of in the file, and where it is written."""
    if route.origins is not None:
        return route.where, route.origins[when, call]
    where = (*route.where, "when", when)
    return where, config.source.origin(where)


def _rule(route: Route, called: CallConfig, rule: Rule, wrong: Callable[[str], None]) -> Rule:
    """How a call's request stands for a message: as its wire has it, where the route does not say otherwise."""
    if not rule.http:
        if called.body is not None or called.response_body:
            wrong("only an HTTP request has a body that may be a part of the message; say only the call")
        return rule
    body = rule.body if called.body is None else called.body
    return replace(rule, body=body, response_body=called.response_body, unknown_query=route.config.unknown_query)


def _calls_itself(listener: ListenerConfig, to: TargetConfig, call: str) -> bool:
    consumed = listener.consumes(call)
    return consumed is not None and any((to.backend, topic) == consumed for topic in to.writes())


def _limit(config: Config, protocols: Container[str]) -> int | None:
    """The largest message that any listener of these protocols takes; None where one has no limit of its own."""
    spoken = [(part, [wire.protocol for wires in part.wires().values() for wire in wires]) for part in config.listeners.values()]
    limits = [part.limit() for part, names in spoken if any(name in protocols for name in names)]
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None


def _misfit(protocol: str, wire: Many, target: Many, *, each: bool) -> str | None:
    if target & Many.REPLIES and not wire & Many.REPLIES:
        return f"the target streams replies, and a {protocol} caller of this route gets one"
    if each and not wire & Many.REPLIES:
        return "the caller may send many messages, each answered by one, and gets a single reply: make the method bidirectional"
    return None


def _misreply(protocol: str, to: TargetConfig, contract: Contract | None) -> str | None:
    if protocol == "grpc" and to.verb == "publish" and contract is not None and contract.reply.name != RECEIPT:
        return f"a publish answers {RECEIPT}, but {contract.name} replies {contract.reply.name}"
    if isinstance(to, TailTo) and to.subscribers is not None and protocol not in TALKERS:
        return f"subscribers acknowledge what they get, which a {protocol} caller cannot"
    return None


def _always(config: Config, route: Route, limit: int | None) -> Iterator[PolicyConfig]:
    """The policies of a route in their order: those that always run, the file's, the route's own; what marks every answer stands
    around all that could refuse.
    """
    own = (*config.policies, *route.policies)
    named = {policy.kind for policy in own}
    marks = {policy.kind: policy for policy in own if policy.marks}
    for kind in ALWAYS:
        if kind not in named:
            model = registry.load(registry.POLICY, kind)
            yield model(kind=kind, limit=limit) if kind == "size" and limit is not None else model(kind=kind)
        if kind == "observe":
            yield from marks.values()
    yield from (policy for policy in own if not policy.marks)
