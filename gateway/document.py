"""The config's JSON schema, generated from the models that validate it: for editors, and for the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway import registry
from gateway.config import VERBS
from gateway.file import FileConfig
from gateway.part import Part
from gateway.port import BackendConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What a number or a switch may be besides: a variable, or a size with its unit.
_FILLED = r"\$\{|^[0-9.]+ ?[A-Za-z]*$"
_SCALARS = frozenset({"integer", "number", "boolean"})
_GROUPS = {"listeners": (registry.INGRESS, "listener"), "backends": (registry.BACKEND, "backend")}


def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of config files, with the fields of every kind that is installed."""
    defs: dict[str, Any] = {}
    top = _defined(FileConfig, "file", defs)
    route = defs["file.RouteConfig"]
    for section, (group, noun) in _GROUPS.items():
        top["properties"][section]["additionalProperties"] = _any_kind(group, noun, defs)
    top["properties"]["contracts"]["items"] = _any_source(defs)
    policies = {"type": "array", "items": _any_kind(registry.POLICY, "policy", defs)}
    target = _any_target(defs)
    service, method = defs["file.ServiceConfig"], defs["file.MethodConfig"]
    for holder in (top, route, service):
        holder["properties"]["policies"] |= policies
    for holder in (route, service):
        holder["properties"]["to"] |= target
    for name, what in (("policies", policies), ("to", target)):
        method["properties"][name]["anyOf"] = [what, {"type": "null"}]
    return {"$schema": DIALECT, "title": "polygate", **top, "$defs": dict(sorted(defs.items()))}


def installed(group: str) -> Iterator[tuple[str, type[Part]]]:
    """The kinds of a group whose libraries are here, with their models."""
    for kind in registry.kinds(group):
        try:
            yield kind, registry.load(group, kind)
        except registry.MissingKindError:
            continue


def _defined(model: type[Part], name: str, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of one model; those of the models inside go to `defs`, under names of their own."""
    found: dict[str, Any] = _open(model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"))
    defs.update({f"{name}.{inner}": value for inner, value in found.pop("$defs", {}).items()})
    found.pop("title", None)
    return found


def _open(node: Any) -> Any:
    """The same with room for variables, and without the titles that pydantic makes of names."""
    if isinstance(node, list):
        return [_open(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _open(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if found.get("type") in _SCALARS and "const" not in found and "enum" not in found:
        found |= {"type": [found["type"], "string"], "pattern": _FILLED}
    # A list that may be written as one text says so by an example.
    if found.get("type") == "array" and any(isinstance(example, str) for example in found.get("examples", ())):
        found["type"] = ["array", "string"]
    return found


def _any_kind(group: str, noun: str, defs: dict[str, Any]) -> dict[str, Any]:
    """A part of any kind: once it says which, it has the fields of that."""
    cases = []
    for kind, model in installed(group):
        name = f"{noun}.{kind}"
        defs[name] = _defined(model, name, defs)
        cases.append(_case({"properties": {"kind": {"const": kind}}, "required": ["kind"]}, {"$ref": f"#/$defs/{name}"}))
    return {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": list(registry.kinds(group))}}, "allOf": cases}


def _any_source(defs: dict[str, Any]) -> dict[str, Any]:
    """A path, or a source of any kind by the field of the kind's name."""
    cases = []
    for kind, model in installed(registry.CONTRACT):
        defs[f"contract.{kind}"] = _defined(model, f"contract.{kind}", defs)
        cases.append(_case({"required": [kind]}, {"$ref": f"#/$defs/contract.{kind}"}))
    return {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "allOf": cases}]}


def _any_target(defs: dict[str, Any]) -> dict[str, Any]:
    """A target of any verb; where several kinds of backends have a verb, the fields of one of them."""
    models: dict[str, dict[str, type[Part]]] = {verb: {} for verb in VERBS}
    for kind, model in installed(registry.BACKEND):
        for verb, target in _verbs(model).items():
            known = models[verb]
            if target not in known.values():
                known[kind] = target
    cases = []
    for verb, known in models.items():
        for kind, target in known.items():
            defs[f"{verb}.{kind}"] = _defined(target, f"{verb}.{kind}", defs)
        wanted: list[dict[str, Any]] = [{"$ref": f"#/$defs/{verb}.{kind}"} for kind in known]
        cases.append(_case({"required": [verb]}, wanted[0] if len(wanted) == 1 else {"anyOf": wanted}))
    return {"type": "object", "required": ["backend"], "allOf": cases}


def _verbs(model: type[Part]) -> Mapping[str, type[Part]]:
    return model.verbs if issubclass(model, BackendConfig) else {}


def _case(when: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    return {"if": when, "then": then}
