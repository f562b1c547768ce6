"""The files of a spool. Every process has one of its own, the first of these names that no other has."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gateway.embedded.lock import InUseError
from gateway.errors import BackendError, Reason

T = TypeVar("T")

MOST = 256
"""How many files there may be."""


def names(path: str) -> Iterator[str]:
    """The names in their order: spool.db, spool.1.db, spool.2.db."""
    first = Path(path)
    yield path
    for number in range(1, MOST):
        yield str(first.with_name(f"{first.stem}.{number}{first.suffix}"))


def is_of(path: str, file: str) -> bool:
    """Whether a file would be taken for one of a spool's, wherever that is seen from."""
    first, other = Path(path).resolve(), Path(file).resolve()
    return first.parent == other.parent and _number(first, other) is not None


def existing(path: str) -> list[str]:
    """Those that are there, in the order of their names."""
    first = Path(path)
    if not first.parent.is_dir():
        return []
    there = ((number, entry) for entry in first.parent.iterdir() if (number := _number(first, entry)) is not None)
    return [str(entry) for _, entry in sorted(there)]


def _number(first: Path, other: Path) -> int | None:
    """Which of the names one is; None where it is none."""
    if other.name == first.name:
        return 0
    found = re.fullmatch(rf"{re.escape(first.stem)}\.([1-9][0-9]{{0,2}}){re.escape(first.suffix)}", other.name)
    return int(found[1]) if found and int(found[1]) < MOST else None


async def first_free(path: str, opened: Callable[[str], Awaitable[T]]) -> T:
    """Open the first that no process has. BackendError(REFUSED) where none is free, or that one cannot be opened."""
    for name in names(path):
        try:
            return await opened(name)
        except BackendError as error:
            if not in_use(error):
                raise
    raise BackendError(Reason.REFUSED, f"{path} and {MOST - 1} files beside it are in use by other processes")


def in_use(error: BackendError) -> bool:
    """Whether a file could not be opened for another process has it."""
    return isinstance(error.__cause__, InUseError)
