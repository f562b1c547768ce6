from __future__ import annotations

import json
from pathlib import Path

from gateway.cli import main
from gateway.command import OK

ROOT = Path(__file__).parents[3]


def test_routes_is_a_table(config, capsys):
    assert OK == main(["routes", config()])
    lines = capsys.readouterr().out.splitlines()
    assert ["ROUTE", "CALLS", "TARGET", "FROM"] == lines[0].split()
    assert lines[1].startswith("hello  rest ")


def test_routes_has_the_same_for_programs(config, capsys):
    assert OK == main(["routes", "--json", config()])
    assert ["hello"] == [row["route"] for row in json.loads(capsys.readouterr().out)["routes"]]


def test_routes_gives_each_call_a_line_with_the_protocols_that_carry_it(capsys):
    assert OK == main(["routes", str(ROOT / "config/gateway.yaml")])
    shown = capsys.readouterr().out
    assert " grpc, grpc_web, connect shop.v1.Orders/Place " in shown
    assert " websocket /orders " in shown
