from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gateway.cli import main
from gateway.command import OK, WRONG
from gateway.probe import AskingError, drift

CONFIG = """
contracts: [shop.proto]
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {stub: {kind: stub, answers: {hello: {body: hello}}}}
routes: [{name: hello, when: {rest: GET /hello}, to: {backend: stub, call: hello}}]
"""
PROTO = 'syntax = "proto3"; package shop; message Tea { string name = 1; }'


@contextmanager
def answering(status: int, body: bytes, headers=()):
    """A server that answers whatever is asked, and its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def telling(digests):
    return answering(200, json.dumps({"contracts": digests}).encode())


def test_what_a_gateway_has_otherwise_is_told_file_by_file():
    with telling({"same": "1", "changed": "1", "gone": "1"}) as url:
        assert [
            "changed has changed since the gateway has loaded its contracts",
            "gone is gone since the gateway has loaded its contracts",
            "new is new since the gateway has loaded its contracts",
        ] == list(drift(url, {"same": "1", "changed": "2", "new": "1"}))


def test_a_gateway_that_has_the_same_has_nothing_to_tell():
    with telling({"same": "1"}) as url:
        assert [] == list(drift(url, {"same": "1"}))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"contracts": []}', b"\xff"])
def test_what_is_no_admin_listener_is_told(body):
    with answering(200, body) as url, pytest.raises(AskingError, match="is that an admin listener"):
        list(drift(url, {}))


def test_nobody_is_followed_elsewhere():
    with (
        telling({}) as other,
        answering(302, b"", [("Location", f"{other}contracts")]) as url,
        pytest.raises(AskingError, match="cannot be asked"),
    ):
        list(drift(url, {}))


@pytest.mark.parametrize("url", ["127.0.0.1:9900", "file:///etc/passwd", "ftp://a"])
def test_an_address_is_one_of_http(url):
    with pytest.raises(AskingError, match="as in http://127"):
        list(drift(url, {}))


def test_check_fails_once_a_contract_has_changed_under_a_running_gateway(tmp_path, capsys):
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    proto = tmp_path / "shop.proto"
    proto.write_text(PROTO)
    with telling({"shop.proto": "0000000000000000"}) as url:
        assert WRONG == main(["check", str(file), "--running", url])
        assert "shop.proto has changed since" in capsys.readouterr().err
        assert WRONG == main(["check", str(file), "--json", "--running", url])
        told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert ["shop.proto has changed since the gateway has loaded its contracts"] == told["drift"]


def test_check_says_so_where_nobody_runs_there(tmp_path, capsys):
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.replace("contracts: [shop.proto]", ""))
    assert WRONG == main(["check", str(file), "--running", "http://127.0.0.1:1"])
    assert "cannot be asked" in capsys.readouterr().err
    assert OK == main(["check", str(file)])
