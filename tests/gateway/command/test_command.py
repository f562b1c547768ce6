from __future__ import annotations

import sys

from gateway.cli import main
from gateway.command import OK


def test_without_uvloop_it_runs_as_well(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert OK == main(["check", "--connect", config()])
