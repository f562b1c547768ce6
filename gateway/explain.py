"""What happens to a call, told without running it: its route, why not the others, its pipeline, the message it becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.binding import Binding, PlannedRoute
from gateway.errors import GatewayError
from gateway.exchange import Call, Exchange, Memory, new_id
from gateway.fit import ALWAYS
from gateway.message import JSON, Message
from gateway.plan import Plan, bound
from gateway.policy import Guard
from gateway.present import translation
from gateway.route import Endpoint, Found, Table, segments_of
from gateway.topic.ask import AskTo
from gateway.topic.publish import Addressing, PublishTo, record_headers
from gateway.topic.tail import TailTo


def protocol_of(call: str) -> tuple[str, str]:
    """The protocol and target of a call as a person writes it."""
    word, _, rest = call.strip().partition(" ")
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
    """Everything that can be said of a call before it is made; `route` is None where it has none."""
    protocol, target = protocol_of(call)
    bare, _, _ = target.partition("?")
    bindings: dict[str, tuple[PlannedRoute, Binding]] = {}
    table = Table(lambda _protocol, _error: Endpoint("-", _unused))
    for route in plan.routes:
        for binding in route.bindings:
            label = f"{route.name} {binding.when}"
            bindings[label] = (route, binding)
            table.add(binding.protocol, binding.method, binding.pattern, Endpoint(label, _unused))
    found = table.find(protocol, bare)
    others = {
        label: _why_not(binding, protocol, bare) for label, (_, binding) in bindings.items() if label != found.endpoint.route
    }
    told: dict[str, Any] = {"protocol": protocol, "call": target, "route": None, "others": others}
    if found.error is not None:
        return {**told, "error": {"reason": found.error.reason.value, "detail": found.error.message}}
    route, binding = bindings[found.endpoint.route]
    return {**told, **_matched(plan, route, binding, found), **_becomes(plan, route, binding, found, target, body)}


async def _unused(_exchange: Exchange) -> None:
    """The table here is only asked, never served."""


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


def _why_not(binding: Binding, protocol: str, target: str) -> str:
    if binding.protocol != protocol:
        return f"is for {binding.protocol}"
    method, _, path = target.rpartition(" ")
    wanted = segments_of(binding.pattern)
    given = path[1:].split("/")
    if wanted[-1][0] != "rest" and len(wanted) != len(given):
        return f"its path has {len(wanted)} segment{'s' if len(wanted) > 1 else ''}, the call's {len(given)}"
    for number, (kind, name) in enumerate(wanted):
        if kind == "literal" and (number >= len(given) or given[number] != name):
            return f"its path has {name!r} as segment {number + 1}"
    if binding.method and binding.method != method:
        return f"is for {binding.method}"
    return "another route is more specific"


def _becomes(plan: Plan, route: PlannedRoute, binding: Binding, found: Found, target: str, body: str | None) -> dict[str, Any]:
    """The message that leaves for the target, for a sample body or, without one, for a call that carries none."""
    if isinstance(route.to, TailTo) or (body is None and binding.method != "GET"):
        return {}
    query = tuple(
        (name, value) for name, _, value in (part.partition("=") for part in target.partition("?")[2].split("&")) if name
    )
    call = Call(new_id(), binding.protocol, target, params=found.params, query=query, accepts=JSON)
    caught: list[Message] = []

    async def catch(exchange: Exchange) -> None:
        caught.append(await exchange.receive())

    translate = translation(plan.config.formats, route.to, route.contract, binding.protocol, binding.method)
    exchange = Memory(Message((body or "").encode(), JSON), call=call)
    try:
        asyncio.run(translate(exchange, catch))
        return _left(plan, route, call, caught[0])
    except GatewayError as error:
        return {"refused": {"reason": error.reason.value, "detail": error.message}}


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
        lines.append(f"no route: {told['error']['detail']} ({told['error']['reason']})")
    else:
        lines.append(f"route {told['route']}  ({told['file']}:{told['line']}, {told['protocol']} {told['when']})")
        lines += [f"  {name} = {value}" for name, value in told["params"].items()]
        if told["contract"]:
            lines.append(f"  contract {told['contract']}")
        lines.append("pipeline")
        lines += [f"  {number}. {step}" for number, step in enumerate(told["pipeline"], 1)]
        backend, (verb, what) = told["target"]["backend"], list(told["target"].items())[1]
        lines.append(f"target\n  {backend}: {verb} {what}")
        lines += _fields("record", told.get("record")) + _fields("request", told.get("request"))
        if "refused" in told:
            lines.append(f"this body is refused: {told['refused']['detail']} ({told['refused']['reason']})")
    lines.append("not")
    lines += [f"  {label}: {why}" for label, why in told["others"].items()]
    return "\n".join(lines) + "\n"


def _fields(title: str, fields: Mapping[str, Any] | None) -> list[str]:
    return [title, *(f"  {name}: {value}" for name, value in fields.items())] if fields else []
