"""One call of a route as an OpenAPI operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from gateway.binding import Binding, PlannedRoute
from gateway.description import content, key, later, path, problem
from gateway.description.either import either
from gateway.message import JSON, Many
from gateway.plan import Plan
from gateway.schema import Leaf, Schema, Schemas
from gateway.topic.publish import PublishTo
from gateway.topic.tail import TailTo

_CURSOR = r"^[0-9]{1,9}:[0-9]{1,19}(,[0-9]{1,9}:[0-9]{1,19})*$"
_STARTS: tuple[Schema, ...] = ({"enum": ["", "earliest", "latest"]}, {"pattern": _CURSOR}, {"format": "date-time"})
_START: Schema = {"anyOf": [{"type": "string", **one} for one in _STARTS]}
_LIMIT: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1}
_OPENING = (
    Leaf("start", "start", {**_START, "description": "earliest, latest, the cursor of an event, to go on after it, or a time."}),
    Leaf("limit", "limit", {**_LIMIT, "description": "End after so many; 0 for no limit."}),
)
"""What a caller may ask of a tail, whatever its contract says of it."""


@dataclass(slots=True)
class Parts:
    """What the operations of one document share."""

    plan: Plan
    schemas: Schemas
    responses: dict[str, Schema] = field(default_factory=dict)


Served = tuple[PlannedRoute, Binding, path.Told]
"""One call of a route, and its path under the names that its parameters have in the document."""


def operation(parts: Parts, group: Sequence[Served]) -> Schema:
    """The operation of one method and path. Several routes may have it, by their conditions: which of them takes a call only
    the call itself can say.
    """
    found = either([_one(parts, route, binding, told) for route, binding, told in group])
    optional = any(told.parameters for _, _, told in group) or all(route.condition is not None for route, _, _ in group)
    reasons = chain.from_iterable(problem.reasons(route, binding, optional=optional) for route, binding, _ in group)
    found["responses"] |= problem.responses(reasons, parts.responses, parts.schemas)
    return found


def _one(parts: Parts, route: PlannedRoute, binding: Binding, told: path.Told) -> Schema:
    schemas = parts.schemas
    parameters = [*path.parameters(told, _leaves(schemas, route)), *_query(schemas, route, binding), *key.parameters(route)]
    parameters += later.parameters(route)
    body = content.request(parts.plan, schemas, route, binding)
    found: Schema = {**_text(parts, route), "responses": _successes(parts, route, binding)}
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = body
    return found


def _text(parts: Parts, route: PlannedRoute) -> Schema:
    """What an operation is called, where it belongs, and what its source says of it."""
    contract = route.contract
    method = contract.name if contract is not None and contract.request.binary else ""
    service = method.partition("/")[0] or route.to.backend
    comment = parts.schemas.comments.get(method.replace("/", "."), "")
    summary, _, more = comment.partition("\n")
    told: Schema = {"operationId": route.name, "tags": [service], "summary": summary.strip() or route.name}
    return {**told, "description": more.strip()} if more.strip() else told


def _leaves(schemas: Schemas, route: PlannedRoute) -> tuple[Leaf, ...]:
    return tuple(route.contract.request.leaves(schemas)) if route.contract is not None else ()


def _query(schemas: Schemas, route: PlannedRoute, binding: Binding) -> list[Schema]:
    """The parameters of the query: what neither path nor body says."""
    rule = binding.rule
    if rule.body == "*" or not rule.http:
        return []
    if not route.to.reads or (route.contract is None and not isinstance(route.to, TailTo)):
        return []  # any: they become fields of the message, by whatever name
    without = (*rule.variables, *((rule.body,) if rule.body else ()))
    leaves = route.contract.request.leaves(schemas, without) if route.contract is not None else _OPENING
    opening = {leaf.path: leaf for leaf in _OPENING} if isinstance(route.to, TailTo) else {}
    return [_parameter(opening.get(leaf.path, leaf)) for leaf in leaves]


def _parameter(leaf: Leaf) -> Schema:
    schema = dict(leaf.schema)
    text = schema.pop("description", "")
    told: Schema = {"name": leaf.path, "in": "query", **({"description": text} if text else {})}
    needed = "minLength" in schema or "not" in schema
    return {**told, **({"required": True} if needed else {}), "schema": schema}


def _published(parts: Parts, route: PlannedRoute, to: PublishTo, headers: Schema, found: Schema) -> Schema:
    """What a publish may answer: by when it answers, and to how many messages."""
    told: Schema = {}
    if content.takes_batches(route):
        text = "What became of each message, in order." if not to.atomic else "All messages were published as one."
        told["200"] = {"description": text, "headers": headers, "content": content.batch(parts.schemas)}
    if to.ack == "broker":
        told["201"] = {"description": "Published and acknowledged.", "headers": headers, "content": found}
    if to.ack != "broker" or to.when_down == "store":
        text = "Taken, to be published." if to.ack == "none" else "Stored, to be published."
        taken = {JSON: {"schema": parts.schemas.refer("Taken", "", content.accepted)}}
        told["202"] = {"description": text, "headers": headers, "content": taken}
    return told


def _successes(parts: Parts, route: PlannedRoute, binding: Binding) -> Schema:
    headers: Schema = {"x-request-id": {"$ref": "#/components/headers/x-request-id"}, **key.replayed(route)}
    found = content.reply(parts.plan, parts.schemas, route, binding)
    if isinstance(route.to, PublishTo):
        return _published(parts, route, route.to, headers, found)
    said = "A stream of replies." if binding.many & Many.REPLIES else "The reply."
    success: Schema = {"description": said, "headers": headers, "content": found}
    if not route.to.foreign:
        return {"200": success, **later.successes(route, parts.schemas, headers)}
    # Whatever an HTTP backend answers is passed on as it is.
    nothing: Schema = {"description": "Done, with nothing to say.", "headers": headers}
    other: Schema = {"description": "The backend's own answer.", "headers": headers, "content": {content.ANYTHING: {}}}
    return {"2XX": success, "204": nothing, "default": other}
