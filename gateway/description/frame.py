"""What the frames of a WebSocket hold, by the route: what AsyncAPI calls the messages of a channel."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gateway.binding import Binding, PlannedRoute
from gateway.description import content, key, later, problem
from gateway.message import JSON, PROBLEM
from gateway.schema import Schema, Schemas
from gateway.template import Template
from gateway.topic.ask import AskTo
from gateway.topic.filter import Filter
from gateway.topic.publish import PublishTo
from gateway.topic.result import ResultsOf
from gateway.topic.tail import TailTo

ABOUT = """\
A frame is a message: text frames are JSON, binary ones protobuf. Under the subprotocol `polygate.v1` it is an envelope
(`polygate/v1/polygate.proto`), `{"message": ...}` around the same message, that may also be `{"headers": {...}}` (what belongs to
the call or, later on, to the message that follows), `{"end": true}` (the caller sends no more), `{"trailers": {...}}` (the answer
has ended well) or `{"error": {...}}` (the problem)."""
_TAIL: Mapping[str, Schema] = {
    "start": {"type": "string", "description": "earliest, latest, a cursor to go on after, or a time (RFC 3339)"},
    "limit": {"type": "integer", "minimum": 0, "description": "End after so many; 0 goes on for ever."},
    "credit": {"type": "integer", "minimum": 0, "description": "Send so many and no more, until a frame gives more."},
}
_CREDIT: Schema = {"type": "integer", "minimum": 0, "description": "Send so many more, and no more than was said in all."}
_ACK: Schema = {"type": "string", "description": "The cursor up to which all is done with: one that was sent on this connection."}


def asked(schemas: Schemas, route: PlannedRoute, binding: Binding) -> dict[str, Schema]:
    """The messages of the caller, by their names in the channel."""
    to = route.to
    if isinstance(to, TailTo):
        return {"follow": _message(_follow(to), "Said at any time while events are sent.")}
    return {"request": {**_message(content.taken(schemas, route, binding)), **key.of_message(route)}}


def answered(schemas: Schemas, route: PlannedRoute, binding: Binding) -> dict[str, Schema]:
    """The messages of the gateway, by their names in the channel."""
    return {**_answers(schemas, route, binding), "problem": _message(problem.reference(schemas), kind=PROBLEM)}


def _answers(schemas: Schemas, route: PlannedRoute, binding: Binding) -> dict[str, Schema]:
    to = route.to
    if isinstance(to, TailTo):
        told = {"reply": _message(schemas.refer("Event", "", content.event))}
        text = "In the place of records that are not sent. It is acknowledged as an event is."
        return {**told, "gap": _message(schemas.refer("Gap", "", content.gap), text)} if to.tells else told
    reply = _message(content.shown(schemas, route, binding))
    if isinstance(to, PublishTo):
        written = {"reply": reply} if to.ack == "broker" else {}
        waits = to.ack != "broker" or to.when_down == "store"
        return {**written, **({"taken": _message(schemas.refer("Taken", "", content.accepted))} if waits else {})}
    if isinstance(to, ResultsOf) or (isinstance(to, AskTo) and to.later is not None):
        text = "In the place of the answer, which is still to come."
        return {"reply": reply, "pending": _message(schemas.refer("Pending", "", later.pending), text)}
    return {"reply": reply}


def handshake(route: PlannedRoute, binding: Binding) -> Schema:
    """The bindings of a channel: what the request that opens its WebSocket may say."""
    protocol: Schema = {"type": "string", "enum": ["polygate.v1"], "description": "Offered, each frame is an envelope."}
    named = [one for one in later.parameters(route) if one["in"] == "header"]
    headers = {one["name"]: {**one["schema"], "description": one["description"]} for one in named}
    query = _query(route.to, binding) if isinstance(route.to, TailTo) else {}
    told = {"type": "object", "properties": {"Sec-WebSocket-Protocol": protocol, **headers}}
    return {"ws": {"method": "GET", **query, "headers": told}}


def _query(to: TailTo, binding: Binding) -> Schema:
    text: Schema = {"type": "string"}
    names = Template(to.subscribers.name).names if to.subscribers is not None else ()
    named = [name for name in names if name not in binding.rule.variables]
    filtered = sorted(Filter(to.filter, json.loads).queried) if to.filter is not None else []
    own: dict[str, Schema] = {name: {**text, "description": "What the filter asks for."} for name in filtered}
    own |= {name: {**text, "minLength": 1, "description": "Who the subscriber is."} for name in named}
    properties = {**own, **_TAIL}
    needed = {"required": named} if named else {}
    return {"query": {"type": "object", "properties": properties, **needed, "additionalProperties": False}}


def _follow(to: TailTo) -> Schema:
    properties = {"credit": _CREDIT, **({"ack": _ACK} if to.subscribers is not None else {})}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _message(schema: Schema, text: str = "", kind: str = JSON) -> Schema:
    return {"contentType": kind, **({"summary": text} if text else {}), **({"payload": schema} if schema else {})}
