"""The OpenAPI 3.1 description of a config: what its REST listeners serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.binding import Binding, PlannedRoute
from gateway.description.operation import Parts, operation
from gateway.description.path import Told, told
from gateway.pattern import pattern_of
from gateway.plan import Plan
from gateway.schema import Schemas

VERSION = "3.1.1"
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH")
_REQUEST_ID = {"description": "The exchange's id: what to ask about, and what the logs have.", "schema": {"type": "string"}}


def openapi(plan: Plan, servers: Sequence[str]) -> dict[str, Any]:
    """The whole description. `servers`: where the REST listeners are reached, as URLs."""
    parts = Parts(plan, Schemas(plan.config.contracts.comments))
    paths: dict[str, dict[str, Any]] = {}
    known: dict[str, Told] = {}
    tags: dict[str, dict[str, str]] = {}
    for route, binding, path in _calls(plan):
        first = known.setdefault(path.shape, path)
        item = paths.setdefault(first.path, {})
        # Two names for one place are one to OpenAPI: the first is kept.
        one = operation(parts, route, binding, path.called([parameter.name for parameter in first.parameters]))
        for tag in one["tags"]:
            comment = parts.schemas.comments.get(tag)
            tags.setdefault(tag, {"name": tag, **({"description": comment} if comment else {})})
        item.setdefault(binding.method.lower(), one)
    _rename(paths)
    document = {
        "openapi": VERSION,
        "info": info(plan),
        "servers": [{"url": url} for url in servers] or [{"url": "/"}],
        "tags": list(tags.values()),
        "paths": paths,
        "components": {"headers": {"x-request-id": _REQUEST_ID}, "responses": dict(sorted(parts.responses.items()))},
    }
    return parts.schemas.told(document)


def info(plan: Plan) -> dict[str, str]:
    """What the file says of the whole, for both kinds of documents."""
    said = plan.config.file.documents
    return {"title": said.name, "version": said.version, **({"description": said.description} if said.description else {})}


def _calls(plan: Plan) -> Iterator[tuple[PlannedRoute, Binding, Told]]:
    for route in plan.routes:
        for binding in route.bindings:
            if binding.protocol == "rest" and binding.method in METHODS:
                yield route, binding, told(pattern_of(binding.pattern))


def _rename(paths: dict[str, dict[str, Any]]) -> None:
    """A route that has several calls has an operation for each, and their ids are told apart by a number."""
    seen: Counter[str] = Counter()
    for item in paths.values():
        for one in item.values():
            name = one["operationId"]
            seen[name] += 1
            if seen[name] > 1:
                one["operationId"] = f"{name}-{seen[name]}"
