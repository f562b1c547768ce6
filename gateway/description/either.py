"""What routes say that share a method and a path: one of them, by a condition that is no business of a description."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.schema import Schema


def either(told: Sequence[Schema]) -> Schema:
    """One operation for several: what each of them asks for may be there, and what each answers may come."""
    first, *others = told
    if not others:
        return first
    merged: Schema = {**first, "responses": dict(first["responses"])}
    names = ", ".join(one["operationId"] for one in told)
    merged["description"] = "\n\n".join(filter(None, (first.get("description"), f"By what is asked, one of: {names}.")))
    if parameters := _parameters([one.get("parameters", []) for one in told]):
        merged["parameters"] = parameters
    bodies = [one["requestBody"] for one in told if "requestBody" in one]
    if bodies:
        needed = len(bodies) == len(told) and all(body.get("required", False) for body in bodies)
        merged["requestBody"] = {"required": needed, "content": _contents([body["content"] for body in bodies])}
    for one in others:
        for status, response in one["responses"].items():
            known = merged["responses"].setdefault(status, response)
            if known != response:
                contents = [known.get("content", {}), response.get("content", {})]
                merged["responses"][status] = {**known, "content": _contents(contents)}
    return merged


def _parameters(lists: Sequence[Sequence[Schema]]) -> list[Schema]:
    """Every parameter of any of them; needed where each of them needs it."""
    found: dict[tuple[str, str], list[Schema]] = {}
    for one in lists:
        for parameter in one:
            found.setdefault((parameter["in"], parameter["name"]), []).append(parameter)
    merged = []
    for same in found.values():
        needed = len(same) == len(lists) and all(one.get("required", False) for one in same)
        merged.append({**same[0], "required": needed, "schema": _schema([one["schema"] for one in same])})
    return merged


def _contents(contents: Sequence[Schema]) -> Schema:
    """Every media type of any of them, as any that has it says."""
    kinds = dict.fromkeys(kind for one in contents for kind in one)
    merged: Schema = {}
    for kind in kinds:
        having = [one[kind] for one in contents if kind in one]
        schema = _schema([one.get("schema", {}) for one in having])
        bare = {key: value for key, value in having[0].items() if key != "schema"}
        merged[kind] = {**bare, "schema": schema} if schema else bare
    return merged


def _schema(schemas: Sequence[Schema]) -> Schema:
    """Any of them."""
    different = [schema for number, schema in enumerate(schemas) if schema not in schemas[:number]]
    return different[0] if len(different) == 1 else {} if {} in different else {"anyOf": different}
