"""What kinds there are: entry points, the same for ours and for others. A kind is loaded only where a config names it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

INGRESS = "gateway.ingress"
BACKEND = "gateway.backend"
POLICY = "gateway.policy"
CODEC = "gateway.codec"
CONTRACT = "gateway.contract"
SCHEMA = "gateway.schema"


class MissingKindError(LookupError):
    """A kind that nobody registered, or whose library is not installed; the text says what to do."""


@cache
def kinds(group: str) -> dict[str, EntryPoint]:
    """The registered kinds of a group, by name, sorted."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


@cache
def load(group: str, kind: str) -> Any:
    """What is registered: a config model, or a format. Raises MissingKindError."""
    entry = kinds(group).get(kind)
    if entry is None:
        raise MissingKindError(f"there is no kind {kind!r}; there are {', '.join(kinds(group))}")
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        # Python's metadata keeps what stands in brackets behind an entry point: the extra that brings its library.
        extras = ",".join(entry.extras)
        owner = entry.dist.name if entry.dist is not None else "polygate"
        remedy = f"pip install '{owner}[{extras}]'" if extras else f"install the package that has {error.name}"
        raise MissingKindError(f"{kind} needs {error.name}, which is not installed; {remedy}") from error
