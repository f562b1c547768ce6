"""The AsyncAPI 3.0 description of a config: the WebSockets that it serves, and the topics that it writes and reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.binding import Binding, PlannedRoute
from gateway.description import frame, path
from gateway.description.openapi import info
from gateway.message import JSON, Many
from gateway.pattern import pattern_of
from gateway.plan import Plan
from gateway.schema import Schema, Schemas
from gateway.template import Template
from gateway.topic.ask import AskTo
from gateway.topic.event import EVENT
from gateway.topic.log import CORRELATION, REPLY_TO
from gateway.topic.tail import TailTo

VERSION = "3.0.0"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_RECORD_HEADERS: Schema = {
    "type": "object",
    "properties": {"x-request-id": {"type": "string"}, "traceparent": {"type": "string"}},
}


@dataclass(slots=True)
class _Parts:
    plan: Plan
    schemas: Schemas
    servers: dict[str, Schema]
    channels: dict[str, Schema] = field(default_factory=dict)
    operations: dict[str, Schema] = field(default_factory=dict)

    def add(self, name: str, told: Schema) -> None:
        """An operation, under a name that no other has."""
        self.operations[_free(self.operations, name)] = told


def asyncapi(plan: Plan, listening: Mapping[str, str]) -> dict[str, Any]:
    """The whole description. `listening`: the URL of each WebSocket listener, by its name."""
    parts = _Parts(plan, Schemas(plan.config.contracts.comments), dict(_servers(plan, listening)))
    for route in plan.routes:
        for binding in route.bindings:
            if binding.protocol == "websocket":
                _socket(parts, route, binding, tuple(listening))
            elif binding.protocol == "topic":
                _consumed(parts, route, binding)
        _target(parts, route)
    document = {
        "asyncapi": VERSION,
        "info": info(plan),
        "defaultContentType": JSON,
        "servers": parts.servers,
        "channels": parts.channels,
        "operations": parts.operations,
    }
    return parts.schemas.told(document)


def _servers(plan: Plan, listening: Mapping[str, str]) -> Iterator[tuple[str, Schema]]:
    for name, url in listening.items():
        scheme, _, host = url.partition("://")
        yield name, {"host": host, "protocol": scheme, "description": frame.ABOUT}
    for name, part in plan.config.backends.items():
        if {"publish", "tail", "ask"} & set(part.verbs):
            yield _backend(name, listening), {"host": ",".join(part.hosts()) or name, "protocol": part.kind}


def _backend(name: str, listening: Mapping[str, str]) -> str:
    return f"{name}-backend" if name in listening else name


def _socket(parts: _Parts, route: PlannedRoute, binding: Binding, servers: tuple[str, ...]) -> None:
    """One path of the WebSocket listeners. Who receives and who sends is told from the gateway's side."""
    told = path.told(pattern_of(binding.pattern))
    leaves = route.contract.request.leaves(parts.schemas) if route.contract is not None else ()
    asked, answered = frame.asked(parts.schemas, route, binding), frame.answered(parts.schemas, route, binding)
    name = _free(parts.channels, _UNFIT.sub("_", route.name))
    parts.channels[name] = {
        "address": told.path,
        "title": route.name,
        "servers": [{"$ref": f"#/servers/{server}"} for server in servers],
        "messages": {**asked, **answered},
        **({"parameters": {one["name"]: _parameter(one) for one in path.parameters(told, leaves)}} if told.parameters else {}),
        "bindings": frame.handshake(route, binding),
    }
    replies = [_named(name, one) for one in answered]
    reply = {"channel": {"$ref": f"#/channels/{name}"}, "messages": replies}
    streams = route.to.many(route.contract) is not Many.NEITHER
    receive = _operation("receive", name, [_named(name, one) for one in asked], parts, route)
    parts.add(f"{name}.receive", receive if streams else {**receive, "reply": reply})
    if streams:
        parts.add(f"{name}.send", _operation("send", name, replies, parts, route))


