"""The tests mirror the source: where a module's promises are proved is never a question."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = {
    path.relative_to(ROOT / "tests") for part in ("gateway", "adapters") for path in (ROOT / "tests" / part).rglob("test_*.py")
}
CORE = [path.relative_to(ROOT) for path in (ROOT / "gateway").rglob("*.py") if path.stem != "__init__"]
KINDS = [
    path.relative_to(ROOT)
    for group in ("ingress", "backend", "codec")
    for path in (ROOT / "adapters" / group).iterdir()
    if path.stem not in {"__init__", "__pycache__"}
]


@pytest.mark.parametrize("source", CORE, ids=str)
def test_a_module_of_the_core_has_its_test_file(source):
    assert source.parent / f"test_{source.name}" in TESTS


@pytest.mark.parametrize("source", KINDS, ids=str)
def test_a_kind_has_its_test_file_or_folder(source):
    # A kind of several files is proved as a whole, by what it promises; its folder holds what needs a closer look.
    beside = source.parent / f"test_{source.stem}.py"
    assert beside in TESTS or any(test.is_relative_to(source.parent / source.stem) for test in TESTS)


@pytest.mark.parametrize("test", sorted(TESTS), ids=str)
def test_a_test_file_belongs_to_a_source_file(test):
    name = test.stem.removeprefix("test_")
    folder = ROOT / test.parent
    assert folder.is_dir()
    # A package is proved as a whole too: by a contract suite, or by raw bytes sent to it.
    owners = {path.stem for path in folder.iterdir()} | {folder.name, "contract", "hostile", "frames"}
    assert name in owners or any(name.startswith(f"{owner}_") for owner in owners)
