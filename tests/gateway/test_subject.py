"""What expressions are about."""

from __future__ import annotations

from gateway.exchange import Call, Principal
from gateway.message import Headers
from gateway.route import Facts
from gateway.subject import given, subject

CALL = Call(
    "id-1",
    "rest",
    "POST /orders/7",
    Headers((("x-tag", "a"), ("accept", "b"), ("x-tag", "c"), (":status", "201"))),
    {"id": "7"},
    (("q", "1"), ("q", "2"), ("r", "")),
    peer="10.0.0.1",
)
ALL = {"params", "query", "headers", "principal", "call"}


def test_a_call_gives_its_parts_by_name():
    assert {
        "params": {"id": "7"},
        "query": {"q": "1", "r": ""},
        "headers": {"x-tag": "a, c", "accept": "b"},
        "principal": None,
        "call": {"id": "id-1", "protocol": "rest", "method": "POST", "path": "/orders/7", "peer": "10.0.0.1"},
    } == subject(CALL, ALL)


def test_only_what_is_used_is_made():
    assert {} == subject(CALL, set())
    assert {"params": {"id": "7"}} == subject(CALL, {"params", "body"})


def test_a_target_without_a_method_is_a_path():
    call = subject(Call("1", "grpc", "/shop.v1.Orders/Place"), {"call"})["call"]
    assert {"id": "1", "protocol": "grpc", "method": "", "path": "/shop.v1.Orders/Place", "peer": ""} == call


def test_whoever_calls_has_a_name_and_claims():
    call = Call("1", "rest", "GET /", principal=Principal("ada", {"role": "clerk"}))
    assert {"principal": {"name": "ada", "claims": {"role": "clerk"}}} == subject(call, {"principal"})


def test_before_a_route_is_chosen_the_same_is_known_under_the_same_names():
    facts = Facts("rest", "GET /a", {"id": "7"}, Headers((("a", "b"),)), (("q", "1"),))
    assert {"params": {"id": "7"}, "query": {"q": "1"}, "headers": {"a": "b"}} == given(facts, ALL)
