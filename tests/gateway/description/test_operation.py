"""One call: its parameters, its body, and every answer that it may get."""

from __future__ import annotations

from gateway.description.openapi import openapi
from tests.gateway.description.planned import planned, references, resolved


def operation(tmp_path, route, path, method):
    document = openapi(planned(tmp_path, f"\n  - {route}\n"), ())
    return document["paths"][path][method], document["components"]


def test_the_path_takes_its_fields_out_of_the_body(tmp_path):
    route = '{name: place, contract: shop.v1.Orders/Place, when: {rest: "POST /o/{customer}"}, to: {backend: events, publish: o}}'
    one, components = operation(tmp_path, route, "/o/{customer}", "post")
    assert ["customer"] == [parameter["name"] for parameter in one["parameters"]]
    body = one["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert ["sku", "quantity"] == components["schemas"][body]["required"]
    assert "customer" not in components["schemas"][body]["properties"]


def test_a_publish_answers_201_with_a_receipt(tmp_path):
    route = '{name: place, when: {rest: "POST /o"}, to: {backend: events, publish: o}}'
    one, components = operation(tmp_path, route, "/o", "post")
    assert "200" not in one["responses"]
    schema = one["responses"]["201"]["content"]["application/json"]["schema"]
    assert {"$ref": "#/components/schemas/Receipt"} == schema
    assert ["topic", "partition", "offset", "timestamp"] == components["schemas"]["Receipt"]["required"]


def test_a_publish_that_answers_before_it_has_written_answers_202(tmp_path):
    for said, statuses in (("ack: none", {"202"}), ("ack: stored", {"202"}), ("when_down: store", {"201", "202"})):
        route = f'{{name: place, when: {{rest: "POST /o"}}, to: {{backend: events, publish: o, {said}}}}}'
        one, components = operation(tmp_path, route, "/o", "post")
        assert statuses == {status for status in one["responses"] if status < "300"}
        schema = one["responses"]["202"]["content"]["application/json"]["schema"]
        assert {"$ref": "#/components/schemas/Taken"} == schema
        assert ["id", "state"] == components["schemas"]["Taken"]["required"]


def test_a_route_with_idempotency_takes_a_key_and_says_what_is_replayed(tmp_path):
    for said, required in (("{}", None), ("{required: true}", True)):
        route = f'{{name: place, when: {{rest: "POST /o"}}, to: {{backend: events, publish: o, idempotency: {said}}}}}'
        one, _ = operation(tmp_path, route, "/o", "post")
        (key,) = one["parameters"]
        assert ("Idempotency-Key", "header", required) == (key["name"], key["in"], key.get("required"))
        assert "idempotency-replayed" in one["responses"]["201"]["headers"]
        assert "422" in one["responses"]


def test_a_route_that_takes_batches_tells_what_became_of_each_message(tmp_path):
    for said in ("batch: true", "atomic: true"):
        route = f'{{name: place, when: {{rest: "POST /o"}}, to: {{backend: events, publish: o, {said}}}}}'
        one, components = operation(tmp_path, route, "/o", "post")
        assert {"application/json", "application/x-ndjson"} == set(one["requestBody"]["content"])
        content = one["responses"]["200"]["content"]
        assert {"type": "array", "items": {"$ref": "#/components/schemas/Answered"}} == content["application/json"]["schema"]
        assert {"status", "receipt", "replayed", "error"} == set(components["schemas"]["Answered"]["properties"])
        assert "201" in one["responses"]


def test_without_a_body_the_fields_are_in_the_query(tmp_path):
    route = '{name: stock, contract: shop.v1.Stock/Get, when: {rest: "GET /stock"}, to: {backend: stub, call: echo}}'
    one, _ = operation(tmp_path, route, "/stock", "get")
    assert [("sku", "query", True)] == [(each["name"], each["in"], each["required"]) for each in one["parameters"]]
    assert "requestBody" not in one


def test_an_untyped_tail_takes_start_and_limit(tmp_path):
    route = '{name: feed, when: {rest: "GET /feed"}, to: {backend: events, tail: o, envelope: true}}'
    one, components = operation(tmp_path, route, "/feed", "get")
    assert ["start", "limit"] == [each["name"] for each in one["parameters"]]
    content = one["responses"]["200"]["content"]
    assert {"application/x-ndjson", "text/event-stream", "application/json"} == set(content)
    assert {"type": "array", "items": {"$ref": "#/components/schemas/Event"}} == content["application/json"]["schema"]
    assert "cursor" in components["schemas"]["Event"]["required"]


def test_every_reason_that_a_route_can_give_has_its_status(tmp_path):
    route = '{name: o, when: {rest: "POST /o"}, policies: [{kind: rate, limit: 5}], to: {backend: events, publish: o}}'
    one, components = operation(tmp_path, route, "/o", "post")
    statuses = {"201", "400", "406", "408", "413", "414", "415", "429", "431", "500", "502", "503", "504"}
    assert statuses == set(one["responses"])
    reasons = one["responses"]["504"]["$ref"].rpartition("/")[2]
    assert "unknown_outcome.timed_out" == reasons
    content = components["responses"][reasons]["content"]
    assert {"$ref": "#/components/schemas/Problem"} == content["application/problem+json"]["schema"]
    assert "retry-after" in components["responses"]["rate_limited"]["headers"]


def test_what_an_http_backend_answers_may_be_anything(tmp_path):
    route = '{name: erp, when: {rest: "GET /erp"}, to: {backend: erp, call: GET /items}}'
    one, _ = operation(tmp_path, route, "/erp", "get")
    assert {"2XX", "204", "default"} < set(one["responses"])


def test_a_schema_is_told_with_the_references_within_it(tmp_path):
    contract = "{request: {$ref: '#/$defs/tree', $defs: {tree: {type: object, properties: {left: {$ref: '#/$defs/tree'}}}}}}"
    route = f'{{name: tree, contract: {contract}, when: {{rest: "POST /tree"}}, to: {{backend: stub, call: echo}}}}'
    one, components = operation(tmp_path, route, "/tree", "post")
    assert {"$ref": "#/components/schemas/tree.request"} == one["requestBody"]["content"]["application/json"]["schema"]
    assert "422" in one["responses"]
    for reference in references(components["schemas"]["tree.request"]):
        assert resolved(reference, {"components": components})


def test_the_routes_own_example_is_the_bodys(tmp_path):
    route = """{name: place, contract: shop.v1.Orders/Place, when: {rest: "POST /o/{customer}"},
      example: {customer: ada, sku: tea, quantity: 2}, to: {backend: events, publish: o}}"""
    one, _ = operation(tmp_path, route, "/o/{customer}", "post")
    assert {"sku": "tea", "quantity": 2} == one["requestBody"]["content"]["application/json"]["example"]
