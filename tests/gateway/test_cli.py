from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from gateway import __version__, cli, probe
from gateway.cli import NOT_STARTED, OK, USAGE, WRONG, main

ROOT = Path(__file__).parents[2]
GOOD = """
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {hello: {body: hello}}}}
routes: [{name: hello, when: {rest: [GET /hello, GET /hi], }, to: {backend: stub, call: hello}}]
"""


@pytest.fixture
def config(tmp_path):
    def write(text: str = GOOD) -> str:
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return str(path)

    return write


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


def test_routes_is_a_table(config, capsys):
    assert OK == main(["routes", config()])
    lines = capsys.readouterr().out.splitlines()
    assert ["ROUTE", "CALLS", "TARGET", "FROM"] == lines[0].split()
    assert lines[1].startswith("hello  rest ")


SERVICES = """
contracts: [ROOT/protos/shop.binpb]
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {Get: {echo: true}}}}
services: {shop.v1.Stock: {to: {backend: stub}}}
routes: [{name: stock, when: {rest: "GET /stock/{tea}"}, to: {backend: stub, call: Get}}]
""".replace("ROOT", str(ROOT))


def test_what_is_left_out_of_a_service_is_told_with_where_it_is_written(config, capsys):
    path = config(SERVICES)
    told = "shop.v1.Stock.Get {}GET /stock/{{sku}} (shop/v1/shop.proto): route stock has it on line 6\n"
    assert OK == main(["routes", path])
    assert f"left out: {told.format('rest ')}" in capsys.readouterr().out
    assert OK == main(["explain", "GET /stock/green", "-c", path])
    assert f"left out: {told.format('')}" in capsys.readouterr().out
    assert OK == main(["check", path])
    assert "all fits; 1 call of services left out (`polygate routes` says why)\n" in capsys.readouterr().out


def test_explain_tells_the_annotation_that_a_call_comes_from(config, capsys):
    path = config(SERVICES.replace("routes:", "routes: [] #"))
    assert OK == main(["explain", "GET /stock/green", "-c", path])
    said = capsys.readouterr().out
    assert said.startswith(f"route shop.v1.Stock.Get  ({path}:5, rest GET /stock/{{sku}})\n  from shop/v1/shop.proto\n")


def test_routes_has_the_same_for_programs(config, capsys):
    assert OK == main(["routes", "--json", config()])
    assert ["hello"] == [row["route"] for row in json.loads(capsys.readouterr().out)["routes"]]


def test_routes_gives_each_call_a_line_with_the_protocols_that_carry_it(capsys):
    assert OK == main(["routes", str(ROOT / "config/gateway.yaml")])
    shown = capsys.readouterr().out
    assert " grpc, grpc_web, connect shop.v1.Orders/Place " in shown
    assert " websocket /orders " in shown


def test_explain_says_which_route_takes_a_call(config, capsys):
    assert OK == main(["explain", "GET /hello", "-c", config()])
    assert capsys.readouterr().out.startswith("route hello ")


def test_explain_of_a_call_without_a_route_fails(config, capsys):
    assert WRONG == main(["explain", "--json", "GET /nothing", "-c", config()])
    assert json.loads(capsys.readouterr().out)["route"] is None


@pytest.mark.parametrize("call", ["", "GET", "nothing-such"])
def test_explain_of_what_is_no_call_says_how_one_is_written(config, capsys, call):
    assert USAGE == main(["explain", call, "-c", config()])
    assert 'is no call: write "GET /path", package.Service/Method, /path or "topic NAME"' in capsys.readouterr().err


def test_explain_takes_headers_and_a_reply(config, capsys):
    assert OK == main(["explain", "GET /hello", "-c", config(), "-H", "X-A: b", "--reply", '{"a": 1}'])
    assert '  {"a": 1}\n' in capsys.readouterr().out
    assert USAGE == main(["explain", "GET /hello", "-c", config(), "-H", "nothing"])
    assert "'nothing' is no header: write NAME: VALUE" in capsys.readouterr().err
    assert USAGE == main(["explain", "GET /hello", "-c", config(), "--reply", "@nothing"])
    assert "nothing cannot be read" in capsys.readouterr().err


def test_schema_is_json(capsys):
    assert OK == main(["schema"])
    assert "$defs" in json.loads(capsys.readouterr().out)


