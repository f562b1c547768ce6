"""What waits in other files when one is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.embedded import Embedded
from gateway.message import Message
from gateway.spool.file import settings
from gateway.spool.older import Older, left, older
from gateway.spool.record import Stored, wrapped
from tests.contract.log import soon
from tests.patience import until


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "spool.db")


async def fill(log, topic, count):
    for number in range(count):
        await log.append(topic, wrapped(Stored("1", "t", None, Message(b"%d" % number))), soon())


async def test_what_waits_elsewhere_is_found_and_nothing_else(path):
    other = path.replace("spool.db", "spool.1.db")
    async with Embedded(settings(path)) as own, Embedded(settings(other)) as one:
        await fill(own, "waiting.b", 1)
        await fill(one, "waiting.b", 3)
        await fill(one, "aside.c", 1)
        found = older(path, path)
    assert [(other, "b")] == [(one.file, one.backend) for one in found]


async def test_it_waits_no_longer_for_what_came_later(path):
    other = path.replace("spool.db", "spool.1.db")
    async with Embedded(settings(other)) as one:
        await one.make_compacted("waiting.b", 0)
        await fill(one, "waiting.b", 2)
        before = older(path, path)
        await fill(one, "waiting.b", 2)
        await one.forget("waiting.b", [0])
        assert before == left(before)
        await one.forget("waiting.b", [1])
        await until(lambda: not left(before))
    Path(other).unlink()  # noqa: ASYNC240  a look at a folder
    assert [] == left(before)


def test_one_that_another_process_is_about_to_make_holds_nothing_yet(path):
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    assert [] == older(path, path.replace("spool.db", "spool.1.db"))


def test_there_may_be_nothing(path):
    assert [] == older(path, path)
    assert [] == left([Older(path, "b", 1, 1)])
