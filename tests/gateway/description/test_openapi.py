"""What a whole description holds, and that it is one."""

from __future__ import annotations

from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.description.openapi import openapi
from tests.gateway.description.planned import planned

ECHO = "{backend: stub, call: echo}"


def described(tmp_path, routes):
    document = openapi(planned(tmp_path, routes), ["http://127.0.0.1:8080"])
    OpenAPIV31SpecValidator(document).validate()
    return document


def test_calls_of_one_path_stand_together_under_the_first_ones_names(tmp_path):
    routes = f"""
  - {{name: read, when: {{rest: "GET /a/{{b}}"}}, to: {ECHO}}}
  - {{name: write, when: {{rest: "PUT /a/{{c}}"}}, to: {ECHO}}}
"""
    paths = described(tmp_path, routes)["paths"]
    assert ["/a/{b}"] == list(paths)
    assert {"read", "write"} == {one["operationId"] for one in paths["/a/{b}"].values()}
    assert ["b"] == [one["name"] for one in paths["/a/{b}"]["put"]["parameters"]]


def test_a_route_of_several_calls_has_an_operation_for_each_with_an_id_of_its_own(tmp_path):
    routes = f'\n  - {{name: both, when: {{rest: ["GET /a", "GET /b"]}}, to: {ECHO}}}\n'
    paths = described(tmp_path, routes)["paths"]
    assert ["both", "both-2"] == [paths[path]["get"]["operationId"] for path in ("/a", "/b")]


def test_what_other_listeners_serve_is_not_in_it(tmp_path):
    routes = f"\n  - {{name: talk, when: {{websocket: /talk}}, to: {ECHO}}}\n"
    assert {} == described(tmp_path, routes)["paths"]


def test_servers_are_where_callers_reach_it(tmp_path):
    document = described(tmp_path, f'\n  - {{name: a, when: {{rest: "GET /a"}}, to: {ECHO}}}\n')
    assert [{"url": "http://127.0.0.1:8080"}] == document["servers"]
    assert [{"url": "/"}] == openapi(planned(tmp_path, ""), ())["servers"]


def test_services_are_tags_with_what_their_source_says(tmp_path):
    routes = f'\n  - {{name: stock, contract: shop.v1.Stock/Get, when: {{rest: "GET /stock/{{sku}}"}}, to: {ECHO}}}\n'
    document = described(tmp_path, routes)
    assert ["shop.v1.Stock"] == [tag["name"] for tag in document["tags"]]
