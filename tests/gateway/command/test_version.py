from __future__ import annotations

import json
import tomllib
from pathlib import Path

from gateway import __version__
from gateway.cli import main
from gateway.command import OK

ROOT = Path(__file__).parents[3]


def test_version_is_that_of_the_package(capsys):
    assert OK == main(["version"])
    assert f"polygate {__version__}\n" == capsys.readouterr().out
    assert OK == main(["version", "--json"])
    assert {"version": __version__} == json.loads(capsys.readouterr().out)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
