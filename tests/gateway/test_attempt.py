from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.attempt import attempt, banner, parted
from gateway.bind import Address
from gateway.binding import Binding
from gateway.codec import ABSENT, Rule
from gateway.message import Many
from gateway.plan import plan
from gateway.server import Gateway

SHOP = Path("protos/shop.binpb").resolve()
CONFIG = f"""
contracts: ["{SHOP}"]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
  records: {{kind: topic, backend: events, topics: [asked], group: g}}
backends:
  events: {{kind: local, path: ":memory:"}}
  stub: {{kind: stub, answers: {{stock: {{body: {{sku: "{{sku}}"}}}}, echo: {{echo: true}}, hello: {{body: "hello it's me"}}}}}}
routes:
  - name: place-order
    when: {{rest: "POST /orders/{{customer}}"}}
    example: {{customer: "a/d a", sku: it's tea, quantity: 2}}
    to: {{backend: events, publish: orders}}
  - name: change-order
    when: {{rest: "PUT /orders/{{customer}}"}}
    example: {{customer: ada, sku: tea}}
    to: {{backend: events, publish: orders}}
  - name: drop-order
    when: {{rest: "DELETE /orders/{{customer}}"}}
    to: {{backend: stub, call: hello}}
  - name: feed
    when: {{rest: GET /orders}}
    example: {{start: earliest, limit: 1}}
    to: {{backend: events, tail: orders}}
  - name: stock
    when: {{rest: "GET /stock/{{sku}}"}}
    example: {{sku: tea}}
    to: {{backend: stub, call: stock}}
  - name: note
    when: {{rest: POST /notes}}
    to: {{backend: events, publish: notes, format: text}}
  - name: chat
    when: {{websocket: /chat}}
    example: {{text: hello}}
    to: {{backend: stub, call: echo}}
  - name: answer
    when: {{topic: asked}}
    to: {{backend: stub, call: hello}}
"""
EXPECTED = {
    "place-order": '"topic":"orders"',
    "change-order": '"topic":"orders"',
    "drop-order": "hello it's me",
    "feed": '"sku"',
    "stock": '{"sku":"tea"}',
    "note": '"topic":"notes"',
    "chat": '{"text": "hello"}',
}


@pytest.fixture
def planned(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return plan(path, {})


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are for curl")
async def test_every_line_that_is_printed_runs_as_it_stands(planned):
    async with Gateway(planned) as gateway:
        lines = {route.name: attempt(planned, route, gateway.addresses) for route in planned.routes}
        answers = {}
        for name in EXPECTED:
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", lines[name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            answers[name] = out.decode()
    assert EXPECTED == {name: text if (text := EXPECTED[name]) in answers[name] else answers[name] for name in EXPECTED}


async def test_a_route_of_a_topic_has_no_line_but_says_what_it_answers(planned):
    async with Gateway(planned) as gateway:
        text = banner(planned, gateway.addresses)
    assert "(answers topic asked)" in text
    assert "asked\nroutes, and a line to try each:" in text


@pytest.fixture
def one(tmp_path):
    """The line for one route on listeners of our choice."""

    def line(listener: str, when: str, address: Address) -> str:
        path = tmp_path / "gateway.yaml"
        path.write_text(
            f'contracts: ["{SHOP}"]\nlisteners: {{one: {listener}}}\n'
            "backends: {stub: {kind: stub, answers: {a: {echo: true}}}}\n"
            f"routes: [{{name: a, when: {when}, contract: shop.v1.Stock/Get, example: {{sku: tea}}, "
            "to: {backend: stub, call: a}}]\n"
        )
        planned = plan(path, {})
        return attempt(planned, planned.routes[0], {"one": address})

    return line


def test_a_grpc_method_is_tried_with_grpcurl(one):
    line = one('{kind: grpc, bind: "127.0.0.1:0"}', "{grpc: shop.v1.Stock/Get}", Address("127.0.0.1", 5))
    assert """grpcurl -plaintext -d '{"sku": "tea"}' 127.0.0.1:5 shop.v1.Stock/Get""" == line


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "'http://[::1]"), ("127.0.0.2", "127.0.0.2")])
def test_a_wildcard_is_reached_at_this_host(one, host, reached):
    assert reached in one('{kind: rest, bind: "127.0.0.1:0"}', '{rest: "GET /stock/{sku}"}', Address(host, 5))


def test_the_websocket_client_is_called_by_its_path_where_its_name_is_not_found(one, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    line = one('{kind: websocket, bind: "127.0.0.1:0"}', "{websocket: /stock}", Address("127.0.0.1", 5))
    client = line.partition(" | ")[2].partition(" ")[0]
    assert Path(sys.executable).with_name("websockets") == Path.cwd() / client


def test_the_websocket_client_is_called_by_its_name_where_that_is_found(one, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/websockets")
    line = one('{kind: websocket, bind: "127.0.0.1:0"}', "{websocket: /stock}", Address("127.0.0.1", 5))
    assert " | websockets ws://127.0.0.1:5/stock" in line


def _binding(when: str, body: str) -> Binding:
    method, _, pattern = when.partition(" ")
    return Binding("rest", when, method, pattern, Many.NEITHER, False, (), None, (), Rule(body=body))


@pytest.mark.parametrize(
    ("when", "body", "said"),
    [
        ("POST /a", "*", ("/a", [], {"book": {"name": "books/7", "tags": ["x", "y"]}, "new": True})),
        ("PATCH /{book.name=books/*}", "book", ("/books/7", [("new", "true")], {"tags": ["x", "y"]})),
        ("GET /{book.name=books/*}", "", ("/books/7", [("book.tags", "x"), ("book.tags", "y"), ("new", "true")], ABSENT)),
        (
            "PUT /{new}/{other}:go",
            "other",
            ("/true/other:go", [("book.name", "books/7"), ("book.tags", "x"), ("book.tags", "y")], ABSENT),
        ),
    ],
)
def test_a_message_is_parted_as_the_rule_of_its_call_puts_it_together(when, body, said):
    message = {"book": {"name": "books/7", "tags": ["x", "y"]}, "new": True}
    assert said == parted(_binding(when, body), message)
