"""A config that can work, and the routes compiled from it: one handler for each route and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway import registry
from gateway.binding import Binding, PlannedRoute
from gateway.config import Config, load
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Handler
from gateway.fit import fitted
from gateway.pipeline import answerable, conversation, pipeline
from gateway.policy import Policy
from gateway.port import Backend, Target
from gateway.present import offers, translation
from gateway.route import Endpoint, Table
from gateway.source import ConfigError
from gateway.topic.tail import TailTo

MISS = "-"
"""What metrics and logs call the route of a call that has none."""


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
        running = [policy for policy in binding.policies if not policy.idle(binding.limit)]
        policies = [policy.build(route.name, binding.protocol) for policy in running]
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
    routes = fitted(config)
    if config.source.problems:
        raise ConfigError(config.source.problems)
    return Plan(config, routes)


def bound(config: Config, route: PlannedRoute) -> Target:
    """A route's target as its backend is given it."""
    form = config.formats[route.to.format]
    # What is asked of a tail is in JSON, whatever its records are.
    asked = config.formats["json"] if isinstance(route.to, TailTo) else form
    kind = route.contract.request if route.contract and (asked.typed or route.to.verb == "call") else None
    codec = asked.codec(kind if asked.typed else None)

    def fields(body: bytes) -> Mapping[str, object]:
        value = codec.decode(body)
        return value if isinstance(value, dict) else {}

    safe = route.to.safe or (route.contract is not None and route.contract.safe)
    content_type = form.content_types[0]
    return Target(route.name, route.to, route.contract, content_type, (lambda _body: {}) if asked.opaque else fields, safe)
