"""The reference under docs/reference/, made from the config models and the tables that the gateway runs by."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

import yaml

import gateway.cli  # noqa: F401  with every part of the gateway: each makes its metrics known where it is loaded
from gateway import registry
from gateway.document import installed, schema
from gateway.exposition import Metrics
from gateway.file import FileConfig
from gateway.part import Part
from gateway.port import BackendConfig
from gateway.status import TABLE
from gateway.target import TargetConfig

FOLDER = "docs/reference"
MADE = "<!-- Made by tools/reference.py (`make generate`) from the code: change it there. -->\n\n"
GROUPS = (
    (registry.INGRESS, "listener", "listeners", "Listeners", "where calls come in"),
    (registry.BACKEND, "backend", "backends", "Backends", "where they go"),
    (registry.POLICY, "policy", "policies", "Policies", "what runs around a route's handler"),
    (registry.CONTRACT, "contract", "contracts", "Contract sources", "what messages mean"),
)
# An example of what has none of its own: every example is loaded by a test.
EXAMPLES = {"group": "quotes", "cert": "tls/cert.pem", "key": "tls/key.pem", "username": "polygate"}

Pages = dict[str, str]
Schema = Mapping[str, Any]


def pages() -> Pages:
    """Every page by its path."""
    made: Pages = {}
    index = ["# Reference", "", "Every setting there is. `polygate schema` prints the same for editors.", ""]
    index += ["- [The config file](config.md): its sections, routes, variables", *_kinds_into(made)]
    index += ["- [Formats](formats.md): how messages are written", "- [Outcomes](outcomes.md): what a caller is told"]
    index += ["- [Metrics](metrics.md): what `/metrics` says"]
    made["config"] = _config()
    made["formats"] = _formats()
    made["outcomes"] = _outcomes()
    made["metrics"] = _metrics()
    made["README"] = "\n".join(index) + "\n"
    return {f"{FOLDER}/{name}.md": MADE + text for name, text in made.items()}


def _kinds_into(made: Pages) -> Iterator[str]:
    for group, noun, section, title, what in GROUPS:
        yield f"- {title}, {what}:"
        for kind, model in installed(group):
            made[f"{noun}-{kind}"] = _kind_page(noun, section, kind, model)
            yield f"    - [{kind}]({noun}-{kind}.md): {_prose(inspect.getdoc(model))}"


def _kind_page(noun: str, section: str, kind: str, model: type[Part]) -> str:
    defs = schema()["$defs"]
    lines = [f"# {noun.capitalize()} `{kind}`", "", _prose(inspect.getdoc(model)), ""]
    lines += _extra(noun, kind)
    # A contract source is told by the field of its kind's name.
    part = {**({} if noun == "contract" else {"kind": kind}), **_example(defs[f"{noun}.{kind}"], defs)}
    lines += ["```yaml", _yaml({section: [part] if noun in {"policy", "contract"} else {f"my-{kind}": part}}), "```", ""]
    lines += _tables(f"{noun}.{kind}", defs)
    if issubclass(model, BackendConfig):
        for verb, target in model.verbs.items():
            lines += _verb(kind, verb, target, defs)
    return "\n".join(lines).rstrip() + "\n"


def _extra(noun: str, kind: str) -> list[str]:
    group = next(group for group, name, *_ in GROUPS if name == noun)
    extras = registry.kinds(group)[kind].extras
    return [f"Needs `pip install 'polygate[{','.join(extras)}]'`.", ""] if extras else []


def _verb(kind: str, verb: str, target: type[TargetConfig], defs: Schema) -> list[str]:
    # Kinds that share a verb's model share its schema: the first of them names it.
    name = next(one for one in defs if one.startswith(f"{verb}.") and _same(defs[one], target))
    to = {"backend": f"my-{kind}", **_example(defs[name], defs, without=("backend", "kind"))}
    lines = [f"## Target: `{verb}`", "", _prose(inspect.getdoc(target)), "", "```yaml", _yaml({"to": to}), "```", ""]
    return lines + _tables(name, defs)


def _same(found: Schema, target: type[TargetConfig]) -> bool:
    return list(found.get("properties", ())) == list(target.model_fields) and found.get("description") == inspect.getdoc(target)


def _tables(name: str, defs: Schema) -> list[str]:
    """The fields of a model, and of each model inside of it."""
    lines = _table(defs[name], defs)
    inside: list[str] = []
    waiting = _references(defs[name])
    while waiting:
        reference = waiting.pop(0)
        # A kind that is referred to has a page of its own.
        if reference not in inside and reference.startswith(f"{name}."):
            inside.append(reference)
            waiting += _references(defs[reference])
    for reference in inside:
        if "properties" in defs[reference]:
            title = _title(reference)
            lines += [f"### {title}", "", _prose(defs[reference].get("description")), "", *_table(defs[reference], defs)]
    return lines


def _title(reference: str) -> str:
    return reference.rpartition(".")[2].removesuffix("Config")


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else []
    return own + [found for key, item in node.items() if key not in {"default", "examples"} for found in _references(item)]


def _table(model: Schema, defs: Schema) -> list[str]:
    required = model.get("required", ())
    rows = [("field", "type", "default", "")]
    for name, field in model.get("properties", {}).items():
        if "const" in field and name == "kind":
            continue
        default = "required" if name in required else _value(field.get("default"))
        examples = [f"`{_short(example)}`" for example in field.get("examples", ())]
        inner = defs.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
        told = _prose(field.get("description") or inner.get("description")) + (
            f" For example {', '.join(examples)}." if examples else ""
        )
        rows.append((f"`{name}`", _type(field), default, told))
    if len(rows) == 1:
        return ["It has no settings.", ""]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "| --- | --- | --- | --- |", *lines[1:], ""]


def _is_size(field: Schema) -> bool:
    kinds = [one.get("type") for one in field.get("anyOf", ())]
    return "string" in kinds and ["integer", "string"] in kinds


_NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "nothing"}


def _type(field: Schema) -> str:
    if "$ref" in field:
        name = _title(field["$ref"])
        return f"[{name}](#{name.lower()})"
    if "enum" in field or "const" in field:
        return " or ".join(f"`{name}`" for name in field.get("enum", [field.get("const")]))
    if "anyOf" in field or "oneOf" in field:
        if _is_size(field):
            return "size, as in 65536 or 64KiB"
        kinds = [_type(one) for one in field.get("anyOf", field.get("oneOf", ())) if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind: str | list[str] = field.get("type", "anything")
    if kind in ("array", ["array", "string"]):
        return f"list of {_type(field.get('items', {}))}"
    if kind == "object":
        inner = next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) else "mapping"
    if isinstance(kind, list):
        kind = kind[0]
    return _NAMES.get(kind, kind) + _limits(field)


def _limits(field: Schema) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {field[name]:,}" for name, word in words.items() if name in field]
    return f", {', '.join(limits)}" if limits else ""


def _value(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return ""
    return f"`{_short(value)}`"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _example(model: Schema, defs: Schema, *, without: Iterable[str] = ("kind",)) -> dict[str, Any]:
    """What must be said, with an example of each."""
    return {name: _sample(name, model["properties"][name], defs) for name in model.get("required", ()) if name not in without}


def _sample(name: str, field: Schema, defs: Schema) -> Any:
    if field.get("examples"):
        return field["examples"][0]
    if name in EXAMPLES:
        return EXAMPLES[name]
    if "$ref" in field:
        return _example(defs[field["$ref"].removeprefix("#/$defs/")], defs)
    raise LookupError(f"{name} is required and has no example: give it Field(examples=[...])")


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=110, allow_unicode=True).rstrip()


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


def _config() -> str:
    made = schema()
    defs = {**made["$defs"], "file": made}
    file = _prose(inspect.getdoc(FileConfig))
    lines = ["# The config file", "", f"{file} YAML 1.2 in UTF-8, or JSON; aliases and merges (`<<`) may be used, tags not.", ""]
    lines += [
        "`polygate check` tells everything that is wrong with one, each with file, line, path and remedy.",
        "",
        "## Variables",
        "",
    ]
    lines += ["| written | is |", "| --- | --- |"]
    lines += ["| `${NAME}` | the variable of the environment; an error where it is not set |"]
    lines += ["| `${NAME:-default}` | the same, or the default where it is not set or empty |"]
    lines += [
        "| `${file:/run/secrets/name}` | what the file holds, less the line's end; a relative path starts beside the config |"
    ]
    lines += ["| `$${` | `${` itself |", ""]
    lines += ["What a variable holds is text, never YAML; a field that wants a number reads it as one.", "", "## Sections", ""]
    lines += _tables("file", defs)
    lines += ["## An example", "", "What `polygate init` writes:", "", "```yaml"]
    lines += [resources.files("gateway").joinpath("starter.yaml").read_text(encoding="utf-8").rstrip(), "```"]
    return "\n".join(lines).rstrip() + "\n"


def _formats() -> str:
    lines = [
        "# Formats",
        "",
        "How a target's messages are written (`format:` in a route's `to:`), and what callers may send.",
        "",
    ]
    lines += ["| format | media types | |", "| --- | --- | --- |"]
    for name in registry.kinds(registry.CODEC):
        form = registry.load(registry.CODEC, name)
        told = _prose(inspect.getdoc(inspect.getmodule(type(form)))).partition(": ")[2]
        types = ", ".join(f"`{kind}`" for kind in form.content_types)
        lines.append(f"| `{name}` | {types} | {told} |")
    return "\n".join(lines) + "\n"


def _outcomes() -> str:
    lines = [
        "# Outcomes",
        "",
        "What a caller is told for each reason. An outcome is never a lie: `failed` means that nothing was",
        "",
    ]
    lines[-2] += " done, `unknown` that it may have been."
    lines += ["| reason | | gRPC | HTTP | WebSocket close | retry | outcome |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for reason, row in TABLE.items():
        retry = "yes" if row.retryable else "no"
        lines.append(f"| `{reason}` | {row.title} | {row.code.name} | {row.http} | {row.close} | {retry} | {row.outcome} |")
    lines += ["", "On a WebSocket the same problem object is the answer to a message; it closes only where it cannot go on."]
    return "\n".join(lines) + "\n"


def _metrics() -> str:
    lines = ["# Metrics", "", "At `/metrics` of the `admin` listener, besides those of the process (`process_*`).", ""]
    lines += ["| metric | type | labels | |", "| --- | --- | --- | --- |"]
    for family in Metrics().collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in vars(family)["_labelnames"])  # the library tells them nowhere else
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    lines += ["", "At any time accepted = acknowledged + failed + unknown + stored + dropped + in flight.", ""]
    return "\n".join(lines)
