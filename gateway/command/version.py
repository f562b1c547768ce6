"""`polygate version`."""

from __future__ import annotations

import argparse

from gateway import __version__
from gateway.command import OK, say, say_json


def version(options: argparse.Namespace) -> int:
    """Print the version."""
    if options.json:
        say_json({"version": __version__})
    else:
        say(f"polygate {__version__}")
    return OK