def test_init_writes_a_starter_that_fits_and_never_over_a_file(tmp_path, capsys):
    path = tmp_path / "first.yaml"
    assert OK == main(["init", str(path)])
    assert OK == main(["check", str(path)])
    before = path.read_text()
    assert WRONG == main(["init", str(path)])
    assert before == path.read_text()
    assert WRONG == main(["init", str(tmp_path / "no/such/folder.yaml")])
    _, err = capsys.readouterr()
    assert "is there already; name another file" in err
    assert "No such file or directory" in err


def test_the_starter_needs_no_extra():
    code = (
        "import sys\nfrom gateway.cli import main\nmain(['check', 'gateway/starter.yaml'])\n"
        "print(sorted({'grpc', 'aiokafka'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[-1]


def test_version_is_that_of_the_package(capsys):
    assert OK == main(["version"])
    assert f"polygate {__version__}\n" == capsys.readouterr().out
    assert OK == main(["version", "--json"])
    assert {"version": __version__} == json.loads(capsys.readouterr().out)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


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

    monkeypatch.setattr(cli, "_say", gone)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # it is closed by what is tested
    assert OK == main(["routes", config()])


def test_run_says_what_could_not_start(config, capsys, tmp_path):
    path = config(GOOD.replace("backends: {", f'backends: {{log: {{kind: local, path: "{tmp_path}"}}, '))
    assert NOT_STARTED == main(["run", path])
    assert "polygate: " in capsys.readouterr().err


def test_without_uvloop_it_runs_as_well(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert OK == main(["check", "--connect", config()])


@pytest.fixture
def process(config):
    """`polygate run`, once it has told where it listens."""
    started = subprocess.Popen(
        [Path(sys.executable).with_name("polygate"), "run", config()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with started:
        yield started
        started.kill()


def test_run_tells_where_it_listens_serves_and_ends_with_a_signal(process):
    lines = [process.stdout.readline() for _ in range(4)]
    assert "polygate listens:\n" == lines[0]
    line = re.search(r"curl -s (\S+)", lines[3])
    assert line is not None
    with urllib.request.urlopen(line[1]) as answer:
        assert b'"hello"' == answer.read()
    process.send_signal(signal.SIGTERM)
    assert OK == process.wait(20)


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


def test_explain_exits_1_where_the_body_would_be_refused(tmp_path, capsys):
    body = tmp_path / "order.json"
    call = ["explain", "POST /orders/ada", "-c", str(ROOT / "config/gateway.yaml"), "--body", f"@{body}"]
    body.write_text('{"sku": "tea", "quantity": 2}')
    assert OK == main(call)
    assert "orders.placed" in capsys.readouterr().out
    body.write_text('{"sku": "tea", "quantity": "lots"}')
    assert WRONG == main(call)
    assert "which is refused" in capsys.readouterr().out


def test_explain_says_which_file_of_a_body_cannot_be_read(tmp_path, capsys):
    body = tmp_path / "order.json"
    call = ["explain", "POST /orders/ada", "-c", str(ROOT / "config/gateway.yaml"), "--body", f"@{body}"]
    assert USAGE == main(call)
    assert f"polygate explain: {body} cannot be read: no such file or directory\n" == capsys.readouterr().err
    body.write_bytes(b"\xff")
    assert USAGE == main(call)
    assert f"polygate explain: {body} cannot be read: it is not UTF-8\n" == capsys.readouterr().err


def test_openapi_prints_what_the_rest_listeners_serve(capsys):
    words = ["openapi", str(ROOT / "config/gateway.yaml")]
    assert OK == main(words)
    document = json.loads(capsys.readouterr().out)
    assert ("3.1.1", [{"url": "http://127.0.0.1:8080"}]) == (document["openapi"], document["servers"])
    assert OK == main([*words, "--server", "https://api.shop.example"])
    assert [{"url": "https://api.shop.example"}] == json.loads(capsys.readouterr().out)["servers"]


def test_asyncapi_prints_the_websockets_and_the_topics(capsys):
    assert OK == main(["asyncapi", "-c", str(ROOT / "config/gateway.yaml")])
    document = json.loads(capsys.readouterr().out)
    assert "3.0.0" == document["asyncapi"]
    assert {"/orders", "orders.placed"} <= {channel["address"] for channel in document["channels"].values()}
