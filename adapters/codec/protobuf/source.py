"""Functions that are written as text when the config is loaded: one for each type, straight through its fields."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any
from weakref import finalize

_numbers = count(1)


class Source:
    """Functions in one space, where they find each other and what they work with by name."""

    def __init__(self, words: dict[str, Any]) -> None:
        self._space: dict[str, Any] = dict(words)
        self._lines: list[str] = []
        self._numbers = count(1)

    def constant(self, value: object, word: str = "c") -> str:
        """A new name for a value."""
        name = f"{word}_{next(self._numbers)}"
        self._space[name] = value
        return name

    def reserve(self, word: str) -> str:
        """A name for a function that is yet to be added."""
        return f"{word}_{next(self._numbers)}"

    def add(self, head: str, body: Iterable[str]) -> None:
        """One more function."""
        self._lines.append(f"def {head}:")
        self._lines.extend(f"    {line}" for line in body)

    def function(self, name: str) -> Callable[..., Any]:
        """The function of this name, once all that was added is compiled."""
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            # Unique, and known to linecache, so that a traceback shows the line.
            file = f"<codec {next(_numbers)}>"
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
            finalize(self, linecache.cache.pop, file, None)
            # The text is made of the contract's structure alone; its names come in as constants and quoted literals.
            exec(compile(text, file, "exec"), self._space)  # noqa: S102
        found: Callable[..., Any] = self._space[name]
        return found


def indented(lines: Iterable[str], levels: int = 1) -> list[str]:
    """Lines one block further in."""
    return ["    " * levels + line for line in lines]
