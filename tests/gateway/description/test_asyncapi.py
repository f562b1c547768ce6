"""WebSockets and topics, held against the official schema of AsyncAPI 3.0."""

from __future__ import annotations

import gzip
import json

import jsonschema_rs
import pytest

from gateway.description import NOT_YET, sockets
from gateway.description.asyncapi import asyncapi
from gateway.plan import plan
from tests.gateway.description.planned import planned, references, resolved
from tests.system.process import ROOT

OFFICIAL = jsonschema_rs.validator_for(json.loads(gzip.decompress((ROOT / "tests/asyncapi/3.0.0.json.gz").read_bytes())))
CONFIGS = [
    ROOT / "config/gateway.yaml",
    ROOT / "config/examples/kafka.yaml",
    ROOT / "config/examples/delivery.yaml",
    ROOT / "tests/system/described/gateway.yaml",
]


def described(tmp_path, routes, **more):
    wanted = planned(tmp_path, routes, **more)
    document = asyncapi(wanted, sockets(wanted, NOT_YET))
    OFFICIAL.validate(document)
    return document


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.parent.name)
def test_what_comes_with_the_gateway_is_valid(config):
    wanted = plan(config, {"POLYGATE_VAR": "var", "KAFKA_BOOTSTRAP": "one:9092,two:9092"})
    document = asyncapi(wanted, sockets(wanted, NOT_YET))
    OFFICIAL.validate(document)
    for reference in references(document):
        assert resolved(reference, document) is not None


def test_a_message_that_is_answered_by_one_is_received_and_replied_to(tmp_path):
    to = "{backend: events, publish: o}"
    route = f'{{name: place, contract: shop.v1.Orders/Place, when: {{websocket: "/o/{{customer}}"}}, to: {to}}}'
    document = described(tmp_path, f"\n  - {route}\n")
    receive = document["operations"]["place.receive"]
    assert "receive" == receive["action"]
    assert "/o/{customer}" == document["channels"]["place"]["address"]
    assert ["customer"] == list(document["channels"]["place"]["parameters"])
    assert {"$ref": "#/channels/place/messages/reply"} in receive["reply"]["messages"]
    assert "place.send" not in document["operations"]


def test_a_tail_sends_events_and_says_what_its_url_may_ask(tmp_path):
    document = described(tmp_path, "\n  - {name: feed, when: {websocket: /feed}, to: {backend: events, tail: o}}\n")
    assert "send" == document["operations"]["feed.send"]["action"]
    query = document["channels"]["feed"]["bindings"]["ws"]["query"]
    assert {"start", "limit", "credit"} == set(query["properties"])
    assert {"$ref": "#/components/schemas/Event"} == document["channels"]["feed"]["messages"]["reply"]["payload"]


def test_a_conversation_both_receives_and_sends(tmp_path):
    route = "\n  - {name: chat, contract: shop.v1.Chat/Talk, when: {websocket: /chat}, to: {backend: stub, call: echo}}\n"
    operations = described(tmp_path, route)["operations"]
    assert {"chat.receive": "receive", "chat.send": "send"} == {name: one["action"] for name, one in operations.items()}


def test_a_question_names_the_topic_of_its_reply(tmp_path):
    to = "{backend: events, ask: asked, reply_to: told}"
    route = f"{{name: quote, contract: shop.v1.Quotes/Ask, when: {{websocket: /q}}, to: {to}}}"
    document = described(tmp_path, f"\n  - {route}\n")
    write = document["operations"]["quote.write"]
    assert ("send", {"$ref": "#/channels/events.asked"}) == (write["action"], write["channel"])
    assert {"$ref": "#/channels/events.told"} == write["reply"]["channel"]


def test_a_consumed_topic_is_received_and_replied_to_where_the_record_says(tmp_path):
    questions = "  questions: {kind: topic, backend: events, topics: [asked], group: g}\n"
    route = "\n  - {name: answer, contract: shop.v1.Quotes/Ask, when: {topic: asked}, to: {backend: stub, call: echo}}\n"
    receive = described(tmp_path, route, listeners=questions)["operations"]["answer.receive"]
    assert {"$ref": "#/channels/events.asked"} == receive["channel"]
    assert receive["reply"]["address"]["location"].startswith("$message.header#/")


def test_a_topic_of_variables_has_them_as_parameters(tmp_path):
    route = '{name: o, when: {rest: "POST /o/{region}"}, to: {backend: events, publish: "o.{region}"}}'
    document = described(tmp_path, f"\n  - {route}\n")
    (channel,) = document["channels"].values()
    assert ("o.{region}", ["region"]) == (channel["address"], list(channel["parameters"]))


def test_a_listener_on_every_address_is_told_as_this_machine(tmp_path):
    document = described(tmp_path, "\n  - {name: a, when: {websocket: /a}, to: {backend: stub, call: echo}}\n")
    assert {"host": "localhost:8081", "protocol": "ws"}.items() <= document["servers"]["live"].items()


def test_a_broker_is_a_server_with_its_hosts(tmp_path):
    more = "  log: {kind: kafka, bootstrap: [one:9092, two:9092]}\n"
    document = described(tmp_path, "\n  - {name: o, when: {rest: POST /o}, to: {backend: log, publish: o}}\n", backends=more)
    assert {"host": "one:9092,two:9092", "protocol": "kafka"} == document["servers"]["log"]


def test_paths_and_operations_of_one_route_have_names_of_their_own(tmp_path):
    routes = "\n  - {name: a, when: {websocket: [/a, /b]}, to: {backend: stub, call: echo}}\n"
    assert {"a", "a-2"} == set(described(tmp_path, routes)["channels"])
