"""The spec's line on bindings from `google.api.http` annotations: the same grammar and the same rules as hand-written ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.spec.library import Library, call, library, route

SERVICES = "{library.v1.Annotated: {to: {backend: library}}}"


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    own = route(call("GET /ann/files/mine"), '"GET /hand/{a_string}"')
    with library(own, tmp_path_factory.mktemp("library"), SERVICES) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("GET", "/ann/shelves/1/books/2?an_int32=7", None, {"aString": "shelves/1/books/2", "anInt32": 7}),
        ("GET", "/ann/files/a/b%2Fc", None, {"aString": "files/a/b%2Fc"}),
        ("POST", "/ann/x:search?an_int32=7", {"aBool": True}, {"aString": "x", "anInt32": 7, "inner": {"aBool": True}}),
        ("DELETE", "/ann/any/x", None, {"left": "x"}),
        ("PUT", "/ann/any/x?an_int32=7", None, {"left": "x", "anInt32": 7}),
        ("PATCH", "/ann/books/7", {"title": "t"}, {"book": {"name": "books/7", "title": "t"}, "updateMask": "title"}),
        ("POST", "/ann/titles", {"title": "t"}, "t"),
    ],
)
def test_an_annotated_method_is_reached_by_each_of_its_bindings(shelves, method, path, body, message):
    assert message == shelves.told(method, path, body)


def test_an_annotated_http_body_comes_and_goes_as_it_is(shelves):
    answer = shelves.ask("PUT", "/ann/raw", b"\0\xff", content_type="image/png")
    assert (200, b"\0\xff", "image/png") == (answer.status, answer.body, answer.headers["content-type"])


def test_a_hand_written_route_goes_before_the_annotations_call_by_call(shelves):
    assert {} == shelves.told("GET", "/ann/files/mine")
    assert {"aString": "files/other"} == shelves.told("GET", "/ann/files/other")


def test_the_rules_of_the_path_hold(shelves):
    assert ["/book/name"] == shelves.refused("PATCH", "/ann/books/7", {"name": "x"})
    assert ["/aString"] == shelves.refused("GET", "/ann/files/x?aString=y")
    shelves.refused("DELETE", "/ann/any/x", {})
    assert (405, "OPTIONS, POST") == ((answer := shelves.ask("GET", "/ann/x:search")).status, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/library.v1.Annotated/Unbound", "/library.v1.Annotated/Get"])
def test_a_method_is_not_reachable_by_its_grpc_path(shelves, path):
    assert 404 == shelves.ask("POST", path, {}).status
