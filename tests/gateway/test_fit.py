from __future__ import annotations

import pytest

from gateway.config import load
from gateway.fit import ALWAYS, fitted
from gateway.message import Many

HEAD = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0", max_body: 1000}
  other: {kind: rest, bind: "127.0.0.1:0", max_body: 2000}
  live: {kind: websocket, bind: "127.0.0.1:0"}
backends:
  events: {kind: local, path: ":memory:"}
"""


@pytest.fixture
def fit(tmp_path):
    """The routes of a config that fits, by name and protocol."""

    def fits(text: str):
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        config = load(path, {})
        routes = fitted(config)
        assert [] == config.source.problems
        return {(route.name, binding.protocol): binding for route in routes for binding in route.bindings}

    return fits


def test_the_policies_that_always_run_stand_first_and_those_of_the_file_before_those_of_the_route(fit):
    bindings = fit(
        HEAD
        + """
policies: [{kind: headers}]
routes:
  - {name: a, when: {rest: POST /a}, policies: [{kind: rate, limit: 1}], to: {backend: events, publish: a}}
"""
    )
    assert [*ALWAYS, "headers", "rate"] == [policy.kind for policy in bindings["a", "rest"].policies]


def test_a_policy_that_a_route_names_stands_where_the_route_says(fit):
    bindings = fit(
        HEAD
        + """
routes:
  - {name: a, when: {rest: POST /a}, policies: [{kind: rate, limit: 1}, {kind: deadline, seconds: 2}],
     to: {backend: events, publish: a}}
"""
    )
    policies = bindings["a", "rest"].policies
    assert ["observe", "concurrency", "size", "rate", "deadline"] == [policy.kind for policy in policies]
    assert 2 == policies[-1].seconds


def test_the_size_of_a_message_is_that_of_the_most_generous_listener_of_its_protocol(fit):
    bindings = fit(HEAD + "routes:\n  - {name: a, when: {rest: POST /a, websocket: /a}, to: {backend: events, publish: a}}\n")
    assert (2000, 1 << 20) == tuple(bindings["a", protocol].policies[2].limit for protocol in ("rest", "websocket"))


def test_only_a_caller_that_may_send_many_to_a_target_that_takes_one_has_an_exchange_for_each(fit):
    bindings = fit(
        HEAD
        + """
routes:
  - {name: one, when: {rest: POST /a, websocket: /a}, to: {backend: events, publish: a}}
  - {name: all, when: {rest: GET /a, websocket: /b}, to: {backend: events, tail: a}}
"""
    )
    each = {key: binding.each for key, binding in bindings.items()}
    assert {("one", "rest"): False, ("one", "websocket"): True, ("all", "rest"): False, ("all", "websocket"): False} == each


def test_a_caller_that_cannot_acknowledge_is_no_subscriber(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        HEAD
        + """
routes:
  - name: mine
    when: {rest: "GET /mine/{who}", websocket: "/mine/{who}"}
    to: {backend: events, tail: t, on_gap: tell, subscribers: {name: "{who}"}}
"""
    )
    config = load(path, {})
    fitted(config)
    (problem,) = config.source.problems
    assert "subscribers acknowledge what they get, which a rest caller cannot" in str(problem)


def test_a_subscriber_over_a_websocket_may_send_while_it_is_sent_events(fit):
    bindings = fit(
        HEAD
        + """
routes:
  - name: mine
    when: {websocket: "/mine/{who}"}
    to: {backend: events, tail: t, on_gap: tell, subscribers: {name: "{who}"}}
"""
    )
    assert Many.BOTH is bindings["mine", "websocket"].many
