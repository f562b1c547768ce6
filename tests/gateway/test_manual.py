from __future__ import annotations

import re
import shlex

import pytest

from gateway.cli import parser
from gateway.manual import EPILOG, EXAMPLES

# A command ends where the shell goes on, or where two spaces lead to what it does.
LINES = [
    re.split(r" {2,}| [|>&]+ ", line[len("polygate ") :])[0]
    for text in (EPILOG, *EXAMPLES.values())
    for line in re.findall(r"polygate .*", text)
    if re.search(r"^ .*polygate ", text, re.MULTILINE)
]


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("-")])
def test_every_example_is_a_command_line(line):
    assert callable(parser().parse_args(shlex.split(line)).action)


def test_every_command_has_examples():
    assert {"run", "check", "explain", "routes", "spool", "openapi", "asyncapi", "schema", "init", "version"} == EXAMPLES.keys()
