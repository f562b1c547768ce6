"""What AsyncAPI tells of the frames of a WebSocket, held against its official schema by `described`."""

from __future__ import annotations

import jsonschema_rs
import pytest

from tests.gateway.description.planned import resolved
from tests.gateway.description.test_asyncapi import described

KEPT = "state: {{path: {0}/state.db}}\nspool: {{path: {0}/spool}}\n"


def channel(folder, to, when='"/here"', others=""):
    """The channel of a route, the names of its messages by who sends them, and what their payloads may be."""
    routes = f"\n  - {{name: one, when: {{websocket: {when}}}, to: {{backend: events, {to}}}}}\n{others}"
    document = described(folder, routes, top=KEPT.format(folder))
    found = document["channels"]["one"]
    names = {action: [each["$ref"].rpartition("/")[2] for each in one["messages"]] for action, one in acts(document).items()}
    payloads = {name: validator(one["payload"], document) for name, one in found["messages"].items() if "payload" in one}
    return found, names, payloads


def acts(document):
    return {one["action"]: one for name, one in document["operations"].items() if name in {"one.receive", "one.send"}}


def validator(payload, document):
    payload = resolved(payload["$ref"], document) if "$ref" in payload else payload
    return jsonschema_rs.validator_for({**payload, "components": document["components"]})


def test_a_caller_of_a_tail_gives_credit(tmp_path):
    _, names, payloads = channel(tmp_path, "tail: o")
    assert {"receive": ["follow"], "send": ["reply", "problem"]} == names
    assert payloads["follow"].is_valid({"credit": 10})
    assert not payloads["follow"].is_valid({"ack": "0:1"})


def test_a_subscriber_acknowledges_and_says_who_it_is(tmp_path):
    told, names, payloads = channel(tmp_path, 'tail: o, on_gap: tell, subscribers: {name: "{who}"}')
    assert {"receive": ["follow"], "send": ["reply", "gap", "problem"]} == names
    assert payloads["follow"].is_valid({"ack": "0:1", "credit": 1})
    query = told["bindings"]["ws"]["query"]
    assert (["who"], {"who", "start", "limit", "credit"}) == (query["required"], set(query["properties"]))


def test_who_a_subscriber_is_stands_in_the_path_where_that_says_it(tmp_path):
    told, _, _ = channel(tmp_path, 'tail: o, on_gap: tell, subscribers: {name: "{who}"}', when='"/of/{who}"')
    assert "required" not in told["bindings"]["ws"]["query"]


def test_what_a_filter_asks_of_the_url_is_told(tmp_path):
    told, _, _ = channel(tmp_path, "tail: o, filter: body.quantity > int(query.least)")
    assert {"least", "start", "limit", "credit"} == set(told["bindings"]["ws"]["query"]["properties"])


@pytest.mark.parametrize("tells", ["on_gap: tell", "slow: drop_oldest"])
def test_a_gap_is_a_message_of_its_own_where_the_route_tells_it(tmp_path, tells):
    _, names, payloads = channel(tmp_path, f"tail: o, {tells}")
    assert ["reply", "gap", "problem"] == names["send"]
    gap = {"cursor": "0:40", "gap": {"from": "0:12", "to": "0:40", "reason": "retention", "records": 28}}
    assert payloads["gap"].is_valid(gap)
    assert not payloads["reply"].is_valid(gap)


@pytest.mark.parametrize(
    ("how", "answers"),
    [
        ("", ["reply", "problem"]),
        (", when_down: store", ["reply", "taken", "problem"]),
        (", ack: stored", ["taken", "problem"]),
        (", ack: none", ["taken", "problem"]),
    ],
)
def test_a_publish_tells_when_it_answers(tmp_path, how, answers):
    told, _, payloads = channel(tmp_path, f"publish: o{how}")
    assert answers == [name for name in told["messages"] if name != "request"]
    assert all(payloads["taken"].is_valid({"id": "1", "state": state}) for state in ("accepted", "stored") if "taken" in payloads)


def test_a_message_may_have_an_idempotency_key(tmp_path):
    told, _, _ = channel(tmp_path, "publish: o, idempotency: {}")
    assert ["idempotency-key"] == list(told["messages"]["request"]["headers"]["properties"])


def test_an_answer_that_is_fetched_later_is_pending_first(tmp_path):
    told, names, payloads = channel(tmp_path, "ask: asked, reply_to: answered, later: {}")
    assert ["reply", "pending", "problem"] == [name for name in told["messages"] if name != "request"]
    assert payloads["pending"].is_valid({"id": "1", "state": "accepted"})
    assert {"Sec-WebSocket-Protocol", "Prefer"} == set(told["bindings"]["ws"]["headers"]["properties"])
    assert {"receive"} == names.keys()


def test_results_are_pending_until_they_are_there(tmp_path):
    asks = "  - {name: ask, when: {websocket: /ask}, to: {backend: events, ask: asked, reply_to: answered, later: {}}}\n"
    told, _, _ = channel(tmp_path, "results: asked", others=asks)
    assert "pending" in told["messages"]
    assert ["Sec-WebSocket-Protocol"] == list(told["bindings"]["ws"]["headers"]["properties"])
