from __future__ import annotations

import pytest

from gateway.codec import JsonOptions
from gateway.file import FileConfig, RouteConfig
from gateway.remedy import validated
from gateway.source import Source


def route(**said) -> RouteConfig:
    return RouteConfig.model_validate({"name": "a", "when": {"rest": "POST /a"}, "to": {"backend": "b"}, **said})


@pytest.fixture
def problems(tmp_path):
    """What is told of a route that says so."""

    def told(**said) -> list[str]:
        source = Source("f", tmp_path)
        validated(source, RouteConfig, {"name": "a", "when": {"rest": "POST /a"}, "to": {"backend": "b"}, **said}, ())
        return [f"{problem.path}: {problem.text}" for problem in source.problems]

    return told


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("POST /a", [("POST /a", None, "")]),
        (["POST /a", "GET /b"], [("POST /a", None, ""), ("GET /b", None, "")]),
        ({"call": "PATCH /a", "body": "shelf", "response_body": "name"}, [("PATCH /a", "shelf", "name")]),
        (["GET /b", {"call": "POST /a", "body": ""}], [("GET /b", None, ""), ("POST /a", "", "")]),
    ],
)
def test_a_call_is_a_text_or_says_what_its_body_stands_for(when, expected):
    calls = route(when={"rest": when}).calls("rest")
    assert expected == [(one.call, one.body, one.response_body) for one in calls]


def test_a_protocol_that_a_route_does_not_have_has_no_call():
    assert () == route().calls("grpc")


def test_json_is_protobufs_own_mapping_unless_told():
    assert JsonOptions() == route().json_.options()
    said = {"unknown": "ignore", "defaults": True, "enums": "number", "names": "proto"}
    assert JsonOptions("ignore", defaults=True, enum_numbers=True, proto_names=True) == route(json=said).json_.options()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"when": {"rest": {"call": "GET /a", "bodi": "x"}}}, ['when.rest.bodi: unknown field; did you mean "body"?']),
        ({"when": {"rest": {"body": "x"}}}, ["when.rest.call: is missing"]),
        (
            {"when": {"rest": {"call": "GET /a", "body": "a b"}}},
            ['when.rest.body: must be a field of the message, "*" for the whole, or "" for none'],
        ),
        ({"when": {"rest": ["GET /a", 5]}}, ["when.rest[1]: must be a text; put quotes around it"]),
        ({"when": {"rest": [["GET /a"]]}}, ["when.rest[0]: must be a text"]),
        ({"contract": ["a"]}, ["contract: must be a text"]),
        ({"contract": {"reqest": "a.json"}}, ['contract.reqest: unknown field; did you mean "request"?']),
        ({"json": {"enums": "numbers"}}, ['json.enums: must be one of name, number; did you mean "number"?']),
        ({"if": ""}, ["if: must not be empty"]),
        ({"unknown_query": "drop"}, ["unknown_query: must be one of reject, ignore"]),
        ({"iff": "true"}, ['iff: unknown field; did you mean "if"?']),
    ],
)
def test_what_is_wrong_is_told_of_the_one_form_that_was_meant(problems, said, told):
    assert told == problems(**said)


def test_every_section_may_be_left_out_but_the_listeners():
    assert ["listeners"] == [name for name, field in FileConfig.model_fields.items() if field.is_required()]
