from __future__ import annotations

import io
import sys

import pytest

from gateway.cli import main
from gateway.command import OK, USAGE, WRONG, routes


@pytest.mark.parametrize("words", [[], ["nothing"], ["check", "--nothing"], ["explain"]])
def test_a_wrong_command_line_says_so(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert USAGE == caught.value.code
    assert "usage: polygate" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "explain", "routes", "schema", "init", "version"])
def test_the_help_of_every_command_shows_how_it_is_used(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert OK == caught.value.code
    assert f"examples:\n  polygate {command}" in capsys.readouterr().out


def test_help_tells_the_exit_codes_and_the_first_steps(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "exit codes: 0 all is well; 1 the config is wrong" in out
    assert "polygate init gateway.yaml" in out


def test_a_pager_that_has_read_enough_is_no_error(config, monkeypatch):
    def gone(_text):
        raise BrokenPipeError

    monkeypatch.setattr(routes, "say", gone)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # it is closed by what is tested
    assert OK == main(["routes", config()])


@pytest.mark.parametrize("command", ["check", "routes"])
def test_the_config_is_named_with_c_or_without(config, capsys, command):
    path = config()
    told = set()
    for arguments in ([path], ["-c", path], ["--config", path]):
        assert OK == main([command, *arguments])
        told.add(capsys.readouterr().out)
    assert 1 == len(told)


def test_several_configs_are_one(config, capsys, tmp_path):
    path = config()
    more = tmp_path / "more.yaml"
    more.write_text("routes: [{name: more, when: {rest: GET /more}, to: {backend: nowhere, call: a}}]\n")
    for command in ("check", "routes", "openapi", "asyncapi", "run"):
        assert WRONG == main([command, path, "-c", str(more)])
        assert f"{more}:1 routes[0].to.backend: there is no backend 'nowhere'" in capsys.readouterr().err
    assert WRONG == main(["explain", "-c", path, "-c", str(more), "GET /more"])
