"""A config that can work, and the routes compiled from it: one handler for each route and protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway import registry
from gateway.binding import Binding, PlannedRoute
from gateway.codec import Value
from gateway.config import Config, load
from gateway.errors import GatewayError
from gateway.exchange import Handler
from gateway.fit import fitted
from gateway.kept import NOTHING_KEPT, Kept
from gateway.message import Many
from gateway.pipeline import answerable, conversation, pipeline
from gateway.policy import Policy, PolicyConfig
from gateway.port import Backend, Target
from gateway.present import offers, opened, opening, raw, translation, uploads
from gateway.route import Endpoint, Table, refusal
from gateway.topic.event import EVENT
from gateway.topic.tail import TailTo

MISS = "-"
"""What metrics and logs call the route of a call that has none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A config that can work: its routes, ready to be bound to the backends once those are built."""

    config: Config
    routes: tuple[PlannedRoute, ...]

    def needs(self) -> Mapping[str, AbstractSet[str]]:
        """What the routes need of the gateway beside their backends ("state", "spool"), with the backends that it is for."""
        needed: dict[str, set[str]] = {}
        for route in self.routes:
            for one in route.to.needs():
                needed.setdefault(one, set()).add(route.to.backend)
        return needed

    def table(self, backends: Mapping[str, Backend], kept: Kept = NOTHING_KEPT) -> Table:
        """The router over every route, with its handlers compiled."""
        table = Table(self._refusing())
        for route in self.routes:
            target = kept.given(bound(self.config, route))
            handler = backends[route.to.backend].handler(target)
            for binding in route.bindings:
                table.add(binding.protocol, binding.method, binding.pattern, self._endpoint(route, binding, handler))
        return table

    def _endpoint(self, route: PlannedRoute, binding: Binding, handler: Handler) -> Endpoint:
        formats, contract, rule = self.config.formats, route.contract, binding.rule
        running = [policy for policy in binding.policies if not policy.idle(binding.limit)]
        policies = [policy.build(route.name, binding.protocol) for policy in running if not policy.opens]
        marking = [policy for policy in running if policy.marks]
        # Inside the policies too, so that what observe counts is the reason that the caller is told.
        inner = answerable(pipeline(self.inner(route, binding), handler))
        run = conversation(policies, inner) if binding.each else pipeline(policies, inner)
        media = offers(formats, route.to, contract, rule)
        return Endpoint(
            route.name,
            answerable(run),
            binding.many,
            media,
            raw(route.to, contract, rule),
            route.condition,
            uploads(formats, route.to, contract, rule),
            _around(route.name, binding.protocol, (_observing(running), *marking)) if marking else None,
            route.method_override,
            route.to.backend,
        )

    def inner(self, route: PlannedRoute, binding: Binding) -> Sequence[Policy]:
        """What stands next to the target: one translation or, around policies that open messages, two."""
        formats, contract, rule = self.config.formats, route.contract, binding.rule
        opens = [policy for policy in binding.policies if policy.opens]
        if not opens:
            return (translation(formats, route.to, contract, binding.protocol, rule),)
        merging = contract is not None or not any(policy.builds() & Many.REQUESTS for policy in opens)
        return (
            opening(formats, contract, rule, merging=merging),
            *(policy.build(route.name, binding.protocol) for policy in opens),
            opened(formats, route.to, route.target_contract),
        )

    def _refusing(self) -> Callable[[str, GatewayError], Endpoint]:
        """The endpoints of misses: observed, and marked as the file says for every route."""
        marking = {policy.kind: policy for policy in self.config.policies if policy.marks}
        around: dict[str, Callable[[Handler], Handler]] = {}

        def refusing(protocol: str, error: GatewayError) -> Endpoint:
            if protocol not in around:
                around[protocol] = _around(MISS, protocol, (_observing(()), *marking.values()))
            return Endpoint(MISS, around[protocol](refusal(error)))

        return refusing


def _observing(policies: Sequence[PolicyConfig]) -> PolicyConfig:
    """The observer among policies, or the one that there is unless told."""
    own = next((policy for policy in policies if policy.kind == "observe"), None)
    return own or registry.load(registry.POLICY, "observe")(kind="observe")


def _around(route: str, protocol: str, policies: Iterable[PolicyConfig]) -> Callable[[Handler], Handler]:
    return partial(pipeline, [policy.build(route, protocol) for policy in policies])


def plan(paths: Path | Sequence[Path], environment: Mapping[str, str] | None = None) -> Plan:
    """Load config files, or folders of them, as one config and fit it together. Raises ConfigError with every problem found."""
    config = load(paths, environment)
    routes = fitted(config)
    if config.source.problems:
        raise config.source.error()
    return Plan(config, routes)


def bound(config: Config, route: PlannedRoute) -> Target:
    """A route's target as its backend is given it."""
    form = config.formats[route.to.format]
    # What is asked of a tail is in JSON, whatever its records are.
    asked = config.formats["json"] if isinstance(route.to, TailTo) else form
    kind = route.target_contract.request if route.target_contract and (asked.typed or route.to.verb == "call") else None
    codec = asked.codec(kind if asked.typed else None)

    def fields(body: bytes) -> Mapping[str, object]:
        value = codec.decode(body)
        return value if isinstance(value, dict) else {}

    safe = route.to.safe or (route.target_contract is not None and route.target_contract.safe)
    content_type = form.content_types[0]
    opens = (lambda _body: {}) if asked.opaque else fields
    return Target(route.name, route.to, route.target_contract, content_type, opens, safe, _records(config, route))


def _records(config: Config, route: PlannedRoute) -> Callable[[bytes], Value]:
    """How a filter reads what the target gives: as JSON where its format says nothing else, or nothing of what is in an event."""
    form, contract = config.formats[route.to.format], route.target_contract
    kind = contract.reply if contract is not None and contract.reply.name != EVENT else None
    known = not form.opaque and (kind is not None or not form.typed)
    return (form if known else config.formats["json"]).codec(kind if known and form.typed else None).decode
