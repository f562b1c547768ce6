from __future__ import annotations

import json

from gateway import probe
from gateway.cli import main
from gateway.command import OK, WRONG
from tests.gateway.good import GOOD


def test_check_says_that_all_fits(config, capsys):
    assert OK == main(["check", config()])
    assert capsys.readouterr().out.endswith("gateway.yaml: 1 route, 1 listener: all fits\n")


def test_check_tells_every_problem_on_stderr(config, capsys):
    path = config("listeners: {a: {kind: rst}}\nbackends: {b: {kind: stb}}\n")
    assert WRONG == main(["check", path])
    out, err = capsys.readouterr()
    assert "" == out
    assert [
        f"""{path}:1 listeners.a.kind: there is no kind 'rst'; did you mean "rest"?""",
        f"""{path}:2 backends.b.kind: there is no kind 'stb'; did you mean "stub"?""",
        "polygate: 2 problems; nothing was started",
    ] == err.splitlines()


def test_check_tells_programs_the_same(config, capsys):
    path = config("listeners: {a: {kind: rst}}\n")
    assert WRONG == main(["check", "--json", path])
    text = """there is no kind 'rst'; did you mean "rest"?"""
    assert {"ok": False, "problems": [{"file": path, "line": 1, "path": "listeners.a.kind", "text": text}]} == json.loads(
        capsys.readouterr().out
    )


def test_check_connect_asks_the_backends(config, capsys):
    assert OK == main(["check", "--connect", config()])
    assert "all fits, 1 backend answered\n" in capsys.readouterr().out


def test_check_connect_says_which_backend_is_not_there(config, capsys, monkeypatch):
    monkeypatch.setattr(probe, "ASK_S", 0.3)
    path = config(GOOD.replace("backends: {", 'backends: {away: {kind: http, url: "http://127.0.0.1:1"}, '))
    assert WRONG == main(["check", "--connect", "--json", path])
    out, err = capsys.readouterr()
    assert "ready" == json.loads(out)["backends"]["stub"]
    assert f"{path} backends.away: " in err


def test_check_connect_says_what_cannot_even_be_opened(config, capsys, tmp_path):
    path = config(GOOD.replace("backends: {", f'backends: {{log: {{kind: local, path: "{tmp_path}"}}, '))
    assert WRONG == main(["check", "--connect", path])
    assert "backends.log: " in capsys.readouterr().err
