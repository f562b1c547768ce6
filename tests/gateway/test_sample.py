"""What becomes of a message on its way through a route."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.explain import explain, text
from gateway.message import Headers
from gateway.plan import Plan, plan

CONFIG = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
backends:
  events: {kind: local, path: ":memory:"}
  stub: {kind: stub, answers: {eu: {body: {}}, us: {body: {}}}}
routes:
  - name: order
    when: {rest: "POST /orders/{id}"}
    policies:
      - kind: map
        request: {number: =params.id, lines: {=for line in body.pos: {sku: =line.art}}}
        reply: {no: =body.offset}
    to: {backend: events, publish: orders, key: "{number}"}
  - name: line
    when: {rest: POST /lines}
    policies: [{kind: map, request: [=body.a, =body.b], reply: {ok: true}}]
    to: {backend: events, publish: lines, format: csv}
  - name: note
    when: {rest: POST /notes}
    to: {backend: events, publish: notes, format: form, key: "{who}"}
  - name: eu
    when: {rest: GET /price}
    if: headers["x-region"] == "eu"
    to: {backend: stub, call: eu}
  - name: us
    when: {rest: GET /price}
    to: {backend: stub, call: us}
"""


@pytest.fixture
def shaped(tmp_path: Path) -> Plan:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    return plan(tmp_path / "gateway.yaml")


def test_a_message_is_shown_as_it_leaves_for_the_target(shaped):
    told = explain(shaped, "POST /orders/7", '{"pos": [{"art": "tea"}]}')
    assert {"number": "7", "lines": [{"sku": "tea"}]} == json.loads(told["record"]["body"])
    assert ("orders", "7") == (told["record"]["topic"], told["record"]["key"])
    assert "1,b" == explain(shaped, "POST /lines", '{"a": 1, "b": "b"}')["record"]["body"]
    assert "who=ada&n=1" == explain(shaped, "POST /notes", '{"who": "ada", "n": 1}')["record"]["body"]


def test_where_it_cannot_be_shaped_the_place_in_the_tree_is_told(shaped):
    told = explain(shaped, "POST /orders/7", '{"pos": [{}]}')
    assert ["lines.=for line in body.pos.sku"] == told["refused"]["places"]
    assert "  at lines.=for line in body.pos.sku\n" in text(told)


def test_a_message_that_does_not_fill_the_key_is_refused(shaped):
    assert "the message has no field who" == explain(shaped, "POST /notes", '{"n": 1}')["refused"]["detail"]


def test_a_reply_is_shown_as_the_caller_gets_it(shaped):
    told = explain(shaped, "POST /orders/7", '{"pos": []}', reply='{"offset": 5}')
    assert ['{"no":5}'] == told["replies"]
    assert 'answered\n  {"offset": 5}\nwhich the caller gets as\n  {"no":5}\n' in text(told)


def test_one_that_cannot_be_shaped_is_told_too(shaped):
    told = explain(shaped, "POST /orders/7", '{"pos": []}', reply="{}")
    assert ("bad_answer", ["no"]) == (told["failed"]["reason"], told["failed"]["places"])
    assert "which fails\n" in text(told)


def test_what_opens_messages_stands_between_two_translations(shaped):
    outer, opening, inner = explain(shaped, "POST /lines")["pipeline"][-3:]
    assert "translate: the caller's format to json and back" == outer
    assert opening.startswith("map: request ['=body.a', '=body.b']")
    assert "translate: json to csv and back" == inner


def test_headers_decide_where_a_condition_asks_for_them(shaped):
    assert "us" == explain(shaped, "GET /price")["route"]
    assert "eu" == explain(shaped, "GET /price", headers=Headers((("x-region", "eu"),)))["route"]
