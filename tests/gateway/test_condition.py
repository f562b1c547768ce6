"""Conditions of routes."""

from __future__ import annotations

import pytest

from gateway.condition import When
from gateway.expression import ExpressionError
from gateway.message import Headers
from gateway.route import Facts

FACTS = Facts("rest", "POST /orders/7", {"id": "7"}, Headers((("x-tenant", "eu"),)), (("dry", "true"),))


@pytest.mark.parametrize(
    "text",
    [
        "true",
        "headers['x-tenant'] == 'eu'",
        "query.dry == 'true'",
        "params.id == '7' && int(params.id) < 10",
        "call.method == 'POST' && call.path.startsWith('/orders') && call.protocol in ['rest', 'websocket']",
        "!('x-beta' in headers)",
        "has(headers.accept) || true",
    ],
)
def test_a_condition_that_is_true_holds(text):
    assert When(text)(FACTS)


@pytest.mark.parametrize(
    "text", ["false", "headers['x-tenant'] == 'us'", "query.nope == '1'", "int(headers['x-tenant']) == 1", "'x' in query"]
)
def test_one_that_is_false_or_fails_does_not(text):
    assert not When(text)(FACTS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("body.quantity > 3", "there is no body here, for no message has been read yet when a route is chosen"),
        ("principal.name == 'ada'", "there is no principal here, for who calls is found out by the policies"),
        ("call.peer == '10.0.0.1'", "call has no peer; it has protocol, method, path"),
        ("headers.size()", "its value is no true or false"),
        ("query.n > 3", "found no matching overload for '>'"),
    ],
)
def test_what_cannot_be_a_condition_is_refused_when_loading(text, why):
    with pytest.raises(ExpressionError) as caught:
        When(text)
    assert why in str(caught.value)


def test_bytes_in_a_header_that_are_no_text_are_no_match():
    facts = Facts("rest", "GET /", headers=Headers((("x-tenant", "\udcff"), ("x-nul", "\0"))))
    assert not When("headers['x-tenant'] == 'eu'")(facts)
    assert not When("headers['x-tenant'] != 'eu'")(facts)


def test_two_of_one_text_are_the_same_condition():
    assert When("true") == When("true")
    assert 1 == len({When("true"), When("true")})
    assert When("true") != When("false")
    assert "true" == str(When("true"))
