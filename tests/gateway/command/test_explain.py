from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.command import OK, USAGE, WRONG

ROOT = Path(__file__).parents[3]


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
