"""The OpenAPI 3.1 description of a config: what its REST listeners serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.description.operation import Parts, Served, operation
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
    tags: dict[str, dict[str, str]] = {}
    for (path, method), group in _groups(plan).items():
        one = operation(parts, group)
        for tag in one["tags"]:
            comment = parts.schemas.comments.get(tag)
            tags.setdefault(tag, {"name": tag, **({"description": comment} if comment else {})})
        paths.setdefault(path, {})[method.lower()] = one
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


def _groups(plan: Plan) -> dict[tuple[str, str], list[Served]]:
    """The REST calls by path and method. Paths that differ in their names alone are one to OpenAPI: the first names are kept."""
    known: dict[str, Told] = {}
    found: dict[tuple[str, str], list[Served]] = {}
    for route in plan.routes:
        for binding in route.bindings:
            if binding.protocol == "rest" and binding.method in METHODS:
                path = told(pattern_of(binding.pattern))
                first = known.setdefault(path.shape, path)
                same = path.called([parameter.name for parameter in first.parameters])
                found.setdefault((first.path, binding.method), []).append((route, binding, same))
    return found


def _rename(paths: dict[str, dict[str, Any]]) -> None:
    """A route that has several calls has an operation for each, and their ids are told apart by a number."""
    seen: Counter[str] = Counter()
    for item in paths.values():
        for one in item.values():
            name = one["operationId"]
            seen[name] += 1
            if seen[name] > 1:
                one["operationId"] = f"{name}-{seen[name]}"
