"""What is told of idempotency keys, where a route has those."""

from __future__ import annotations

from gateway.binding import PlannedRoute
from gateway.schema import Schema
from gateway.topic.ask import AskTo
from gateway.topic.idempotency import HEADER, Idempotency
from gateway.topic.publish import PublishTo


def keys(route: PlannedRoute) -> Idempotency | None:
    """What a route says of idempotency keys; None where it knows none."""
    return route.to.idempotency if isinstance(route.to, PublishTo | AskTo) else None


def parameters(route: PlannedRoute) -> list[Schema]:
    """The header that says that a call is the same as one before."""
    spec = keys(route)
    if spec is None:
        return []
    text = "A string in double quotes, of the caller's choice: calls with the same one are done once."
    schema: Schema = {"type": "string", "pattern": r'^"[ !#-\[\]-~]{1,255}"$'}
    required = {"required": True} if spec.required else {}
    return [{"name": "Idempotency-Key", "in": "header", "description": text, **required, "schema": schema}]


def replayed(route: PlannedRoute) -> Schema:
    """The header of an answer that was given before."""
    if keys(route) is None:
        return {}
    text = "It is the answer to an earlier call with the same key."
    return {"idempotency-replayed": {"description": text, "schema": {"type": "string", "const": "true"}}}


def of_message(route: PlannedRoute) -> Schema:
    """The headers of one message over a WebSocket."""
    if keys(route) is None:
        return {}
    text = "In an envelope before the message, or the call's own: messages with the same one are done once."
    return {"headers": {"type": "object", "properties": {HEADER: {"type": "string", "description": text}}}}
