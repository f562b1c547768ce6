"""What OpenAPI says of questions whose answers are fetched later, and of those answers."""

from __future__ import annotations

from gateway.binding import PlannedRoute
from gateway.message import JSON
from gateway.schema import Schema, Schemas
from gateway.topic.ask import AskTo
from gateway.topic.preference import MAX_WAIT_S
from gateway.topic.result import ResultsOf

_WAIT: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S}


def parameters(route: PlannedRoute) -> list[Schema]:
    """What a caller may prefer, and where it may be called back."""
    to = route.to
    if isinstance(to, ResultsOf):
        text = "Seconds to wait for the answer, if it is not there yet."
        return [{"name": "wait", "in": "query", "description": text, "schema": _WAIT}]
    if not isinstance(to, AskTo) or to.later is None:
        return []
    text = "`respond-async`: answer at once, with where the answer will be. `wait=N`: so too, once it has not come in N seconds."
    told: list[Schema] = [{"name": "Prefer", "in": "header", "description": text, "schema": {"type": "string"}}]
    if to.later.callback is not None:
        text = "The URL that the answer is posted to. The call itself is answered at once."
        told.append(
            {"name": to.later.callback.header, "in": "header", "description": text, "schema": {"type": "string", "format": "uri"}}
        )
    return told


def pending() -> Schema:
    """What is answered in the place of an answer, in JSON."""
    properties: Schema = {"id": {"type": "string"}, "state": {"type": "string", "enum": ["accepted", "pending"]}}
    text = "A question whose answer is still to come. Who has its id can fetch it."
    return {"type": "object", "description": text, "properties": properties, "required": list(properties)}


def successes(route: PlannedRoute, schemas: Schemas, headers: Schema) -> Schema:
    """The responses of a route that answers before the answer is there."""
    asks = isinstance(route.to, AskTo) and route.to.later is not None
    if not asks and not isinstance(route.to, ResultsOf):
        return {}
    retry: Schema = {"description": "Seconds until it makes sense to ask for the answer.", "schema": {"type": "integer"}}
    told: Schema = {**headers, "retry-after": retry}
    if asks:
        told["location"] = {"description": "Where the answer will be.", "schema": {"type": "string", "format": "uri-reference"}}
        told["preference-applied"] = {"schema": {"type": "string"}}
    text = "Asked; the answer can be fetched later." if asks else "The answer has not come yet."
    found = {JSON: {"schema": schemas.refer("Pending", "", pending)}}
    return {"202": {"description": text, "headers": told, "content": found}}
