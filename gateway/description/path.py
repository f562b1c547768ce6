"""A path pattern as OpenAPI and AsyncAPI have one: single segments in braces, each with what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from gateway.pattern import Pattern
from gateway.schema import Leaf, Schema

TEXT: Schema = {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One segment that the caller chooses."""

    name: str
    field: str = ""
    """The field that it is; "" where it is a part of one, or of none."""
    text: str = ""
    """What else is to be said of it."""


@dataclass(frozen=True, slots=True)
class Told:
    """A pattern, told."""

    pieces: tuple[str | Parameter, ...]
    verb: str

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The segments that the caller chooses, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Parameter))

    @property
    def shape(self) -> str:
        """The same for paths that differ in the names of their parameters only: to OpenAPI they are one."""
        return self._path(lambda _parameter: "{}")

    @property
    def path(self) -> str:
        """As OpenAPI writes it."""
        return self._path(lambda parameter: f"{{{parameter.name}}}")

    def _path(self, write: Callable[[Parameter], str]) -> str:
        return "/" + "/".join(piece if isinstance(piece, str) else write(piece) for piece in self.pieces) + self.verb

    def called(self, names: Sequence[str]) -> Told:
        """The same with other names for its parameters."""
        left = iter(names)
        return replace(
            self, pieces=tuple(piece if isinstance(piece, str) else replace(piece, name=next(left)) for piece in self.pieces)
        )


def told(pattern: Pattern) -> Told:
    """A pattern whose variables over several segments are cut into these: a client may write a "/" as %2F, which would not
    be the same.
    """
    pieces: list[str | Parameter] = []
    taken: set[str] = set()
    owners = {
        index: variable
        for variable in pattern.variables
        for index in range(variable.start, len(pattern.segments) if variable.stop is None else variable.stop)
    }
    for index, segment in enumerate(pattern.segments):
        if segment.kind == "literal":
            pieces.append(quote(segment.text, safe="!$&'()*+,;=:@"))
            continue
        variable = owners.get(index)
        whole = variable is not None and (variable.single or (segment.kind == "rest" and variable.start == index))
        before = pattern.segments[index - 1].text if index else ""
        name = variable.name if variable is not None and whole else before or "segment"
        number = sum(1 for one in taken if one == name or one.startswith(f"{name}_"))
        name = f"{name}_{number + 1}" if number else name
        taken.add(name)
        text = [f"The segment of `{variable.name}` after `{before}`."] if variable is not None and not whole else []
        if segment.kind == "rest":
            text.append("It may go on over several segments; a `/` that is written as `%2F` stays so.")
        pieces.append(Parameter(name, variable.name if variable is not None and whole else "", " ".join(text)))
    return Told(tuple(pieces), f":{quote(pattern.verb, safe='')}" if pattern.verb else "")


def leaf_of(leaves: Sequence[Leaf], path: str) -> Leaf | None:
    """The leaf of a field path, in whichever of its names."""
    return next((leaf for leaf in leaves if path in {leaf.path, leaf.names}), None)


def parameters(path: Told, leaves: Sequence[Leaf]) -> list[Schema]:
    """OpenAPI's parameters of a path."""
    found: list[Schema] = []
    for parameter in path.parameters:
        leaf = leaf_of(leaves, parameter.field) if parameter.field else None
        schema = dict(leaf.schema) if leaf is not None else dict(TEXT)
        if schema.get("type") == "string":
            schema = {**schema, **TEXT}
        text = " ".join(filter(None, (schema.pop("description", ""), parameter.text)))
        described = {"description": text} if text else {}
        found.append({"name": parameter.name, "in": "path", "required": True, **described, "schema": schema})
    return found
