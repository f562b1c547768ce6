"""What happens to a call, told without running it: its route, why not the others, its pipeline, the message it becomes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qsl

from gateway.attempt import parted
from gateway.binding import Binding, PlannedRoute, labelled
from gateway.codec import ABSENT
from gateway.errors import FieldError, GatewayError
from gateway.exchange import Call, Exchange, Handler, Memory, new_id
from gateway.fit import ALWAYS
from gateway.message import JSON, Message
from gateway.pattern import pattern_of
from gateway.pipeline import pipeline
from gateway.plan import Plan, bound
from gateway.policy import Guard
from gateway.route import Found, Query
from gateway.topic.ask import AskTo
from gateway.topic.publish import Addressing, PublishTo, record_headers
from gateway.topic.tail import TailTo

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


def explain(plan: Plan, call: str, body: str | None = None) -> dict[str, Any]:
    """Everything that can be said of a call before it is made; `route` is None where it has none.

    Without a body the route's own example stands for it.
    """
    protocol, target = protocol_of(call)
    bare, _, asked = target.partition("?")
    query = tuple(parse_qsl(asked, keep_blank_values=True))
    table, bindings, _ = labelled(plan.routes)
    found = table.find(protocol, bare, query=query)
    others = {
        f"{route.name} {binding.when}": _why_not(route, binding, bare, query)
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
    made = Call(new_id(), protocol, target, params=found.params, query=query, accepts=JSON)
    return {**told, **_matched(plan, route, binding, found), **_becomes(plan, route, binding, made, body)}


def _matched(plan: Plan, route: PlannedRoute, binding: Binding, found: Found) -> dict[str, Any]:
    steps: list[str] = []
    built = [(policy, policy.build(route.name, binding.protocol).guards) for policy in binding.policies]
    calls = [_step(policy.kind, policy) for policy, guards in built if guards is not Guard.MESSAGE]
    messages = [_step(policy.kind, policy) for policy, guards in built if guards is not Guard.CALL]
    if binding.each:
        steps = [*calls, "each: every message is an exchange of its own, 16 in flight, answered in order", *messages]
    else:
        steps = [_step(policy.kind, policy) for policy, _ in built]
    return {
        "route": route.name,
        "file": plan.config.source.file,
        "line": plan.config.source.line(binding.where),
        "origin": binding.origin,
        "when": binding.when,
        "params": dict(found.params),
        "contract": route.contract.name if route.contract else None,
        "pipeline": [*steps, f"translate: the caller's format to {route.to.format} and back"],
        "target": {"backend": route.to.backend, route.to.verb: getattr(route.to, route.to.verb)},
    }


def _step(kind: str, policy: Any) -> str:
    settings = policy.model_dump(mode="json", exclude={"kind"}, exclude_none=True)
    shown = ", ".join(f"{name} {value}" for name, value in settings.items() if value not in ({}, []))
    return f"{kind}{': ' + shown if shown else ''}{' (always on)' if kind in ALWAYS else ''}"


def _why_not(route: PlannedRoute, binding: Binding, target: str, query: Query) -> str:
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
    if alone.find(binding.protocol, target, query=query).error is not None:
        return "has a condition that is not true of it"
    return "would take it too, but another is more specific"


def _becomes(plan: Plan, route: PlannedRoute, binding: Binding, call: Call, body: str | None) -> dict[str, Any]:
    """The message that leaves for the target, or why it would not."""
    if isinstance(route.to, TailTo):
        return {}
    if body is None and binding.rule.body:
        _, _, example = parted(binding, route.example)
        if not route.example or example is ABSENT:
            return {}
        body = json.dumps(example)
    caught: list[Message] = []

    async def catch(exchange: Exchange) -> None:
        caught.append(await exchange.receive())

    become = pipeline(plan.inner(route, binding), catch)
    media = plan.config.formats[route.to.format].content_types[0] if _raw(plan, route) else JSON
    exchange = Memory(Message((body or "").encode(), media), call=call)
    try:
        asyncio.run(_run(become, exchange))
        return {"given": body, **_left(plan, route, call, caught[0])}
    except GatewayError as error:
        errors = [asdict(detail) for detail in error.details if isinstance(detail, FieldError)]
        return {"given": body, "refused": {"reason": error.reason.value, "detail": error.message, "errors": errors}}


async def _run(handler: Handler, exchange: Exchange) -> None:
    await handler(exchange)


def _raw(plan: Plan, route: PlannedRoute) -> bool:
    """Whether the target's messages are not written in JSON by callers either."""
    form = plan.config.formats[route.to.format]
    return not form.typed and form.name != "json"


def _left(plan: Plan, route: PlannedRoute, call: Call, message: Message) -> dict[str, Any]:
    shown = message.body.decode("utf-8", "backslashreplace")
    if not isinstance(route.to, PublishTo | AskTo):
        return {"request": {"content_type": message.content_type, "body": shown}}
    topic = route.to.publish if isinstance(route.to, PublishTo) else route.to.ask
    topic, key = Addressing(bound(plan.config, route), topic, route.to.key)(call, message)
    headers = {name: value for name, value in record_headers(call, message) if name != "x-request-id"}
    return {
        "record": {
            "topic": topic,
            "key": key.decode() if key is not None else None,
            "headers": {**headers, "x-request-id": "(the exchange's id)", "traceparent": "(the exchange's trace)"},
            "body": shown,
        }
    }


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
        refused = told["refused"]
        lines.append(f"which is refused\n  {refused['detail']} ({refused['reason']})")
        lines += [f"  {error['pointer'] or 'the whole'}: {error['detail']}" for error in refused["errors"]]
    return lines