def _consumed(parts: _Parts, route: PlannedRoute, binding: Binding) -> None:
    """A topic that a listener consumes; where a record names a topic for the reply, that gets one."""
    for listener in parts.plan.config.listeners.values():
        consumed = listener.consumes(binding.when)
        if consumed is None:
            continue
        contract = route.contract
        schema: Schema = contract.request.schema(parts.schemas, sent=False) if contract is not None else {}
        channel = _topic(parts, *consumed, _record(schema, JSON))
        told = _operation("receive", channel, [_named(channel, "record")], parts, route)
        address = {"location": f"$message.header#/{REPLY_TO}", "description": "Where a record asks for a reply."}
        parts.add(f"{_UNFIT.sub('_', route.name)}.receive", {**told, "reply": {"address": address}})


def _target(parts: _Parts, route: PlannedRoute) -> None:
    """What a route does to topics."""
    to, contract = route.to, route.target_contract
    form = parts.plan.config.formats[to.format].content_types[0]
    name = _UNFIT.sub("_", route.name)
    if isinstance(to, TailTo):
        schema: Schema = {}
        if contract is not None and contract.reply.name != EVENT:
            schema = contract.reply.schema(parts.schemas, sent=True)
        channel = _topic(parts, to.backend, to.tail, _record(schema, form))
        parts.add(f"{name}.read", _operation("receive", channel, [_named(channel, "record")], parts, route))
        return
    for topic in (to.ask,) if isinstance(to, AskTo) else to.writes():
        schema = contract.request.schema(parts.schemas, sent=True) if contract is not None else {}
        correlation = to.correlation_header if isinstance(to, AskTo) else CORRELATION
        channel = _topic(parts, to.backend, topic, _record(schema, form, correlation))
        told = _operation("send", channel, [_named(channel, "record")], parts, route)
        if isinstance(to, AskTo):
            answer: Schema = contract.reply.schema(parts.schemas, sent=False) if contract is not None else {}
            answers = _topic(parts, to.backend, to.reply_to, _record(answer, form, correlation))
            told["reply"] = {"channel": {"$ref": f"#/channels/{answers}"}, "messages": [_named(answers, "record")]}
        parts.add(f"{name}.write", told)


def _topic(parts: _Parts, backend: str, topic: str, message: Schema) -> str:
    """The channel of a topic. What several routes write to it or read from it are messages of its own, each told once."""
    name = _UNFIT.sub("_", f"{backend}.{topic}")
    listening = {name: "" for name, server in parts.servers.items() if server["protocol"] in {"ws", "wss"}}
    variables = Template(topic).names
    channel = parts.channels.setdefault(
        name,
        {
            "address": topic,
            "servers": [{"$ref": f"#/servers/{_backend(backend, listening)}"}],
            "messages": {"record": message},
            **(
                {"parameters": {one: {"description": "A path variable or a field of the message."} for one in variables}}
                if variables
                else {}
            ),
        },
    )
    if not channel["messages"]["record"].get("payload") and message.get("payload"):
        channel["messages"]["record"] = message
    return name


def _record(schema: Schema, content_type: str, correlation: str = CORRELATION) -> Schema:
    found = {"location": f"$message.header#/{correlation}", "description": "Of a question and its reply."}
    payload = {"payload": schema} if schema else {}
    return {"contentType": content_type, **payload, "headers": _RECORD_HEADERS, "correlationId": found}


def _operation(action: str, channel: str, messages: list[Schema], parts: _Parts, route: PlannedRoute) -> Schema:
    told: Schema = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": messages}
    contract = route.contract
    comment = parts.schemas.comments.get(contract.name.replace("/", "."), "") if contract is not None else ""
    return {**told, **({"summary": comment.partition("\n")[0]} if comment else {})}


def _named(channel: str, message: str) -> Schema:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _parameter(told: Schema) -> Schema:
    """AsyncAPI's parameters are texts: it has no schema for them."""
    return {"description": told["description"]} if "description" in told else {}


def _free(taken: Mapping[str, object], name: str) -> str:
    """A name that no other has: a route may have several paths, and several that do the same."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
