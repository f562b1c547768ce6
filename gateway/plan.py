"""A config that can work, and the routes compiled from it: one handler for each route and protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway import registry
from gateway.binding import Binding, PlannedRoute
from gateway.codec import Value
from gateway.config import Config, load
from gateway.errors import GatewayError
from gateway.exchange import Handler
from gateway.fit import fitted
from gateway.inside import Inside
from gateway.kept import NOTHING_KEPT, Kept
from gateway.message import Many
from gateway.pipeline import Turn, admitted, answerable, conversation, messages, pipeline
from gateway.policy import Policy, PolicyConfig
from gateway.port import Backend
from gateway.present import offers, opened, opening, raw, translation, uploads
from gateway.route import Batch, Endpoint, refusal
from gateway.table import Table
from gateway.target import Posts, Target
from gateway.topic.event import EVENT

MISS = "-"
"""What metrics and logs call the route of a call that has none."""
NO_ROUTES = Table(lambda _protocol, error: Endpoint(MISS, refusal(error)))
"""Of a gateway that has no plan yet."""


Ready = tuple[Turn, Handler]
"""What conversations take their turns by, and what their next messages are to run."""


@dataclass(frozen=True, slots=True)
class Served:
    """A route bound to its backend."""

    route: PlannedRoute
    target: Target
    backend: Backend
    endpoints: tuple[Endpoint, ...]
    """Of each of its bindings, in their order."""
    inside: Inside
    """Its exchanges; of those of conversations, the messages."""
    turns: Mapping[tuple[str, str], Ready]
    """Of bindings whose callers may send many messages to be answered one by one, by protocol and call."""
    others: tuple[Backend, ...] = ()
    """The backends that its target sends to beside its own."""

    def insides(self) -> Iterator[Inside]:
        """Where its exchanges are, and the conversations of those that have some."""
        yield self.inside
        for turn, _ in self.turns.values():
            yield turn.inside

    def same(self, route: PlannedRoute, backend: Backend, others: tuple[Backend, ...], target: Target) -> bool:
        """Whether a route is this very one, with the same backends and what is kept for it."""
        kept = target.state is self.target.state and target.spool is self.target.spool
        # Parts are equal to none but themselves.
        return kept and (backend, *others) == (self.backend, *self.others) and route == self.route


def _call(binding: Binding) -> tuple[str, str]:
    return binding.protocol, binding.when


def _pairs(route: PlannedRoute, before: PlannedRoute) -> Iterator[tuple[PolicyConfig, PolicyConfig]]:
    """The policies of a route that say what they said before, each with what it was."""
    known = {_call(binding): binding for binding in before.bindings}
    for binding in route.bindings:
        old = known.get(_call(binding))
        for policy in binding.policies:
            same = next((one for one in old.policies if one == policy), None) if old is not None else None
            if same is not None:
                yield policy, same


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

    def rows(self) -> list[dict[str, Any]]:
        """One row a route, for `/routes` and `polygate routes --json`."""
        source = self.config.source
        return [
            {
                "route": route.name,
                "calls": [{"protocol": one.protocol, "call": one.when, "origin": one.origin} for one in route.bindings],
                "left_out": [asdict(one) for one in route.left_out],
                "backend": route.to.backend,
                "verb": route.to.verb,
                "target": getattr(route.to, route.to.verb),
                "contract": route.contract.name if route.contract else None,
                "file": source.name(route.where),
                "line": source.line(route.where),
            }
            for route in self.routes
        ]

    def table(self, backends: Mapping[str, Backend], kept: Kept = NOTHING_KEPT) -> Table:
        """The router over every route, with its handlers compiled."""
        return self.router(self.served(backends, kept).values())

    def router(self, served: Iterable[Served]) -> Table:
        """The router over served routes."""
        table = Table(self._refusing())
        for one in served:
            for binding, endpoint in zip(one.route.bindings, one.endpoints, strict=True):
                table.add(binding.protocol, binding.method, binding.pattern, endpoint)
        return table

    def served(
        self,
        backends: Mapping[str, Backend],
        kept: Kept = NOTHING_KEPT,
        before: Mapping[str, Served] = MappingProxyType({}),
    ) -> dict[str, Served]:
        """Every route with its handlers compiled, by its name. One that says the same as `before`, and has the same backend, is
        the same; of another the policies that say the same count on.
        """
        served: dict[str, Served] = {}
        for route in self.routes:
            backend = backends[route.to.backend]
            target = kept.given(bound(self.config, route))
            old = before.get(route.name)
            posts = route.to.posts()
            others = () if posts is None else tuple(backends[name] for name in posts.backends)
            if old is not None and old.same(route, backend, others, target):
                served[route.name] = replace(old, route=route)
                continue
            if old is not None:
                for one, other in _pairs(route, old.route):
                    one.inherit(other, route.name)
            target = target if posts is None else replace(target, posts=self._posts(route, posts, backends))
            inside, handler = Inside(), backend.handler(target)
            made = [self._endpoint(route, binding, handler, inside, old) for binding in route.bindings]
            turns = {_call(one): ready for one, (_, ready) in zip(route.bindings, made, strict=True) if ready is not None}
            served[route.name] = Served(route, target, backend, tuple(endpoint for endpoint, _ in made), inside, turns, others)
        return served

    def _posts(self, route: PlannedRoute, posts: Posts, backends: Mapping[str, Backend]) -> dict[str, Handler]:
        """What sends to the backends that a target has beside its own, by URL."""
        found: dict[str, Handler] = {}
        for name in posts.backends:
            posting = self.config.backends[name].posting(name, posts.sign)
            assert posting is not None  # noqa: S101  refused when the config is loaded
            found[posting[0]] = answerable(backends[name].handler(Target(route.name, posting[1])))
        return found

    def _endpoint(
        self, route: PlannedRoute, binding: Binding, handler: Handler, inside: Inside, before: Served | None
    ) -> tuple[Endpoint, Ready | None]:
        formats, contract, rule = self.config.formats, route.contract, binding.rule
        running = [policy for policy in binding.policies if not policy.idle(binding.limit)]
        policies = [policy.build(route.name, binding.protocol) for policy in running if not policy.opens]
        marking = [policy for policy in running if policy.marks]
        # Inside the policies too, so that what observe counts is the reason that the caller is told.
        inner = pipeline(self.inner(route, binding), handler)
        ready: Ready | None = None
        if binding.each:
            of_message = messages(policies, admitted(inside, inner, lasting=False))
            known = before.turns.get(_call(binding)) if before is not None else None
            turn = known[0] if known is not None else Turn(of_message)
            ready = (turn, of_message)
            run = admitted(turn.inside, conversation(policies, turn), lasting=True)
        else:
            run = admitted(inside, pipeline(policies, answerable(inner)), lasting=binding.many is not Many.NEITHER)
        endpoint = Endpoint(
            route.name,
            run,
            binding.many,
            offers(formats, route.to, contract, rule),
            raw(route.to, contract, rule),
            route.condition,
            uploads(formats, route.to, contract, rule),
            _around(route.name, binding.protocol, (_observing(running), *marking)) if marking else None,
            route.method_override,
            route.to.backend,
            route.to.awaited,
            self._batch(route, binding, run, lambda: conversation(policies, answerable(inner)), inside),
            binding.each,
        )
        return endpoint, ready

    @staticmethod
    def _batch(route: PlannedRoute, binding: Binding, run: Handler, each: Callable[[], Handler], inside: Inside) -> Batch | None:
        """What answers requests that hold many messages: the route's own handler for all, or that for each."""
        batches = route.to.batches()
        if batches is None or binding.each or binding.many is not Many.NEITHER or not binding.rule.body:
            return None
        handler = run if batches.whole else admitted(inside, each(), lasting=False)
        return Batch(handler, batches.whole, batches.limit, batches.arrays)

    def inner(self, route: PlannedRoute, binding: Binding) -> Sequence[Policy]:
        """What stands next to the target: one translation or, around policies that open messages, two."""
        formats, contract, rule = self.config.formats, route.contract, binding.rule
        opens = [policy for policy in binding.policies if policy.opens]
        if not opens:
            return (translation(formats, route.to, contract, binding.protocol, rule),)
        merging = contract is not None or not any(policy.builds() & Many.REQUESTS for policy in opens)
        return (
            opening(formats, contract, rule, merging=merging, protocol=binding.protocol),
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


def plan(paths: Path | Sequence[Path], environment: Mapping[str, str] | None = None, *, workers: int | None = None) -> Plan:
    """Load config files, or folders of them, as one config and fit it together. `workers` goes before what they say. Raises
    ConfigError with every problem found.
    """
    config = load(paths, environment)
    config.workers = workers
    if workers is not None:
        config.file = config.file.model_copy(update={"workers": workers})
    routes = fitted(config)
    if config.source.problems:
        raise config.source.error()
    return Plan(config, routes)


def bound(config: Config, route: PlannedRoute) -> Target:
    """A route's target as its backend is given it."""
    form = config.formats[route.to.format]
    asked = config.formats["json"] if route.to.own else form
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
