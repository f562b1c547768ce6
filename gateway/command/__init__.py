"""The commands of `polygate`, a module each, and what they share: exit codes, and how they speak."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
OK, WRONG, USAGE, NOT_STARTED = 0, 1, 2, 3
"""All is well; the config is wrong, a check failed, or an explained call would be refused; the command line is wrong; the gateway
could not start.
"""


def say(text: str) -> None:
    """Tell whoever asked."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def say_json(value: object) -> None:
    """Tell a program."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say_columns(lines: Sequence[Sequence[str]]) -> None:
    """Tell a table, whose first line is its head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    say("\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines))


def complain(text: str) -> None:
    """Tell what is wrong."""
    sys.stderr.write(text + "\n")


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed: about twice the rate over HTTP."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def named(paths: Sequence[Path]) -> str:
    """The files of a config, for people."""
    return ", ".join(map(str, paths))


def count(things: Sized, noun: str) -> str:
    """How many there are, as in `2 routes`."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
