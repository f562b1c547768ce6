"""How the file of a log is opened."""

from __future__ import annotations

import pytest

from gateway.embedded.fault import StoreError
from gateway.embedded.schema import connected, prepared


@pytest.fixture
def db(tmp_path):
    db = connected(str(tmp_path / "log.db"))
    yield db
    db.close()


def test_a_new_file_is_made_and_an_old_one_taken(db):
    prepared(db)
    prepared(db)
    assert [] == db.execute("SELECT * FROM record").fetchall()


def test_a_database_of_something_else_is_refused(db):
    db.execute("CREATE TABLE other (a)")
    with pytest.raises(StoreError, match="something else"):
        prepared(db)


def test_a_file_of_a_newer_gateway_is_refused(db):
    db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="written by a newer one"):
        prepared(db)
