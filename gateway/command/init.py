"""`polygate init`."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from gateway.command import OK, WRONG, complain, say


def init(options: argparse.Namespace) -> int:
    """Write a commented starter file."""
    starter = resources.files("gateway").joinpath("starter.yaml").read_text(encoding="utf-8")
    target: Path = options.file
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(starter)
    except FileExistsError:
        complain(f"polygate: {target} is there already; name another file")
        return WRONG
    except OSError as error:
        complain(f"polygate: {target}: {error.strerror}")
        return WRONG
    say(f"wrote {target}; next: polygate run {target}")
    return OK
