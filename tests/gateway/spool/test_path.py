"""The files of a spool."""

from __future__ import annotations

from itertools import islice

from gateway.spool.path import MOST, existing, names


def test_the_names_are_numbered_before_the_suffix():
    assert ["var/spool.db", "var/spool.1.db", "var/spool.2.db"] == list(islice(names("var/spool.db"), 3))
    assert ["spool", "spool.1"] == list(islice(names("spool"), 2))


def test_there_is_an_end_of_names():
    assert MOST == len(list(names("spool.db")))


def test_what_is_there_is_found_in_order_and_nothing_else(tmp_path):
    for name in (
        "spool.db",
        "spool.10.db",
        "spool.2.db",
        "spool.db.lock",
        "spool.db-wal",
        "spool.x.db",
        "other.db",
        "spool.02.db",
    ):
        (tmp_path / name).touch()
    path = str(tmp_path / "spool.db")
    assert [path, str(tmp_path / "spool.2.db"), str(tmp_path / "spool.10.db")] == existing(path)


def test_nothing_is_there_where_there_is_no_folder(tmp_path):
    assert [] == existing(str(tmp_path / "none" / "spool.db"))
