"""What a reload changes: the difference of two configs, part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from gateway.part import Part

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """The names of parts, by what becomes of them."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        return ", ".join(f"{len(names)} {what}" for what, names in self.told().items() if names) or "none"

    def told(self) -> dict[str, tuple[str, ...]]:
        """For programs."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def change(before: Mapping[str, object], after: Mapping[str, object]) -> Change:
    """The difference of two sections, of which equal parts are the same."""
    return Change(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name, part in after.items() if name in before and before[name] != part),
        removed=tuple(name for name in before if name not in after),
        unchanged=tuple(name for name, part in after.items() if name in before and before[name] == part),
    )


def missing(before: Mapping[str, T], after: Mapping[str, T]) -> list[T]:
    """The parts that are gone, or are others by now."""
    return [part for name, part in before.items() if after.get(name) != part]


def paths_in(value: Any) -> Iterator[Path]:
    """Every file that a part of a config names (certificates, keys)."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Part):
        for one in value.__dict__.values():
            yield from paths_in(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from paths_in(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from paths_in(one)


@dataclass(frozen=True, slots=True)
class Said:
    """What a part of a config says, with what is in the files that it names: equal where nothing has to be built anew."""

    config: Part
    files: tuple[str, ...]


def said(config: Part) -> Said:
    """What a part says now. A file that cannot be read is as good as an empty one: whoever needs it will tell."""
    return Said(config, tuple(_digest(path) for path in paths_in(config)))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
