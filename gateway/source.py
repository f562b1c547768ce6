"""A config as plain values, with the file and line of every one. It is one file, or several read as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config: where, and what to do about it."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.path}: {self.text}" if self.path else f"{self.file}:{self.line} {self.text}"


Look = tuple[int, ...] | None
"""What a file or folder looks like from outside: otherwise once it was written, replaced or moved; None where it is not there."""
Inputs = Mapping[Path, Look]


def look(path: Path) -> Look:
    """Look at a path, through links."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ConfigError(Exception):
    """A config that cannot work; every problem, in the order of the files."""

    def __init__(self, problems: Iterable[Problem], inputs: Inputs = MappingProxyType({})) -> None:
        self.problems = sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line))
        self.inputs = dict(inputs)
        """See `Source.inputs`."""
        super().__init__("\n".join(map(str, self.problems)))


def path_text(where: Where) -> str:
    """A place as people write it, as in `routes[3].to.topic`."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


@dataclass(slots=True)
class Source:
    """What was read. `value` is plain; `lines` has the line of each path in it.

    Of several files read as one, `parts` says whose every entry of a section is: its own source, and its path in that.
    """

    file: str
    home: Path
    """The file's folder."""
    value: object = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unfilled: set[Where] = field(default_factory=set)
    """The places whose variables could not be filled in: what else is wrong with them may only follow from that."""
    inputs: dict[Path, Look] = field(default_factory=dict)
    """Every file, and every folder, whose change may change the config, as it was before it was read."""
    parts: dict[Where, tuple[Source, Where]] = field(default_factory=dict)

    def _at(self, where: Where) -> tuple[Source, Where]:
        """The one file that a path is in, and its path there."""
        for length in (2, 1):
            if (part := self.parts.get(where[:length])) is not None:
                source, own = part
                return source, (*own, *where[length:])
        return self, where

    def line(self, where: Where) -> int:
        """The line of a path or, where it is not in its file, of the nearest that is."""
        source, where = self._at(where)
        while where and where not in source.lines:
            where = where[:-1]
        return source.lines.get(where, 1)

    def name(self, where: Where) -> str:
        """The file of a path."""
        return self._at(where)[0].file

    def folder(self, where: Where) -> Path:
        """Where relative paths start that stand at a place: the folder of its file."""
        return self._at(where)[0].home

    def origin(self, where: Where) -> str:
        """A place as file:line."""
        return f"{self.name(where)}:{self.line(where)}"

    def seen_from(self, where: Where, other: Where) -> str:
        """Where another place is, for somebody who looks at this one."""
        return f"on line {self.line(other)}" if self.name(other) == self.name(where) else f"in {self.origin(other)}"

    def note(self, *paths: Path) -> None:
        """Know of files and folders that are about to be read."""
        for path in paths:
            self.inputs.setdefault(path, look(path))

    def wrong(self, where: Where, text: str) -> None:
        """Note a problem, unless it is of a place that is unfilled."""
        source, own = self._at(where)
        if own in source.unfilled:
            return
        self.problems.append(Problem(source.file, self.line(where), path_text(own), text))

    def error(self, *more: Problem) -> ConfigError:
        """What is wrong so far, to be raised."""
        return ConfigError([*self.problems, *more], self.inputs)
