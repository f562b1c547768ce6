from __future__ import annotations

import json
from pathlib import Path

from gateway.cli import main
from gateway.command import OK

ROOT = Path(__file__).parents[3]


def test_schema_is_json(capsys):
    assert OK == main(["schema"])
    assert "$defs" in json.loads(capsys.readouterr().out)


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
