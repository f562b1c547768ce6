"""What stands in a request and in a reply, by media type."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.binding import Binding, PlannedRoute
from gateway.description import problem
from gateway.framing import NDJSON, SSE
from gateway.message import JSON, PROTOBUF, Many
from gateway.plan import Plan
from gateway.schema import Schema, Schemas, json, rooted
from gateway.topic.event import EVENT
from gateway.topic.gap import Why
from gateway.topic.tail import TailTo
from gateway.translate import Translate

ANYTHING = "*/*"
TEXTS = "text/"
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def outer(plan: Plan, route: PlannedRoute, binding: Binding) -> Translate:
    """The translation that the caller meets."""
    first = plan.inner(route, binding)[0]
    assert isinstance(first, Translate)  # noqa: S101  the caller's format is translated before anything opens a message
    return first


def receipt() -> Schema:
    """What a publish answers, in JSON (`gateway.topic.publish`)."""
    properties: Schema = {
        "topic": {"type": "string"},
        "partition": {"type": "integer", "format": "int32", "minimum": 0},
        "offset": {"type": "integer", "format": "int64", "minimum": 0},
        "timestamp": {"type": "string", "format": "date-time"},
    }
    text = "Where the record stands: it is acknowledged."
    return {"type": "object", "description": text, "properties": properties, "required": list(properties)}


def accepted() -> Schema:
    """What a publish answers before it has written, in JSON."""
    properties: Schema = {"id": {"type": "string"}, "state": {"type": "string", "enum": ["accepted", "stored"]}}
    text = "What was taken: accepted, in memory; stored, on the gateway's disk."
    return {"type": "object", "description": text, "properties": properties, "required": list(properties)}


def answered(schemas: Schemas) -> Schema:
    """What became of one message of a batch."""
    properties: Schema = {
        "status": {"type": "integer", "description": "What it would have been answered with by itself."},
        "receipt": {"anyOf": [schemas.refer("Receipt", "", receipt), schemas.refer("Taken", "", accepted)]},
        "replayed": {"type": "boolean", "const": True, "description": "It is the answer to an earlier call with the same key."},
        "error": schemas.refer("Problem", "", problem.schema),
    }
    return {"type": "object", "properties": properties, "required": ["status"]}


def batch(schemas: Schemas) -> Schema:
    """What became of many messages, by media type."""
    one = schemas.refer("Answered", "", lambda: answered(schemas))
    lines: Schema = {"type": "string", "description": "One a line."}
    return {JSON: {"schema": {"type": "array", "items": one}}, NDJSON: {"schema": lines, "x-item-schema": one}}


def takes_batches(route: PlannedRoute) -> bool:
    """Whether a document tells that one request may hold many messages: where the route says that it is to."""
    batches = route.to.batches()
    return batches is not None and batches.arrays


def event() -> Schema:
    """An event in plain JSON (`gateway.topic.event.plain`)."""
    base64: Schema = {"type": "string", "const": "base64"}
    properties: Schema = {
        "cursor": {"type": "string", "description": "Hand it back as `start` to go on after this event."},
        "key": {"type": ["string", "null"]},
        "key_encoding": base64,
        "timestamp": {"type": "string", "format": "date-time"},
        "headers": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        "body": {"description": "JSON as it is; any other text as a string; bytes in base64, as `encoding` says."},
        "encoding": base64,
    }
    needed = ["cursor", "key", "timestamp", "headers", "body"]
    return {"type": "object", "description": "A record with its place.", "properties": properties, "required": needed}


def gap() -> Schema:
    """What is told in the place of records that are not sent (`gateway.topic.gap`)."""
    cursor: Schema = {"type": "string"}
    reason: Schema = {"type": "string", "enum": [why.value for why in (Why.RETENTION, Why.SLOW, Why.UNREADABLE)]}
    inside: Schema = {"from": cursor, "to": cursor, "reason": reason, "records": {"type": "integer", "minimum": 0}}
    told: Schema = {"type": "object", "properties": inside, "required": list(inside)}
    text = "What is missing between the event before and this one's cursor: so many records at the most."
    return {"type": "object", "description": text, "properties": {"cursor": cursor, "gap": told}, "required": ["cursor", "gap"]}


def taken(schemas: Schemas, route: PlannedRoute, binding: Binding) -> Schema:
    """A request's body in JSON."""
    rule, contract = binding.rule, route.contract
    if contract is None:
        # Path variables become fields, so it is an object where there are some.
        anything = json(schemas)
        is_object = rule.variables and rule.body == "*"
        return {"type": "object", "additionalProperties": anything} if is_object else anything
    field = "" if rule.body == "*" else rule.body
    inside = [name for name in rule.variables if not field or name.startswith(f"{field}.")]
    without = tuple(name.removeprefix(f"{field}.") if field else name for name in inside)
    if not field and without:
        name = f"{contract.request.name}.without.{'.'.join(rule.variables)}"
        return schemas.refer(name, "", lambda: contract.request.schema(schemas, sent=False, without=without))
    if not contract.request.binary and not field:
        name = f"{route.name}.request"
        return schemas.refer(name, "", lambda: rooted(contract.request.schema(schemas, sent=False), name))
    return contract.request.schema(schemas, sent=False, field=field, without=inside)


