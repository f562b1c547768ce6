from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.command import NOT_STARTED, OK
from tests.gateway.good import GOOD

ROOT = Path(__file__).parents[3]


def test_run_says_what_could_not_start(config, capsys, tmp_path):
    path = config(GOOD.replace("backends: {", f'backends: {{log: {{kind: local, path: "{tmp_path}"}}, '))
    assert NOT_STARTED == main(["run", path])
    assert "polygate: " in capsys.readouterr().err


@pytest.fixture
def process(config):
    """`polygate run`, once it has told where it listens."""
    started = subprocess.Popen(
        [Path(sys.executable).with_name("polygate"), "run", config()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with started:
        yield started
        started.kill()


def test_run_tells_where_it_listens_serves_and_ends_with_a_signal(process):
    lines = [process.stdout.readline() for _ in range(4)]
    assert "polygate listens:\n" == lines[0]
    line = re.search(r"curl -s (\S+)", lines[3])
    assert line is not None
    with urllib.request.urlopen(line[1]) as answer:
        assert b'"hello"' == answer.read()
    process.send_signal(signal.SIGTERM)
    assert OK == process.wait(20)
