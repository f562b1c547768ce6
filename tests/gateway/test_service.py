"""`services:` becomes routes: what each method's calls are, where they go, and what is left out with the reason."""

from __future__ import annotations

import pytest

from gateway.config import load
from gateway.fit import fitted
from gateway.source import ConfigError

PROTO = """syntax = "proto3";
package tea.v1;
import "google/api/annotations.proto";
message Cup { string name = 1; int32 size = 2; repeated string tags = 3; }
service Kettle {
  rpc Boil(Cup) returns (Cup) {
    option (google.api.http) = {
      post: "/cups/{name}" body: "*"
      additional_bindings {get: "/cups/{name}/boiled"}
    };
  }
  rpc Cool(Cup) returns (Cup);
  rpc Drip(stream Cup) returns (Cup);
}
"""
LISTENERS = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  live: {kind: websocket, bind: "127.0.0.1:0"}
"""
BACKENDS = """
backends:
  events: {kind: local, path: ":memory:"}
  kettle: {kind: grpc, address: "127.0.0.1:1"}
  stub: {kind: stub, answers: {Boil: {echo: true}, Cool: {echo: true}, Drip: {echo: true}, cup: {body: {name: red}}}}
"""


@pytest.fixture
def fit(tmp_path):
    """The routes of a config that fits, by name."""

    def fits(text: str, *, proto: str = PROTO, listeners: str = LISTENERS):
        (tmp_path / "tea.proto").write_text(proto)
        path = tmp_path / "gateway.yaml"
        path.write_text(f"contracts: [tea.proto]\n{listeners}{BACKENDS}{text}")
        config = load(path, {})
        routes = fitted(config)
        if config.source.problems:
            raise ConfigError([*config.source.problems])
        return {route.name: route for route in routes}

    return fits


def refused(fit, text: str, **given) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        fit(text, **given)
    return [f"{problem.path}: {problem.text}" for problem in caught.value.problems]


def calls(route) -> list[str]:
    return [f"{binding.protocol} {binding.when}" for binding in route.bindings]


def left_out(route) -> list[str]:
    return [f"{one.protocol} {one.call}: {one.why}" for one in route.left_out]


def test_every_method_is_a_route_with_the_calls_of_every_listener(fit):
    routes = fit("services: {tea.v1.Kettle: {to: {backend: kettle}}}")
    assert ["tea.v1.Kettle.Boil", "tea.v1.Kettle.Cool", "tea.v1.Kettle.Drip"] == list(routes)
    assert [
        "rest POST /cups/{name}",
        "rest GET /cups/{name}/boiled",
        "grpc tea.v1.Kettle/Boil",
        "grpc_web tea.v1.Kettle/Boil",
        "connect tea.v1.Kettle/Boil",
        "websocket /tea.v1.Kettle/Boil",
    ] == calls(routes["tea.v1.Kettle.Boil"])
    assert "rest" not in {binding.protocol for binding in routes["tea.v1.Kettle.Cool"].bindings}


def test_a_listener_that_carries_grpc_needs_no_grpc_listener_beside_it(fit):
    routes = fit(
        "services: {tea.v1.Kettle: {to: {backend: kettle}}}", listeners='listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}\n'
    )
    assert ["grpc_web tea.v1.Kettle/Cool", "connect tea.v1.Kettle/Cool"] == calls(routes["tea.v1.Kettle.Cool"])


def test_a_grpc_backend_calls_the_method_of_the_same_name_and_a_stub_answers_by_it(fit):
    routes = fit("services: {tea.v1.Kettle: {to: {backend: kettle}}}")
    assert "tea.v1.Kettle/Boil" == routes["tea.v1.Kettle.Boil"].to.call
    routes = fit("services: {tea.v1.Kettle: {to: {backend: stub}}}")
    assert "Boil" == routes["tea.v1.Kettle.Boil"].to.call


def test_a_verb_that_the_entry_says_is_that_of_every_method(fit):
    routes = fit("services: {tea.v1.Kettle: {to: {backend: stub, call: cup}}}")
    assert {"cup"} == {route.to.call for route in routes.values()}


def test_a_method_may_have_a_target_policies_and_an_example_of_its_own_or_none_at_all(fit):
    routes = fit("""