def shown(schemas: Schemas, route: PlannedRoute, binding: Binding) -> Schema:
    """One reply in JSON."""
    to, contract = route.to, route.contract
    if to.verb == "publish":
        return schemas.refer("Receipt", "", receipt)
    if isinstance(to, TailTo) and (to.envelope or binding.protocol == "websocket"):
        plain = schemas.refer("Event", "", event)
        return {"anyOf": [plain, schemas.refer("Gap", "", gap)]} if to.tells else plain
    if contract is None or (to.verb == "tail" and contract.reply.name == EVENT):
        return {}
    field = binding.rule.response_body if to.verb == "call" else ""
    if not contract.reply.binary and not field:
        name = f"{route.name}.reply"
        return schemas.refer(name, "", lambda: rooted(contract.reply.schema(schemas, sent=True), name))
    return contract.reply.schema(schemas, sent=True, field=field)


def by_type(media: Iterable[str], schema: Schema, message: str | None) -> dict[str, Schema]:
    """OpenAPI's content: JSON by its schema, texts as strings, any other by what it holds."""
    content: dict[str, Schema] = {}
    for kind in media:
        if kind == JSON:
            content[kind] = {"schema": schema} if schema else {}
        elif kind.startswith(TEXTS):
            content[kind] = {"schema": {"type": "string"}}
        elif kind in FORMS:
            content[kind] = {"schema": {"type": "object"}}
        else:
            content[kind] = {"schema": {"type": "string", "format": "binary"}, "x-protobuf-message": message}
    return content


def request(plan: Plan, schemas: Schemas, route: PlannedRoute, binding: Binding) -> Schema | None:
    """OpenAPI's request body; None where the call has none."""
    if not binding.rule.body:
        return None
    translate = outer(plan, route, binding)
    schema = taken(schemas, route, binding)
    if translate.opaque or translate.otherwise is not None:
        return {"content": {ANYTHING: {}}}
    if binding.many & Many.REQUESTS:
        return {"content": _many(schema)}
    message = route.contract.request.name if route.contract is not None else None
    # Forms and lines of CSV are taken too, from who has nothing else: to programs one way to say a thing is enough.
    own = plan.config.formats[route.to.format].content_types
    content = by_type((kind for kind in translate.requests if kind in {JSON, PROTOBUF, *own}), schema, message)
    if takes_batches(route):
        content = {**content, **_many(schema)}
    if JSON in content and (example := _example(route, binding)):
        content[JSON]["example"] = example
    return {"required": _is_needed(schemas, route, binding), "content": content}


def _example(route: PlannedRoute, binding: Binding) -> object:
    """The route's own example, as far as it is the body's to say."""
    rule = binding.rule
    if rule.body != "*":
        return route.example.get(rule.body)
    return {name: value for name, value in route.example.items() if name not in rule.variables}


def _is_needed(schemas: Schemas, route: PlannedRoute, binding: Binding) -> bool:
    """Whether nothing at all is no message: where it lacks what is required, or where no type says what nothing is."""
    if route.contract is None:
        return not binding.rule.variables
    whole = route.contract.request.schema(schemas, sent=False, without=binding.rule.variables or ("",))
    if binding.rule.body == "*":
        return bool(whole.get("required"))
    return binding.rule.body in whole.get("required", ())


def reply(plan: Plan, schemas: Schemas, route: PlannedRoute, binding: Binding) -> dict[str, Schema]:
    """OpenAPI's content of a response that is a success."""
    translate = outer(plan, route, binding)
    schema = shown(schemas, route, binding)
    if translate.opaque or not translate.replies or _is_raw(route, binding):
        return {ANYTHING: {}}
    if binding.many & Many.REPLIES:
        return _stream(route, schema)
    message = route.contract.reply.name if route.contract is not None else None
    whole = by_type((kind for kind in translate.replies if kind not in {SSE, NDJSON}), schema, message)
    return {**whole, **_awaited(schema)} if route.to.awaited else whole


def _is_raw(route: PlannedRoute, binding: Binding) -> bool:
    contract = route.contract
    return contract is not None and route.to.verb == "call" and contract.reply.raw(binding.rule.response_body)


def _many(schema: Schema) -> dict[str, Schema]:
    """Many messages in one body: an array, or one a line. One by itself is an array of one."""
    lines: Schema = {"schema": {"type": "string", "description": "One message a line."}}
    array: Schema = {"type": "array", "items": schema}
    return {
        JSON: {"schema": {"anyOf": [array, schema]} if schema else array},
        NDJSON: {**lines, **({"x-item-schema": schema} if schema else {})},
    }


def _awaited(schema: Schema) -> dict[str, Schema]:
    """The stream that one reply is waited for by."""
    text = "One event, once the reply is there: an error has the name `error`."
    return {SSE: {"schema": {"type": "string", "description": text}, **({"x-item-schema": schema} if schema else {})}}


def _stream(route: PlannedRoute, schema: Schema) -> dict[str, Schema]:
    """A stream, by what `Accept` asks for. OpenAPI 3.1 has no word for the items of one, but of an array."""
    # An event stream has the cursor beside the body, so it needs no envelope.
    bare = {} if isinstance(route.to, TailTo) and route.to.envelope else schema
    text: Schema = {"type": "string"}
    return {
        NDJSON: {"schema": {**text, "description": "One message a line."}, **({"x-item-schema": schema} if schema else {})},
        SSE: {"schema": {**text, "description": "One message an event."}, **({"x-item-schema": bare} if bare else {})},
        JSON: {"schema": {"type": "array", "items": schema}},
    }
