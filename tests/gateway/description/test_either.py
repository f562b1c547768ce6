"""Routes that share a method and a path, told as one operation."""

from __future__ import annotations

from gateway.description.either import either
from gateway.description.openapi import openapi
from tests.gateway.description.planned import planned

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def told(name, *, body=None, query=(), reply=None, status="200"):
    one = {"operationId": name, "responses": {status: {"description": name, "content": {"a/b": {"schema": reply or TEXT}}}}}
    if body is not None:
        one["requestBody"] = {"required": True, "content": {"a/b": {"schema": body}}}
    if query:
        one["parameters"] = [{"name": each, "in": "query", "required": True, "schema": TEXT} for each in query]
    return one


def test_one_is_told_as_it_is():
    one = told("a", body=TEXT)
    assert one is either([one])


def test_bodies_and_replies_are_any_of_theirs():
    both = either([told("a", body=TEXT), told("b", body=NUMBER, reply=NUMBER)])
    assert {"anyOf": [TEXT, NUMBER]} == both["requestBody"]["content"]["a/b"]["schema"]
    assert {"anyOf": [TEXT, NUMBER]} == both["responses"]["200"]["content"]["a/b"]["schema"]
    assert both["requestBody"]["required"]
    assert "one of: a, b" in both["description"]


def test_what_is_the_same_is_told_once():
    both = either([told("a", body=TEXT), told("b", body=TEXT)])
    assert TEXT == both["requestBody"]["content"]["a/b"]["schema"]


def test_what_only_one_needs_is_not_needed():
    both = either([told("a", body=TEXT, query=("x", "y")), told("b", query=("y",))])
    assert not both["requestBody"]["required"]
    assert {"x": False, "y": True} == {each["name"]: each["required"] for each in both["parameters"]}


def test_each_status_of_any_is_there():
    assert {"200", "201"} == set(either([told("a"), told("b", status="201")])["responses"])


def test_routes_with_conditions_are_one_operation_that_may_not_be_found(tmp_path):
    routes = """
  - {name: new, if: "headers['x-version'] == '2'", when: {rest: "POST /o"}, to: {backend: events, publish: o}}
  - {name: old, if: "headers['x-version'] == '1'", when: {rest: "POST /o"}, to: {backend: stub, call: echo}}
"""
    one = openapi(planned(tmp_path, routes), ())["paths"]["/o"]["post"]
    assert {"200", "201", "404"} <= set(one["responses"])
