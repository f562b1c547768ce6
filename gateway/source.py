"""A config as plain values, with the file and line of every one, its variables filled in. It is one file, or several read as
one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

Where = tuple[str | int, ...]
MAX_DEPTH = 64

_VARIABLE = re.compile(
    r"(?P<plain>\$\$\{)|\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?)\}|(?P<broken>\$\{)"
)
# YAML 1.2, core schema (10.3.2): `no`, `on`, 12:30 and 2024-01-01 are texts, as whoever wrote them meant.
_WORDS = {"": None, "~": None} | {
    form: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_MAX_DIGITS = 100
_TEXT_TAG = "tag:yaml.org,2002:str"
# libyaml where PyYAML has it (its wheels do): a tenth of the time.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


class _Reader:
    """Makes values of YAML's events, which know their lines; what an alias repeats is one value, and is not read again."""

    def __init__(self, source: Source, environment: Mapping[str, str], events: Iterator[Any]) -> None:
        self._source = source
        self._environment = environment
        self._events = events
        self._anchors: dict[str, object] = {}

    def document(self) -> object:
        """The one document of a file; None for an empty one."""
        found: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refusal(event, "a config is one document: take out the --- that begins another")
                found = self._value(next(self._events), ())
        return found

    def _value(self, event: Any, where: Where) -> object:
        self._source.lines.setdefault(where, self._line(event))
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._refusal(event, f"there is no anchor &{event.anchor} before *{event.anchor}")
            return self._anchors[event.anchor]
        if len(where) > MAX_DEPTH:
            raise self._refusal(event, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.MappingStartEvent):
            value: object = self._mapping(where)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(where)
        else:
            value = self._scalar(event, where)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    @staticmethod
    def _line(event: Any) -> int:
        return int(event.start_mark.line) + 1

    def _refusal(self, event: Any, text: str) -> ConfigError:
        return self._source.error(Problem(self._source.file, self._line(event), "", text))

    def _mapping(self, where: Where) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refusal(event, "a key is a plain text")
            key: str = event.value
            at = (*where, key)
            line = self._line(event)
            if key in own:
                first = self._source.line(at)
                self._source.problems.append(
                    Problem(self._source.file, line, path_text(at), f"{key} stands here twice; first on line {first}")
                )
            self._source.lines[at] = line
            value = self._value(next(self._events), at)
            if key == "<<":  # a merge: what stands here itself wins
                for part in value if isinstance(value, list) else [value]:
                    merged = {**(part if isinstance(part, dict) else {}), **merged}
            else:
                own[key] = value
        return {**merged, **own} if merged else own

    def _sequence(self, where: Where) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*where, len(items))))
        return items

    def _scalar(self, event: Any, where: Where) -> object:
        text: str = event.value
        if event.tag not in {None, "!", _TEXT_TAG}:
            self._source.wrong(where, f"a config has no tags: take out {event.tag.replace('tag:yaml.org,2002:', '!!')}")
            return text
        if "${" in text:
            # What a variable fills in is text, so that a password of digits stays one; a field that wants a number reads it.
            before = len(self._source.problems)
            text = _VARIABLE.sub(lambda match: self._variable(match, where), text)
            if len(self._source.problems) > before:
                self._source.unfilled.add(where)
            return text
        return text if event.style or event.tag else _typed(text)

    def _variable(self, match: re.Match[str], where: Where) -> str:
        if match["plain"]:
            return "${"
        if match["broken"]:
            self._source.wrong(
                where, "a variable is written ${NAME}, ${NAME:-default} or ${file:/run/secrets/name}; $${ stands for ${ itself"
            )
            return ""
        if match["file"]:
            return self._secret(match["file"], where)
        found = self._environment.get(match["name"])
        # As in a shell, ":-" takes an empty variable for one that is not set.
        if match["default"] is not None:
            return found or match["default"][2:]
        if found is None:
            self._source.wrong(where, f"${{{match['name']}}} is not set; set it, or give a default: ${{{match['name']}:-...}}")
            return ""
        return found

    def _secret(self, name: str, where: Where) -> str:
        path = self._source.home / name
        self._source.note(path)
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
            self._source.wrong(where, f"${{file:{name}}} cannot be read: {reason}")
            return ""


def _typed(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.match(text):
            return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
        if _NUMBER.match(text):
            return float(text)
    return text


def _hint(text: str, line: int) -> str:
    """What most often is behind YAML that cannot be read."""
    lines = text.splitlines()
    said = lines[line - 1] if line <= len(lines) else ""
    if "\t" in said[: len(said) - len(said.lstrip())]:
        return "; indent with spaces, not tabs"
    if re.search(r"[{\[,].*[^\"'$]\$\{", said):
        return '; inside { } and [ ] a variable needs quotes: "${NAME}"'
    if re.search(r"^\s*(?:-\s+)?[^\s\"'{\[][^:]*:\s+[^\"'{\[|>&*\s].*:\s", said):
        return '; a text with ": " in it needs quotes around it'
    return ""


def read(path: Path, environment: Mapping[str, str] | None = None) -> Source:
    """Read a YAML file (JSON is YAML too). ConfigError where it cannot be read at all; lesser problems are in the source."""
    source = Source(str(path), path.parent)
    source.note(path)

    def refusal(text: str, line: int = 1) -> ConfigError:
        return source.error(Problem(source.file, line, "", text))

    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        remedy = "; `polygate init` writes a first one" if isinstance(error, FileNotFoundError) else ""
        raise refusal(f"cannot be read: {(error.strerror or '').lower()}{remedy}") from error
    except UnicodeDecodeError as error:
        raise refusal("is not UTF-8") from error
    try:
        source.value = _Reader(source, os.environ if environment is None else environment, yaml.parse(text, _LOADER)).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise refusal(f"is not YAML: {what}{_hint(text, line)}", line) from error
    except yaml.YAMLError as error:
        raise refusal("is not YAML: it has a character that no text file should have") from error
    return source
