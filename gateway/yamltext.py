"""YAML text, read as a config wants it: plain values that know their lines, their variables filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.source import ConfigError, Problem, Source, Where, path_text

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