services:
  tea.v1.Kettle:
    to: {backend: kettle}
    policies: [{kind: rate, limit: 5}]
    methods:
      Boil: {to: {backend: stub, call: cup}, policies: [], example: {name: red, size: 1}}
      Drip: false
""")
    assert ["tea.v1.Kettle.Boil", "tea.v1.Kettle.Cool"] == list(routes)
    boil, cool = routes.values()
    assert ("stub", {"name": "red", "size": 1}) == (boil.to.backend, boil.example)
    assert "rate" not in [policy.kind for policy in boil.bindings[0].policies]
    assert "rate" in [policy.kind for policy in cool.bindings[0].policies]


def test_each_call_tells_where_it_is_written(fit):
    routes = fit("services:\n  tea.v1.Kettle:\n    to: {backend: kettle}\n    methods:\n      Boil: {to: {backend: stub}}\n")
    origins = {binding.protocol: binding.origin for binding in routes["tea.v1.Kettle.Boil"].bindings}
    assert "tea.proto:7" == origins["rest"]
    assert origins["grpc"].endswith("gateway.yaml:16")


def test_body_and_response_body_are_those_of_the_annotation(fit):
    proto = PROTO.replace('post: "/cups/{name}" body: "*"', 'post: "/cups/{name}" body: "tags" response_body: "size"')
    first, second, *others = fit("services: {tea.v1.Kettle: {to: {backend: kettle}}}", proto=proto)["tea.v1.Kettle.Boil"].bindings
    assert ("tags", "size") == (first.rule.body, first.rule.response_body)
    assert ("", "") == (second.rule.body, second.rule.response_body)
    assert not any(binding.rule.http for binding in others)


def test_json_and_query_options_are_those_of_the_entry(fit):
    entry = "{to: {backend: kettle}, unknown_query: ignore, json: {defaults: true}}"
    route = fit(f"services: {{tea.v1.Kettle: {entry}}}")["tea.v1.Kettle.Boil"]
    assert "ignore" == route.bindings[0].rule.unknown_query
    body = b'{"name": "red"}'
    assert b'{"name":"red","size":0,"tags":[]}' == route.contract.request.unpack_json(route.contract.request.pack_json(body))


def test_a_route_that_somebody_wrote_has_its_calls_before_a_service(fit):
    routes = fit("""
services: {tea.v1.Kettle: {to: {backend: kettle}}}
routes:
  - name: mine
    when: {rest: "POST /cups/{name}", grpc: tea.v1.Kettle/Boil}
    to: {backend: stub, call: Boil}
""")
    assert ["rest GET /cups/{name}/boiled", "websocket /tea.v1.Kettle/Boil"] == calls(routes["tea.v1.Kettle.Boil"])
    why = "route mine has it on line 16"
    assert [
        f"rest POST /cups/{{name}}: {why}",
        f"grpc tea.v1.Kettle/Boil: {why}",
        f"grpc_web tea.v1.Kettle/Boil: {why}",
        f"connect tea.v1.Kettle/Boil: {why}",
    ] == left_out(routes["tea.v1.Kettle.Boil"])


def test_the_names_of_variables_make_no_other_call(fit):
    routes = fit("""
services: {tea.v1.Kettle: {to: {backend: kettle}}}
routes:
  - {name: mine, when: {rest: "POST /cups/{cup}"}, to: {backend: stub, call: cup}}
""")
    assert ["rest POST /cups/{name}: route mine has it on line 15"] == left_out(routes["tea.v1.Kettle.Boil"])


def test_a_route_with_a_condition_takes_its_calls_and_leaves_the_others_to_the_service(fit):
    routes = fit("""
services: {tea.v1.Kettle: {to: {backend: kettle}}}
routes:
  - name: mine
    when: {rest: "POST /cups/{name}"}
    if: params.name == 'red'
    contract: tea.v1.Kettle/Boil
    to: {backend: stub, call: Boil}
