"""What is told of a value that does not fit a JSON Schema: where, and what must be. Never the value itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs

SHOWN = 20
MAX_TEXT = 200
# Longer or stranger names are not worth telling: they are the caller's own.
_NAME = re.compile(r"[\w.$@:/~ -]{1,64}\Z")


class Finding(NamedTuple):
    """One place that does not fit."""

    pointer: str
    detail: str


def findings(errors: Iterator[jsonschema_rs.ValidationError]) -> Sequence[Finding]:
    """The first places, in the order of the schema."""
    return tuple(dict.fromkeys(islice((one for error in errors for one in _of(error)), SHOWN)))


def _of(error: jsonschema_rs.ValidationError) -> Iterator[Finding]:
    kind: Any = error.kind
    at = _pointer(error.instance_path)
    if kind.name == "required":
        yield Finding(f"{at}/{_escaped(kind.property)}", "is required")
    elif kind.name in {"additionalProperties", "unevaluatedProperties"}:
        for name in kind.unexpected:
            yield Finding(f"{at}/{_escaped(name)}" if _NAME.match(name) else at, "has a name that is not known here")
    else:
        words = _WORDS.get(kind.name)
        yield Finding(at, _short(words(kind) if words is not None else f"does not fit: {kind.name}"))


def _pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901), as far as its names can be told."""
    told = ""
    for step in path:
        if isinstance(step, str) and not _NAME.match(step):
            break
        told += f"/{_escaped(str(step))}"
    return told


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _counted(limit: int, noun: str) -> str:
    return f"{limit} {noun}{'' if limit == 1 else 's'}"


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "type": lambda kind: f"must be {' or '.join(sorted(kind.types))}",
    "enum": lambda kind: f"must be one of {', '.join(map(_json, kind.options))}",
    "const": lambda kind: f"must be {_json(kind.expected_value)}",
    "pattern": lambda kind: f"must match {kind.pattern}",
    "format": lambda kind: f"must be a {kind.format}",
    "minimum": lambda kind: f"must be at least {kind.limit}",
    "maximum": lambda kind: f"must be at most {kind.limit}",
    "exclusiveMinimum": lambda kind: f"must be more than {kind.limit}",
    "exclusiveMaximum": lambda kind: f"must be less than {kind.limit}",
    "multipleOf": lambda kind: f"must be a multiple of {kind.multiple_of}",
    "minLength": lambda kind: f"must have at least {_counted(kind.limit, 'character')}",
    "maxLength": lambda kind: f"must have at most {_counted(kind.limit, 'character')}",
    "minItems": lambda kind: f"must have at least {_counted(kind.limit, 'item')}",
    "maxItems": lambda kind: f"must have at most {_counted(kind.limit, 'item')}",
    "minProperties": lambda kind: f"must have at least {_counted(kind.limit, 'field')}",
    "maxProperties": lambda kind: f"must have at most {_counted(kind.limit, 'field')}",
    "uniqueItems": lambda _kind: "must not have the same item twice",
    "contains": lambda _kind: "has not the items that it must contain",
    "propertyNames": lambda _kind: "has a name that does not fit",
    "unevaluatedItems": lambda _kind: "has items that are not known here",
    "anyOf": lambda _kind: "fits none of the schemas that it may have",
    "oneOf": lambda _kind: "must fit exactly one of the schemas that it may have",
    "not": lambda _kind: "must not be so",
    "falseSchema": lambda _kind: "must not be there",
}
