"""`polygate spool`."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.cli import main
from gateway.command import OK, USAGE, WRONG
from gateway.file import SpoolConfig
from gateway.message import Headers, Message
from gateway.spool import Spools, archive, forward
from tests.contract.log import soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until

SPOOL = "spool: {{path: '{path}'}}\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(forward, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setattr("gateway.spool.LEAVE_S", 0.05)


@pytest.fixture
def path(tmp_path):
    """A spool in which one record waits and two were set aside."""
    path = str(tmp_path / "spool.db")

    async def fill():
        away = FakeLog({})
        away.broken = unreachable()
        async with Spools(SpoolConfig(path=path), {"here": FakeLog({}), "away": away}) as spools:
            headers = Headers((("a", "1"),))
            await spools.of("away").put("t", Message(b'{"n": 1}', key=b"k", headers=headers), soon(), partition=2)
            for body in (b"\xff", b"text"):  # of one key, so that they are set aside in this order
                await spools.of("here").put("t", Message(body, key=b"k"), soon())
            await until(lambda: len(list(archive.entries(path, "aside"))) == 2)
            await until(lambda: len(list(archive.entries(path))) == 3)

    asyncio.run(fill())
    return path


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_list_tells_how_much_waits_and_what_was_set_aside(path, capsys):
    assert OK == main(["spool", "list", "--path", path])
    head, away, here, *aside = capsys.readouterr().out.splitlines()
    assert ["BACKEND", "STATE", "RECORDS", "BYTES", "OLDEST", "FILE"] == head.split()
    assert {("away", "waiting", "1"), ("here", "aside", "2")} == {tuple(line.split()[:3]) for line in (away, here)}
    assert [": there is no such topic"] * 2 == [line[-len(": there is no such topic") :] for line in aside]


def test_list_has_the_same_for_programs(path, capsys):
    assert OK == main(["spool", "list", "--json", "--path", path])
    told = json.loads(capsys.readouterr().out)
    assert {("away", "waiting", 1), ("here", "aside", 2)} == {
        (one["backend"], one["state"], one["records"]) for one in told["held"]
    }
    assert ["there is no such topic"] * 2 == [one["why"] for one in told["aside"]]


def test_the_config_says_where_the_spool_is(path, config, capsys):
    file = config(SPOOL.format(path=path) + "listeners: {a: {kind: admin, bind: '127.0.0.1:0'}}\n")
    assert OK == main(["spool", "list", "-c", file])
    assert "here" in capsys.readouterr().out


def test_list_may_be_of_one_backend(path, capsys):
    assert OK == main(["spool", "list", "--path", path, "--backend", "away"])
    assert ["BACKEND", "away"] == [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_list_says_how_much_it_does_not_show(path, capsys, monkeypatch):
    monkeypatch.setattr("gateway.command.spool.SHOWN", 1)
    assert OK == main(["spool", "list", "--path", path])
    *_, shown, more = capsys.readouterr().out.splitlines()
    assert "there is no such topic" in shown
    assert "aside: 1 more, all of which `polygate spool export --state aside` prints" == more


def test_an_empty_spool_says_so(path, capsys):
    assert OK == main(["spool", "list", "--path", path, "--backend", "unknown"])
    assert "nothing waits, nothing was set aside" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("list",), ("export",), ("drop", "--all"), ("replay", "--all")])
def test_where_there_is_no_spool_nothing_is_said_of_one(tmp_path, capsys, words):
    assert WRONG == main(["spool", *words, "--path", str(tmp_path / "none.db")])
    assert ("", f"polygate spool: there is no spool at {tmp_path}/none.db\n") == capsys.readouterr()


def test_export_has_a_line_for_each_record_with_its_body_as_an_event_has_it(path, capsys):
    assert OK == main(["spool", "export", "--path", path])
    told = lines(capsys)
    (waiting,) = (one for one in told if one["state"] == "waiting")
    assert {"backend": "away", "topic": "t", "partition": 2, "key": "k", "headers": {"a": ["1"]}, "body": {"n": 1}} == {
        name: waiting[name] for name in ("backend", "topic", "partition", "key", "headers", "body")
    }
    assert [("/w==", "base64"), ("text", None)] == [(one["body"], one.get("encoding")) for one in told if one["state"] == "aside"]


@pytest.mark.parametrize(("words", "count"), [(["--state", "aside"], 2), (["--backend", "away"], 1), (["--backend", "no"], 0)])
def test_export_may_be_of_some(path, capsys, words, count):
    assert OK == main(["spool", "export", "--path", path, *words])
    assert count == len(lines(capsys))


def test_drop_lets_go_of_what_is_named_and_nothing_else(path, capsys):
    first = next(archive.entries(path, "aside")).record.id
    assert OK == main(["spool", "drop", "--path", path, first])
    said = capsys.readouterr().out
    assert "1 record dropped" in said
    assert [b"text"] == [entry.record.message.body for entry in archive.entries(path, "aside")]
    assert WRONG == main(["spool", "drop", "--path", path, first])
    assert "1 of these ids are not among what was set aside" in capsys.readouterr().err


def test_replay_lets_records_wait_again(path, capsys):
    assert OK == main(["spool", "replay", "--path", path, "--all"])
    said = capsys.readouterr().out
    assert "2 records replayed" in said
    assert {"waiting"} == {entry.state for entry in archive.entries(path)}
    assert 3 == len(list(archive.entries(path)))


@pytest.mark.parametrize("words", [["drop"], ["replay"], ["drop", "--all", "1"]])
def test_what_is_to_go_is_named_or_all_of_it(path, capsys, words):
    assert USAGE == main(["spool", *words[:1], "--path", path, *words[1:]])
    assert "name the ids of records, or say --all" in capsys.readouterr().err


def test_a_file_that_is_no_spool_says_so(tmp_path, capsys):
    (tmp_path / "spool.db").write_text("this is no database, and long enough to be seen as none" * 100)
    assert WRONG == main(["spool", "list", "--path", str(tmp_path / "spool.db")])
    assert "the spool cannot be used" in capsys.readouterr().err