""")
    assert [] == left_out(routes["tea.v1.Kettle.Boil"])


def test_what_a_wire_cannot_carry_is_left_out_and_the_rest_is_served(fit):
    routes = fit("services: {tea.v1.Kettle: {to: {backend: events, publish: cups}, methods: {Drip: false}}}")
    assert ["rest POST /cups/{name}", "rest GET /cups/{name}/boiled", "websocket /tea.v1.Kettle/Boil"] == calls(
        routes["tea.v1.Kettle.Boil"]
    )
    assert [
        "grpc tea.v1.Kettle/Boil: a publish answers polygate.v1.Receipt, but tea.v1.Kettle/Boil replies tea.v1.Cup"
    ] == left_out(routes["tea.v1.Kettle.Boil"])


def test_a_method_of_http_that_nobody_knows_is_left_out(fit):
    proto = PROTO.replace('get: "/cups/{name}/boiled"', 'custom: {kind: "BREW" path: "/cups/{name}/boiled"}')
    route = fit("services: {tea.v1.Kettle: {to: {backend: kettle}}}", proto=proto)["tea.v1.Kettle.Boil"]
    assert ["rest BREW /cups/{name}/boiled: a request with this method is answered 501 before it is routed"] == left_out(route)


@pytest.mark.parametrize("kind", ["HEAD", "*"])
def test_a_custom_pattern_is_served(fit, kind):
    proto = PROTO.replace('get: "/cups/{name}/boiled"', f'custom: {{kind: "{kind}" path: "/cups/{{name}}/boiled"}}')
    route = fit("services: {tea.v1.Kettle: {to: {backend: kettle}}}", proto=proto)["tea.v1.Kettle.Boil"]
    assert f"rest {kind} /cups/{{name}}/boiled" in calls(route)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ('get: "/cups/**/x"', "GET /cups/**/x (tea.proto:7): '/cups/**/x': ** must be last"),
        ('get: "/cups/{nam}"', "GET /cups/{nam} (tea.proto:7): {nam} is no field of tea.v1.Cup, so every call would be refused"),
        ('get: "/cups/{tags}"', "GET /cups/{tags} (tea.proto:7): "),
        ('post: "/cups/x" body: "nothing"', "POST /cups/x (tea.proto:7): "),
        ('post: "/cups/x" response_body: "nothing"', "POST /cups/x (tea.proto:7): "),
    ],
)
def test_an_annotation_that_can_never_work_is_refused_with_its_place(fit, annotation, told):
    proto = PROTO.replace('get: "/cups/{name}/boiled"', annotation)
    problems = refused(fit, "services: {tea.v1.Kettle: {to: {backend: kettle}}}", proto=proto)
    assert problems
    assert all(one.startswith(f"services.tea.v1.Kettle: {told}") for one in problems)


def test_two_methods_with_one_call_are_refused_naming_both_annotations(fit):
    proto = PROTO.replace(
        "rpc Cool(Cup) returns (Cup);", 'rpc Cool(Cup) returns (Cup) { option (google.api.http) = {get: "/cups/{size}/boiled"}; }'
    )
    problems = refused(fit, "services: {tea.v1.Kettle: {to: {backend: kettle}}}", proto=proto)
    assert ["services.tea.v1.Kettle: GET /cups/{size}/boiled is taken by route tea.v1.Kettle.Boil on tea.proto:7"] == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "services: {tea.v1.Ketle: {to: {backend: kettle}}}",
            ['services.tea.v1.Ketle: no contract has the service tea.v1.Ketle; did you mean "tea.v1.Kettle"?'],
        ),
        (
            "services: {tea.v1.Kettle: {to: {backend: kettle}, methods: {Boyl: false}}}",
            ['services.tea.v1.Kettle.methods.Boyl: tea.v1.Kettle has no method Boyl; did you mean "Boil"?'],
        ),
        (
            "services: {tea.v1.Kettle: {to: {backend: ketle}}}",
            ["services.tea.v1.Kettle.to.backend: there is no backend 'ketle'; did you mean \"kettle\"?"],
        ),
        (
            "services: {tea.v1.Kettle: {to: {backend: events}}}",
            ["services.tea.v1.Kettle.to: needs a verb of a local backend: publish, ask, results, tail"],
        ),
        (
            "services: {tea.v1.Kettle: {to: {backend: kettle}, methods: {Boil: {to: {backend: stub, call: x}}, Cool: true}}}",
            ["services.tea.v1.Kettle.methods.Cool: must be a mapping, or false to leave the method out"],
        ),
        ("services: [tea.v1.Kettle]", ["services: must be a mapping, from a service's full name to where its methods go"]),
        ("services: {tea.v1.Kettle: {}}", ['services.tea.v1.Kettle.to: is missing; for example {"backend": "stock"}']),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_once_with_a_remedy(fit, text, problems):
    assert problems == refused(fit, text)
