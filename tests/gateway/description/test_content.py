"""Receipts, events and bodies: what is described is what is sent."""

from __future__ import annotations

import json

import jsonschema_rs
import yaml

from gateway.description import content
from gateway.message import BYTES, JSON, TEXT, Message
from gateway.plan import plan
from gateway.schema import Schemas
from gateway.topic.event import plain
from gateway.topic.log import Place
from gateway.topic.write import Receipt
from tests.gateway.description.planned import planned
from tests.spec.talk import DESCRIPTORS, config


def test_a_receipt_is_as_described():
    jsonschema_rs.validator_for(content.receipt()).validate(json.loads(Receipt(Place("orders", 0, 7, 1_700_000_000_000)).body()))


def test_an_event_is_as_described_whatever_it_holds():
    validator = jsonschema_rs.validator_for(content.event())
    for body, kind, key in ((b"{}", JSON, b"k"), (b"\xff", BYTES, b"\xff"), (b"x", TEXT, None)):
        validator.validate(plain(Message(body, kind, key, cursor="0:1", timestamp=5)))


def route(tmp_path, text):
    plan = planned(tmp_path, f"\n  - {text}\n")
    return plan, plan.routes[0], plan.routes[0].bindings[0]


def test_a_body_is_needed_where_something_in_it_is(tmp_path):
    schemas = Schemas()
    text = '{name: a, contract: shop.v1.Stock/Get, when: {rest: "POST /a"}, to: {backend: stub, call: echo}}'
    plan, one, binding = route(tmp_path, text)
    assert content.request(plan, schemas, one, binding)["required"]
    plan, one, binding = route(tmp_path, text.replace("/a", "/a/{sku}"))
    assert not content.request(plan, schemas, one, binding)["required"]


def test_a_call_without_a_body_has_none(tmp_path):
    plan, one, binding = route(tmp_path, '{name: a, when: {rest: "GET /a"}, to: {backend: stub, call: echo}}')
    assert content.request(plan, Schemas(), one, binding) is None


def test_bytes_are_of_any_type(tmp_path):
    plan, one, binding = route(tmp_path, '{name: a, when: {rest: "POST /a"}, to: {backend: erp, call: POST /a, format: bytes}}')
    assert {content.ANYTHING} == set(content.request(plan, Schemas(), one, binding)["content"])
    assert {content.ANYTHING} == set(content.reply(plan, Schemas(), one, binding))


def test_a_body_of_many_messages_is_an_array_or_lines(tmp_path):
    text = '{name: chat, contract: shop.v1.Chat/Talk, when: {rest: "POST /chat"}, to: {backend: stub, call: echo}}'
    plan, one, binding = route(tmp_path, text)
    found = content.request(plan, Schemas(), one, binding)["content"]
    assert {"application/json", "application/x-ndjson"} == set(found)
    assert "array" == found["application/json"]["schema"]["anyOf"][0]["type"]


def test_a_stream_of_httpbody_is_bytes_of_any_type(tmp_path):
    (tmp_path / "talk.binpb").write_bytes(DESCRIPTORS)
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(config("127.0.0.1:1")))
    made = plan(file, {})
    [(route, binding)] = [
        (route, binding) for route in made.routes for binding in route.bindings if binding.when == "GET /download/{text}"
    ]
    assert ["*/*"] == list(content.reply(made, Schemas(), route, binding))
