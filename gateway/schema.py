"""JSON Schemas (2020-12) of messages as documents tell them: one that has a name is told once, and referred to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
PLACE = "#/components/schemas/"
"""Where both OpenAPI and AsyncAPI keep them."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that path or query may say."""

    path: str
    """Where it is in the message, by the names that its JSON has; dotted."""
    names: str
    """The same by the names of the .proto."""
    schema: Schema


class Schemas:
    """The named schemas of one document. A name may have several: what is sent of a type is less than what is taken."""

    def __init__(self, comments: Mapping[str, str] | None = None) -> None:
        """`comments`: what the source says of a type, a field or a method, by its full name."""
        self.comments: Mapping[str, str] = comments or {}
        self._made: dict[tuple[str, str], Schema] = {}
        self._unmade: list[tuple[tuple[str, str], Callable[[], Schema]]] = []
        self._making = False

    def refer(self, name: str, variant: str, make: Callable[[], Schema]) -> Schema:
        """A reference to the schema of a name; `make` is called where there is none yet, and may refer to the same."""
        key = (name, variant)
        if key not in self._made:
            self._made[key] = {}
            self._unmade.append((key, make))
            if not self._making:
                self._make()
        return {"$ref": f"{PLACE}{name}\0{variant}"}

    def _make(self) -> None:
        """Make what is referred to, in a loop: a chain of types may be longer than Python's recursion."""
        self._making = True
        try:
            while self._unmade:
                key, make = self._unmade.pop()
                self._made[key] = make()
        finally:
            self._making = False

    def told(self, document: Schema) -> Schema:
        """A document with its references in their last form, and every schema that it refers to among its components.

        Variants that come to the same are told once; the first is told under the name itself, the others with theirs behind.
        """
        names = self._named()
        done: Schema = _renamed(document, names)
        schemas = {names[key]: _renamed(schema, names) for key, schema in self._made.items()}
        components = {**done.get("components", {}), "schemas": dict(sorted(schemas.items()))}
        return {**done, "components": {name: part for name, part in components.items() if part}}

    def _named(self) -> dict[tuple[str, str], str]:
        """The final name of each: variants fall together as long as nothing that they refer to is told apart."""
        classes = {key: key[0] for key in self._made}
        while True:
            groups: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
            for key, schema in self._made.items():
                groups[key[0]][repr(_renamed(schema, classes))].append(key)
            finer = {key: name for bodies in groups.values() for name, keys in _names(bodies) for key in keys}
            if finer == classes:
                return classes
            classes = finer


def _names(bodies: Mapping[str, list[tuple[str, str]]]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (_UNFIT.sub("_", keys[0][0] + (f".{keys[0][1]}" if number and keys[0][1] else "")), keys)
        for number, keys in enumerate(sorted(bodies.values(), key=lambda keys: min(variant for _, variant in keys)))
    ]


def _renamed(node: Any, names: Mapping[tuple[str, str], str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _renamed(value, names) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and "\0" in reference:
        name, _, variant = reference.removeprefix(PLACE).partition("\0")
        found["$ref"] = PLACE + names[name, variant]
    return found


def json(schemas: Schemas) -> Schema:
    """A reference to any JSON as we take it: a whole number beyond 64 bits is refused wherever it stands (`gateway.jsontext`)."""

    def make() -> Schema:
        again = json(schemas)
        whole: Schema = {"if": {"type": "integer"}, "then": {"minimum": -(2**63), "maximum": 2**64 - 1}}
        return {"description": "Any JSON.", **whole, "items": again, "additionalProperties": again}

    return schemas.refer("Json", "", make)


def rooted(node: Any, name: str) -> Any:
    """A whole schema as a part of a document: what it refers to within itself is where its name is."""
    if isinstance(node, list):
        return [rooted(item, name) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: rooted(value, name) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#") and not reference.startswith(PLACE):
        found["$ref"] = f"{PLACE}{_UNFIT.sub('_', name)}{reference[1:]}"
    return found


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    kind = schema.get("type")
    if kind is None or "enum" in schema or "const" in schema:
        options = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
        return {"anyOf": [*options, {"type": "null"}]}
    kinds = kind if isinstance(kind, list) else [kind]
    return {**schema, "type": [*kinds, "null"]}
