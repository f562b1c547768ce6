"""What follows from a route's target."""

from __future__ import annotations

import json

import pytest

from gateway.explain import explain
from gateway.plan import plan
from gateway.source import ConfigError

SECRET = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
CONFIG = """
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
backends:
  events: {{kind: local, path: ":memory:"}}
  hooks: {{kind: http, url: "{url}"}}
  stub: {{kind: stub, answers: {{a: {{body: 1}}}}}}
routes:
  - name: quote
    when: {{rest: {when}, websocket: /quotes}}
    to: {{backend: events, ask: quotes.asked, reply_to: quotes.answered, later: {later}}}
{more}
"""


@pytest.fixture
def planned(tmp_path):
    def load(when='"POST /quotes"', later="{}", more="", url="https://hooks.example.com"):
        path = tmp_path / "gateway.yaml"
        path.write_text(CONFIG.format(when=when, later=later, more=more, url=url))
        return plan(path, {})

    return load


def wrong(planned, **said):
    with pytest.raises(ConfigError) as caught:
        planned(**said)
    return "\n".join(str(problem) for problem in caught.value.problems)


def calls(found):
    return {route.name: [(one.protocol, one.when) for one in route.bindings] for route in found.routes}


def test_an_answer_is_served_below_each_rest_path_of_its_question(planned):
    found = planned(when='["POST /quotes/{sku}", "GET /quote/{sku}"]')
    assert [("rest", "GET /quotes/{sku}/{id}"), ("rest", "GET /quote/{sku}/{id}")] == calls(found)["quote.answer"]
    assert ("results", "quotes.asked") == (found.routes[1].to.verb, found.routes[1].to.results)


def test_a_question_whose_answer_is_not_kept_has_nothing_below_it(planned):
    assert ["quote"] == list(calls(planned(later="null")))


def test_what_is_below_is_explained_and_stands_where_its_question_does(planned):
    told = explain(planned(), "GET /quotes/some-id")
    assert ("quote.answer", {"id": "some-id"}, {"backend": "events", "results": "quotes.asked"}) == (
        told["route"],
        told["params"],
        told["target"],
    )
    assert told["line"] == explain(planned(), "POST /quotes", "{}")["line"]


def test_a_path_that_another_route_has_is_refused_at_the_question(planned):
    more = '  - {name: other, when: {rest: "GET /quotes/{id}"}, to: {backend: stub, call: a}}'
    assert "GET /quotes/{id} is taken by route quote.answer" in wrong(planned, more=more)


def test_nothing_can_be_below_a_path_that_goes_on(planned):
    assert "** must be last" in wrong(planned, when='"POST /quotes/{sku=**}"')


def test_the_policies_of_the_question_guard_its_answer(planned):
    ask, answer = planned(more="policies: [{kind: concurrency, limit: 5}]").routes
    assert ask.bindings[0].policies == answer.bindings[0].policies


def test_answers_can_be_had_over_other_wires_by_a_route_of_their_own(planned):
    more = "  - {name: answers, when: {websocket: /answers}, to: {backend: events, results: quotes.asked}}"
    assert [("websocket", "/answers")] == calls(planned(more=more))["answers"]


def test_answers_that_no_route_keeps_are_refused(planned):
    more = "  - {name: answers, when: {websocket: /answers}, to: {backend: events, results: quotes.askd}}"
    assert "no route of this backend has ask: quotes.askd with later" in wrong(planned, more=more)
    assert 'did you mean "quotes.asked"' in wrong(planned, more=more)
    plain = "  - {name: answers, when: {websocket: /answers}, to: {backend: events, results: quotes.asked}}"
    assert "so no answer is kept" in wrong(planned, later="null", more=plain)


def callback(backends, **more):
    return json.dumps({"callback": {"backends": backends, "sign": {"secret": SECRET}, **more}})


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"later": callback(["hook"])}, "there is no backend 'hook'; did you mean \"hooks\""),
        ({"later": callback(["stub"])}, "a stub backend has no URL to post to"),
        ({"later": callback(["hooks"]), "url": "http://hooks.example.com"}, "hooks is called without TLS"),
        ({"later": callback([])}, "callback.backends"),
        ({"later": "{callback: {backends: [hooks]}}"}, "sign"),
    ],
)
def test_a_callback_goes_to_backends_that_can_be_posted_to_over_tls(planned, said, text):
    assert text in wrong(planned, **said)


def test_without_tls_only_where_the_config_says_so(planned):
    planned(later=callback(["hooks"], plain=True), url="http://hooks.example.com")


def test_what_is_kept_for_longer_than_the_state_lasts_is_refused(planned):
    assert "keeps for longer than the gateway's state does" in wrong(planned, later="{keep: 2000000}")
