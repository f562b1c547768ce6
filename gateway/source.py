"""A config file as plain values, with the line of every one, its variables filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

Where = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?)\}")
MAX_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config: where, and what to do about it."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.path}: {self.text}" if self.path else f"{self.file}:{self.line} {self.text}"


class ConfigError(Exception):
    """A config that cannot work; every problem, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.file, problem.line))
        super().__init__("\n".join(map(str, self.problems)))


def path_text(where: Where) -> str:
    """routes[3].to.topic"""  # noqa: D400  the example is the sentence
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


@dataclass(slots=True)
class Source:
    """One file that was read. `value` is plain; `lines` has the line of each path in it."""

    file: str
    folder: Path
    value: object = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """The line of a path or, where it is not in the file, of the nearest that is."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def wrong(self, where: Where, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, self.line(where), path_text(where), text))


class _Reader:
    """Walks YAML's nodes, since those alone know their lines."""

    def __init__(self, source: Source, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment
        self._constructor = yaml.SafeLoader("")
        self._count = 0

    def value(self, node: yaml.Node, where: Where) -> object:
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigError([Problem(self._source.file, node.start_mark.line + 1, "", "aliases make this file too large")])
        self._source.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, object]:
        self._constructor.flatten_mapping(node)
        value: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(self._constructor.construct_object(key_node))
            if key in value:
                self._source.wrong((*where, key), f"{key!r} stands twice here")
            self._source.lines[(*where, key)] = key_node.start_mark.line + 1
            value[key] = self.value(value_node, (*where, key))
        return value

    def _scalar(self, node: yaml.Node, where: Where) -> object:
        text = node.value
        if "${" not in text:
            return self._constructor.construct_object(node)
        filled = _VARIABLE.sub(lambda match: self._variable(match, where), text)
        # A variable that is the whole of a plain scalar has the type that its text would have: ${PORT} is a number.
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            tag = self._constructor.resolve(yaml.ScalarNode, filled, (True, False))  # type: ignore[no-untyped-call]  # no stub
            node = yaml.ScalarNode(tag, filled, node.start_mark, node.end_mark)
            return self._constructor.construct_object(node)
        return filled

    def _variable(self, match: re.Match[str], where: Where) -> str:
        if match["file"]:
            try:
                return (self._source.folder / match["file"]).read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                self._source.wrong(where, f"${{file:{match['file']}}} cannot be read: {reason}")
                return ""
        found = self._environment.get(match["name"])
        # As in a shell, ":-" takes an empty variable for one that is not set.
        if match["default"] is not None:
            return found or match["default"][2:]
        if found is None:
            self._source.wrong(where, f"${{{match['name']}}} is not set; set it, or give a default: ${{{match['name']}:-...}}")
            return ""
        return found


def read(path: Path, environment: Mapping[str, str] | None = None) -> Source:
    """Read a YAML file (JSON is YAML too). ConfigError where it cannot be read at all; lesser problems are in the source."""
    source = Source(str(path), path.parent)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), 1, "", "is not UTF-8")]) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            source.value = _Reader(source, os.environ if environment is None else environment).value(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([Problem(str(path), line, "", f"is not YAML: {error.problem}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Problem(str(path), 1, "", "is not YAML that can be read")]) from error
    return source
