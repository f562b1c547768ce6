"""Every promise of docs/delivery.md names a test that there is."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "delivery.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| `(tests/[^`]+)` \|$", TEXT.partition("## Every promise and its test")[2], re.MULTILINE)


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_are_promises():
    lines = TEXT.partition("## Every promise and its test")[2].count("\n| ")
    assert len(ROWS) == lines - 2
    assert len(ROWS) > 30


@pytest.mark.parametrize(("promise", "named"), ROWS, ids=[promise for promise, _ in ROWS])
def test_its_test_is_there(promise, named):
    path, _, name = named.partition("::")
    assert name in names_in(path), promise
