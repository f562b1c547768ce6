"""What a reload changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.change import change, missing, said
from gateway.part import Part


class Keys(Part):
    key: Path
    more: Mapping[str, Path]


class Listener(Part):
    tls: Keys | None = None
    others: tuple[Path, ...] = ()


def test_parts_are_told_by_what_becomes_of_them():
    found = change({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert {"added": ("d",), "changed": ("c",), "removed": ("a",), "unchanged": ("b",)} == found.told()
    assert "1 added, 1 changed, 1 removed, 1 unchanged" == str(found)
    assert found
    assert not change({"a": 1}, {"a": 1})
    assert [1, 3] == missing({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4})


def test_a_part_says_something_else_once_a_file_that_it_names_is_another(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("one")
    part = Listener(tls=Keys(key=tmp_path / "a", more={"x": tmp_path / "b"}), others=(tmp_path / "c", tmp_path / "gone"))
    before = said(part)
    assert before == said(part.model_copy())
    for name in ("a", "b", "c", "gone"):
        (tmp_path / name).write_text("two")
        assert before != said(part)
        before = said(part)
