"""Who may open a file."""

from __future__ import annotations

import os

import pytest

from gateway.embedded.lock import InUseError, LockError, locked


def test_a_second_one_is_told_who_has_it(tmp_path):
    path = str(tmp_path / "new" / "log.db")
    with locked(path), pytest.raises(InUseError, match=f"in use by process {os.getpid()}"):
        locked(path)


def test_a_path_is_free_again_once_its_lock_is_closed(tmp_path):
    path = str(tmp_path / "log.db")
    for _ in range(2):
        locked(path).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="cannot be opened"):
        locked(str(tmp_path / "file" / "log.db"))
