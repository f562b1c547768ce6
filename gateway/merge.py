"""Several config files read as one: sections are merged by name, lists one behind the other, and nothing may be said twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.source import ConfigError, Problem, Source, Where, look, path_text
from gateway.yamltext import read

_NO_CONFIG = "a config is a mapping with `listeners`, `backends` and `routes`; `polygate init` writes one"
_ENDINGS = frozenset({".yaml", ".yml"})


def read_all(paths: Sequence[Path], environment: Mapping[str, str] | None = None) -> Source:
    """Read config files, and those in folders (*.yaml and *.yml by their names, less the hidden), as one config.

    ConfigError where one cannot be read at all, or where all of them together are no config; lesser problems are in the source.
    """
    sources: list[Source] = []
    problems: list[Problem] = []
    inputs = {path: look(path) for path in paths if path.is_dir()}
    for path in paths:
        files = list(_files(path))
        if not files:
            problems.append(Problem(str(path), 1, "", "has no .yaml file in it"))
        for file in files:
            try:
                sources.append(read(file, environment))
            except ConfigError as error:
                problems += error.problems
                inputs |= error.inputs
    whole = _merged(sources)
    whole.inputs |= inputs
    if problems:
        raise whole.error(*problems)
    if not isinstance(whole.value, dict):
        whole.wrong((), _NO_CONFIG)
        raise whole.error()
    return whole


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.iterdir()):
        # What is hidden is an editor's, or the other end of a mounted ConfigMap's links.
        if file.suffix in _ENDINGS and not file.name.startswith(".") and not file.is_dir():
            yield file


def _merged(sources: Sequence[Source]) -> Source:
    if len(sources) == 1:
        return sources[0]
    whole = Source("", Path()) if not sources else Source(sources[0].file, sources[0].home)
    for source in sources:
        whole.problems += source.problems
        whole.unfilled |= source.unfilled
        whole.inputs |= source.inputs
        if isinstance(source.value, dict):
            for section, said in source.value.items():
                _add(whole, source, (section,), said)
        elif source.value is not None:  # an empty file adds nothing
            whole.problems.append(Problem(source.file, source.line(()), "", _NO_CONFIG))
    return whole


def _add(whole: Source, source: Source, where: Where, said: Any) -> None:
    """One section of one file, to those of the files before it."""
    value: dict[str, Any] = whole.value if isinstance(whole.value, dict) else {}
    whole.value = value
    section = str(where[0])
    known = value.get(section)
    if known is None:
        whole.parts[where] = (source, where)
        known = value[section] = type(said)() if isinstance(said, dict | list) else said
    elif said is not None and not (isinstance(said, dict | list) and isinstance(known, type(said))):
        _refuse(whole, source, where)
    if isinstance(said, dict) and isinstance(known, dict):
        for name, entry in said.items():
            at = (*where, name)
            if name in known:
                _refuse(whole, source, at)
            else:
                known[name] = entry
                whole.parts[at] = (source, at)
    elif isinstance(said, list) and isinstance(known, list):
        for index, entry in enumerate(said):
            whole.parts[*where, len(known)] = (source, (*where, index))
            known.append(entry)


def _refuse(whole: Source, source: Source, where: Where) -> None:
    """What stands in two files, both of which are told."""
    text = f"{where[-1]} is in {whole.origin(where)} already"
    whole.problems.append(Problem(source.file, source.line(where), path_text(where), text))
