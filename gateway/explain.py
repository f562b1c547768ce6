"""What happens to a call, told without running it: its route, why not the others, its pipeline, the message it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qsl

from gateway.binding import Binding, PlannedRoute, labelled
from gateway.exchange import Call, new_id
from gateway.fit import ALWAYS
from gateway.message import JSON, NO_HEADERS, Headers
from gateway.pattern import pattern_of
from gateway.plan import Plan
from gateway.policy import Guard
from gateway.route import Found, Query
from gateway.sample import answered, becomes

SHOWN = 20


def protocol_of(call: str) -> tuple[str, str]:
    """The protocol and target of a call as a person writes it. ValueError where it is none."""
    word, _, rest = call.strip().partition(" ")
    if not rest and "/" not in word:
        raise ValueError(f'{call!r} is no call: write "GET /path", package.Service/Method, /path or "topic NAME"')
    if word == "topic" and rest:
        return "topic", f"/{rest.strip()}"
    if word.lower() in {"ws", "websocket"} and rest:
        return "websocket", rest.strip()
    if word.lower() == "grpc" and rest:
        return "grpc", "/" + rest.strip().lstrip("/")
    if rest:
        return "rest", f"{word.upper()} {rest.strip()}"
    if call.startswith("/"):
        return "websocket", call
    return "grpc", f"/{call}"


def explain(
    plan: Plan, call: str, body: str | None = None, *, headers: Headers = NO_HEADERS, reply: str | None = None
) -> dict[str, Any]:
    """Everything that can be said of a call before it is made; `route` is None where it has none.

    Without a body the route's own example stands for it. `reply`: what the target would answer, in JSON.
    """
    protocol, target = protocol_of(call)
    bare, _, asked = target.partition("?")
    query = tuple(parse_qsl(asked, keep_blank_values=True))
    table, bindings, _ = labelled(plan.routes)
    found = table.find(protocol, bare, headers, query)
    others = {
        f"{route.name} {binding.when}": _why_not(route, binding, bare, headers, query)
        for label, (route, binding) in bindings.items()
        if label != found.endpoint.route and binding.protocol == protocol
    }
    elsewhere = Counter(binding.protocol for _, binding in bindings.values() if binding.protocol != protocol)
    left_out = [
        {"route": route.name, **asdict(one)} for route in plan.routes for one in route.left_out if one.protocol == protocol
    ]
    told: dict[str, Any] = {"protocol": protocol, "call": target, "route": None, "others": others, "left_out": left_out}
    told["elsewhere"] = dict(elsewhere)
    if found.error is not None:
        return {**told, "error": {"reason": found.error.reason.value, "detail": found.error.message}}
    route, binding = bindings[found.endpoint.route]
    made = Call(new_id(), protocol, target, headers, found.params, query, accepts=JSON)
    told |= {**_matched(plan, route, binding, found), **becomes(plan, route, binding, made, body)}
    return told if reply is None else {**told, **answered(plan, route, binding, made, reply)}


def _matched(plan: Plan, route: PlannedRoute, binding: Binding, found: Found) -> dict[str, Any]:
    steps: list[str] = []
    around = [policy for policy in binding.policies if not policy.opens]
    built = [(policy, policy.build(route.name, binding.protocol).guards) for policy in around]
    calls = [_step(policy.kind, policy) for policy, guards in built if guards is not Guard.MESSAGE]
    messages = [_step(policy.kind, policy) for policy, guards in built if guards is not Guard.CALL]
    if binding.each:
        steps = [*calls, "each: every message is an exchange of its own, 16 in flight, answered in order", *messages]
    else:
        steps = [_step(policy.kind, policy) for policy, _ in built]
    return {
        "route": route.name,
        "file": plan.config.source.name(binding.where),
        "line": plan.config.source.line(binding.where),
        "origin": binding.origin,
        "when": binding.when,
        "params": dict(found.params),
        "contract": route.contract.name if route.contract else None,
        "pipeline": [*steps, *_inner(route, binding)],
        "target": {"backend": route.to.backend, route.to.verb: getattr(route.to, route.to.verb)},
    }


def _inner(route: PlannedRoute, binding: Binding) -> list[str]:
    """What stands next to the target (see `Plan.inner`)."""
    opens = [_step(policy.kind, policy) for policy in binding.policies if policy.opens]
    if not opens:
        return [f"translate: the caller's format to {route.to.format} and back"]
    return ["translate: the caller's format to json and back", *opens, f"translate: json to {route.to.format} and back"]


def _step(kind: str, policy: Any) -> str:
    settings = policy.model_dump(mode="json", exclude={"kind"}, exclude_none=True)
    shown = ", ".join(f"{name} {value}" for name, value in settings.items() if value not in ({}, []))
    return f"{kind}{': ' + shown if shown else ''}{' (always on)' if kind in ALWAYS else ''}"


def _why_not(route: PlannedRoute, binding: Binding, target: str, headers: Headers, query: Query) -> str:
    """Why a call of its protocol is not for a binding."""
    method, _, path = target.rpartition(" ")
    if binding.protocol in {"grpc", "topic"} and path != binding.pattern:
        return f"is for {binding.when}"
    wanted = pattern_of(binding.pattern)
    if wanted.verb and not path.endswith(f":{wanted.verb}"):
        return f"is for the verb {wanted.verb}"
    given = (path.removesuffix(f":{wanted.verb}") if wanted.verb else path)[1:].split("/")
    for number, (kind, text) in enumerate(wanted.segments, 1):
        if kind == "literal" and (number > len(given) or given[number - 1] != text):
            return f"has {text!r} as segment {number} of its path"
    length = len(wanted.segments)
    if wanted.segments[-1].kind != "rest" and length != len(given):
        return f"has {length} segment{'s' if length > 1 else ''} in its path, the call {len(given)}"
    if binding.method not in {method, "*"}:
        return f"is for {binding.method}"
    alone, _, _ = labelled([replace(route, bindings=(binding,))])
    if alone.find(binding.protocol, target, headers, query).error is not None:
        return "has a condition that is not true of it"
    return "would take it too, but another is more specific"


def text(told: Mapping[str, Any]) -> str:
    """The same for people."""
    lines: list[str] = []
    if told["route"] is None:
        lines.append(f"no route has {told['protocol']} {told['call']}: {told['error']['detail']} ({told['error']['reason']})")
    else:
        lines.append(f"route {told['route']}  ({told['file']}:{told['line']}, {told['protocol']} {told['when']})")
        if told["origin"] != f"{told['file']}:{told['line']}":
            lines.append(f"  from {told['origin']}")
        lines += [f"  {name} = {value}" for name, value in told["params"].items()]
        if told["contract"]:
            lines.append(f"  contract {told['contract']}")
        lines.append("pipeline")
        lines += [f"  {number}. {step}" for number, step in enumerate(told["pipeline"], 1)]
        backend, (verb, what) = told["target"]["backend"], list(told["target"].items())[1]
        lines.append(f"target\n  {backend}: {verb} {what}")
        lines += _message(told)
    if told["others"]:
        lines.append("why not another")
    shown = list(told["others"].items())[:SHOWN]
    lines += [f"  {label}: {why}" for label, why in shown]
    if len(told["others"]) > len(shown):
        lines.append(f"  and {len(told['others']) - len(shown)} more; --json has them all")
    for one in told["left_out"][:SHOWN]:
        lines.append(f"left out: {one['route']} {one['call']} ({one['origin']}): {one['why']}")
    if told["elsewhere"]:
        counts = ", ".join(f"{count} {protocol}" for protocol, count in told["elsewhere"].items())
        lines.append(f"calls of other protocols, which cannot have it: {counts}")
    return "\n".join(lines) + "\n"


def _message(told: Mapping[str, Any]) -> list[str]:
    """What a message becomes, or why it is refused."""
    if told.get("given"):
        lines = [f"given\n  {told['given']}"]
    elif "given" in told or "tail" in told["target"]:
        lines = []
    else:
        return ["(give a message with --body to see what becomes of it)"]
    for title in ("record", "request"):
        if title in told:
            lines += [title, *(f"  {name}: {value}" for name, value in told[title].items())]
    if "refused" in told:
        lines += ["which is refused", *_refused(told["refused"])]
    if "answer" in told:
        lines.append(f"answered\n  {told['answer']}")
        lines += ["which the caller gets as", *(f"  {reply}" for reply in told["replies"])] if told["replies"] else []
        lines += ["which fails", *_refused(told["failed"])] if "failed" in told else []
    return lines


def _refused(refused: Mapping[str, Any]) -> list[str]:
    lines = [f"  {refused['detail']} ({refused['reason']})"]
    lines += [f"  {error['pointer'] or 'the whole'}: {error['detail']}" for error in refused["errors"]]
    return lines + [f"  at {place}" for place in refused["places"]]
