from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.explain import explain, protocol_of, text
from gateway.plan import plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shop():
    return plan(ROOT / "config/gateway.yaml", {})


@pytest.fixture
def planned(tmp_path):
    def make(routes: str):
        path = tmp_path / "gateway.yaml"
        path.write_text(
            'listeners: {public: {kind: rest, bind: "127.0.0.1:0"}, live: {kind: websocket, bind: "127.0.0.1:0"}}\n'
            'backends: {events: {kind: local, path: ":memory:"}, stub: {kind: stub, answers: {a: {echo: true}}}}\n'
            f"routes:\n{routes}"
        )
        return plan(path, {})

    return make


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("POST /orders/ada", ("rest", "POST /orders/ada")),
        ("get /orders", ("rest", "GET /orders")),
        ("shop.v1.Orders/Place", ("grpc", "/shop.v1.Orders/Place")),
        ("grpc shop.v1.Orders/Place", ("grpc", "/shop.v1.Orders/Place")),
        ("/feed", ("websocket", "/feed")),
        ("ws /feed", ("websocket", "/feed")),
        ("topic quotes.asked", ("topic", "/quotes.asked")),
    ],
)
def test_a_call_is_written_as_its_protocol_writes_it(call, expected):
    assert expected == protocol_of(call)


def test_a_body_is_shown_as_the_record_that_it_becomes(shop):
    told = explain(shop, "POST /orders/ada", '{"sku": "tea", "quantity": 2}')
    assert ("place-order", {"customer": "ada"}) == (told["route"], told["params"])
    assert ("orders.placed", "ada") == (told["record"]["topic"], told["record"]["key"])
    assert {"customer": "ada", "sku": "tea", "quantity": 2} == json.loads(told["record"]["body"])


def test_without_a_body_the_routes_own_example_stands_for_it(shop):
    told = explain(shop, "POST /orders/bob")
    assert {"customer": "bob", "sku": "tea", "quantity": 2} == json.loads(told["record"]["body"])


def test_a_question_is_a_record_and_a_call_a_request(shop):
    assert "quotes.asked" == explain(shop, "POST /quotes")["record"]["topic"]
    assert {"sku": "tea"} == json.loads(explain(shop, "GET /stock/tea")["request"]["body"])


def test_a_message_that_is_refused_says_why(shop):
    told = explain(shop, "POST /orders/ada", '{"sku": "tea", "quantity": 2, "customer": "bob"}')
    assert "malformed" == told["refused"]["reason"]
    shown = text(told)
    assert "which is refused\n" in shown
    assert "/customer: is set by the path" in shown


def test_a_template_that_a_message_does_not_fill_is_a_refusal_too(planned):
    plan_ = planned('  - {name: a, when: {rest: POST /a}, to: {backend: events, publish: t, key: "{who}"}}\n')
    assert "the message has no field who" == explain(plan_, "POST /a", "{}")["refused"]["detail"]


def test_only_calls_of_its_own_protocol_are_told_apart_and_the_others_counted(shop):
    told = explain(shop, "GET /stock/tea")
    assert {"place-order POST /orders/{customer}", "feed GET /orders", "quote POST /quotes"} == told["others"].keys()
    assert {"grpc": 5, "grpc_web": 5, "connect": 5, "websocket": 5, "topic": 1} == told["elsewhere"]
    assert "calls of other protocols, which cannot have it: 5 grpc, 5 grpc_web, 5 connect, 5 websocket, 1 topic" in text(told)


@pytest.mark.parametrize(
    ("call", "label", "why"),
    [
        ("GET /stock/tea", "feed GET /orders", "has 'orders' as segment 1 of its path"),
        ("GET /orders", "place-order POST /orders/{customer}", "has 2 segments in its path, the call 1"),
        ("GET /orders/ada", "feed GET /orders", "has 1 segment in its path, the call 2"),
        ("GET /orders/ada", "place-order POST /orders/{customer}", "is for POST"),
        ("shop.v1.Stock/Get", "chat shop.v1.Chat/Talk", "is for shop.v1.Chat/Talk"),
    ],
)
def test_each_of_the_others_says_why_not(shop, call, label, why):
    assert why == explain(shop, call)["others"][label]


def test_a_less_specific_route_says_so(planned):
    plan_ = planned(
        "  - {name: all, when: {rest: GET /a/**}, to: {backend: stub, call: a}}\n"
        "  - {name: one, when: {rest: GET /a/b}, to: {backend: stub, call: a}}\n"
    )
    told = explain(plan_, "GET /a/b")
    assert ("one", {"all GET /a/**": "would take it too, but another is more specific"}) == (told["route"], told["others"])


def test_many_others_are_not_all_told_to_people(planned):
    plan_ = planned(
        "".join(f"  - {{name: r{n}, when: {{rest: GET /r{n}}}, to: {{backend: stub, call: a}}}}\n" for n in range(30))
    )
    told = explain(plan_, "GET /r0")
    assert 29 == len(told["others"])
    assert "and 9 more; --json has them all" in text(told)


def test_a_call_without_a_route_says_so(shop):
    told = explain(shop, "GET /nothing")
    assert (None, "not_found") == (told["route"], told["error"]["reason"])
    assert text(told).startswith("no route has rest GET /nothing: ")


def test_the_pipeline_is_told_in_order_and_where_each_stands(shop):
    one = [step.partition(":")[0].partition(" ")[0] for step in explain(shop, "POST /orders/ada")["pipeline"]]
    many = [step.partition(":")[0].partition(" ")[0] for step in explain(shop, "/orders")["pipeline"]]
    assert ["observe", "concurrency", "size", "deadline", "translate"] == one
    assert ["observe", "concurrency", "each", "observe", "size", "deadline", "translate"] == many


def test_a_call_that_needs_a_message_asks_for_one(planned):
    plan_ = planned("  - {name: a, when: {rest: POST /a}, to: {backend: stub, call: a}}\n")
    assert "(give a message with --body to see what becomes of it)" in text(explain(plan_, "POST /a"))


def test_a_tail_has_no_message_to_show(shop):
    shown = text(explain(shop, "GET /orders?limit=5"))
    assert "tail orders.placed" in shown
    assert "--body" not in shown


def test_text_is_given_as_it_is(planned):
    plan_ = planned("  - {name: a, when: {rest: POST /a}, to: {backend: events, publish: a, format: text}}\n")
    assert "hello" == explain(plan_, "POST /a", "hello")["record"]["body"]


def test_a_condition_is_asked_with_the_query_and_told_of_where_it_does_not_hold(planned):
    plan_ = planned(
        '  - {name: new, if: \'query["v"] == "2"\', when: {rest: GET /a}, to: {backend: stub, call: a}}\n'
        "  - {name: old, when: {rest: GET /a}, to: {backend: stub, call: a}}\n"
    )
    told = explain(plan_, "GET /a?v=2")
    assert ("new", {"old GET /a": "would take it too, but another is more specific"}) == (told["route"], told["others"])
    told = explain(plan_, "GET /a?v=1")
    assert ("old", {"new GET /a": "has a condition that is not true of it"}) == (told["route"], told["others"])
