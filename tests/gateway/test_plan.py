from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from gateway.errors import GatewayError, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, TEXT, Message
from gateway.plan import Plan, bound, plan
from gateway.source import ConfigError
from tests.golden import golden

SHOP = Path("config/gateway.yaml").resolve()


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.stem)
def test_every_golden_file_gives_what_stands_below_its_line(case):
    config, expected = golden.halves(case)
    actual = golden.actual(config)
    assert expected == actual, "".join(difflib.unified_diff(expected.splitlines(True), actual.splitlines(True)))


def test_the_shop_fits():
    planned = plan(SHOP, {})
    assert ["place-order", "feed", "stock", "quote", "answer-quote", "chat"] == [route.name for route in planned.routes]


def test_every_problem_is_raised_at_once(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("listeners: {a: {kind: rest}, b: {kind: rst}}\nbackends: {c: {kind: stb}}\n")
    with pytest.raises(ConfigError) as caught:
        plan(path, {})
    assert 3 == len(caught.value.problems)


@pytest.fixture
def served(tmp_path):
    """A plan's router, on stub backends."""

    def serve(config: str) -> tuple[Plan, object]:
        path = tmp_path / "gateway.yaml"
        path.write_text(config)
        planned = plan(path, {})
        return planned, planned.table({name: part.build() for name, part in planned.config.backends.items()})

    return serve


STUB = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
backends:
  stub:
    kind: stub
    answers:
      hello: {body: {hello: "{name}"}}
      text: {body: "hello {name}"}
routes:
  - {name: hello, when: {rest: "GET /hello/{name}"}, to: {backend: stub, call: hello}}
  - {name: text, when: {rest: "GET /text/{name}"}, to: {backend: stub, call: text, format: text}}
"""


@pytest.mark.parametrize(("target", "body"), [("GET /hello/ada", b'{"hello":"ada"}'), ("GET /text/ada", b"hello ada")])
async def test_a_call_goes_through_the_policies_and_the_translation_to_its_backend(served, target, body):
    _, table = served(STUB)
    found = table.find("rest", target)
    exchange = Memory(Message(b"", TEXT if "text" in target else JSON), call=Call("1", "rest", target, params=found.params))
    await found.endpoint.handler(exchange)
    assert [body] == [reply.body for reply in exchange.replies]


async def test_a_call_without_a_route_is_refused_and_observed(served):
    _, table = served(STUB)
    found = table.find("rest", "GET /nothing")
    assert "-" == found.endpoint.route
    with pytest.raises(GatewayError) as caught:
        await found.endpoint.handler(Memory(call=Call("1", "rest", "GET /nothing")))
    assert Reason.NOT_FOUND is caught.value.reason


def test_a_target_opens_its_messages_fields_where_they_are_objects(served):
    planned, _ = served(STUB)
    json, text = (bound(planned.config, route) for route in planned.routes)
    assert {"a": 1} == json.fields(b'{"a": 1}')
    assert {} == json.fields(b"[1]")
    assert {} == text.fields(b"a")


def test_its_rows_tell_of_each_route(served, tmp_path):
    planned, _ = served(STUB)
    file = f"{tmp_path}/gateway.yaml"
    line = 1 + STUB.splitlines().index("routes:") + 1
    assert {
        "route": "hello",
        "calls": [{"protocol": "rest", "call": "GET /hello/{name}", "origin": f"{file}:{line}"}],
        "left_out": [],
        "backend": "stub",
        "verb": "call",
        "target": "hello",
        "contract": None,
        "file": file,
        "line": line,
    } == planned.rows()[0]


def test_a_contract_without_side_effects_makes_its_target_safe():
    planned = plan(SHOP, {})
    assert {"stock": True, "feed": True, "chat": False} == {
        route.name: bound(planned.config, route).safe for route in planned.routes if route.name in {"stock", "feed", "chat"}
    }


POSTING = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
backends:
  events: {kind: local, path: ":memory:"}
  hooks: {kind: http, url: "https://hooks.example.com/in"}
routes:
  - name: quote
    when: {rest: "POST /quotes"}
    to:
      backend: events
      ask: asked
      reply_to: answered
      later: {callback: {backends: [hooks], sign: {secret: QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB}}}
"""


def test_a_target_is_given_what_it_posts_to_and_is_another_once_that_is(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(POSTING)
    planned = plan(path, {})
    backends = {name: part.build() for name, part in planned.config.backends.items()}
    served = planned.served(backends)
    assert ["https://hooks.example.com/in/"] == list(served["quote"].target.posts)
    same = planned.served(backends, before=served)
    assert same["quote"].endpoints is served["quote"].endpoints
    anew = planned.served({**backends, "hooks": planned.config.backends["hooks"].build()}, before=served)
    assert anew["quote"].endpoints is not served["quote"].endpoints
