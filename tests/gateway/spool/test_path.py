"""The files of a spool."""

from __future__ import annotations

from itertools import islice

import pytest

from gateway.embedded.lock import InUseError
from gateway.errors import BackendError, Reason
from gateway.spool.path import MOST, existing, first_free, is_of, names


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


@pytest.mark.parametrize(
    ("file", "is_one"), [("spool.db", True), ("spool.7.db", True), ("../spool.db", False), ("spoo.db", False)]
)
def test_a_file_is_known_for_one_of_a_spool(tmp_path, file, is_one):
    assert is_one == is_of(str(tmp_path / "spool.db"), str(tmp_path / file))
    assert is_one == is_of(str(tmp_path / "deep" / ".." / "spool.db"), str(tmp_path / file))


async def test_the_first_that_no_process_has_is_opened(tmp_path):
    tried = []

    async def opened(name):
        tried.append(name)
        if len(tried) < 3:
            raise BackendError(Reason.REFUSED, "in use") from InUseError("in use")
        return name

    path = str(tmp_path / "spool.db")
    assert str(tmp_path / "spool.2.db") == await first_free(path, opened)


@pytest.mark.parametrize(("cause", "told"), [(InUseError(""), "in use by other processes"), (OSError(), "denied")])
async def test_where_none_can_be_opened_that_is_said(tmp_path, cause, told):
    async def opened(_name):
        raise BackendError(Reason.REFUSED, "denied") from cause

    with pytest.raises(BackendError, match=told):
        await first_free(str(tmp_path / "spool.db"), opened)
