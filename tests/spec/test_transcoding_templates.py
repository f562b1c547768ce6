"""The spec's section "Path templates", line by line, through a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.plan import plan
from gateway.source import ConfigError
from tests.spec.contract import HERE
from tests.spec.library import EDIT, Library, call, library, route

ROUTES = "".join(
    (
        route('"GET /one/{a_string}"'),
        route('"GET /same/{a_string=*}"'),
        route('"GET /shelves/{a_string=shelves/*/books/*}"'),
        route('"GET /files/{a_string=files/**}"'),
        route('"GET /all/{a_string=**}"'),
        route('"GET /dotted/{inner.a_string}/and/{inner.inner.an_int32}"'),
        route('"GET /json/{inner.aString}"'),
        route('"GET /any/*/end"', '"GET /rest/**"'),
        # Specificity, told apart by the field that each binds.
        route('"GET /c/{a_string}/d/e"', '"GET /c/f/d/e"', '"GET /c/{left}/d/**"'),
        # Verbs.
        route('"GET /v/{a_string}"', call("POST /v/{a_string}:cancel", body=""), '"GET /v/{left}:watch"'),
        route('"GET /w/{a_string=**}:zip"', call("PUT /w/{left=**}", body="")),
        route('"GET /x/literal:go"', '"GET /x/{a_string}"'),
        # Methods.
        route('"GET /m/{a_string}"', call("POST /m/{a_string}", body="")),
        route('"DELETE /m/only"'),
        route('"GET /a/**"'),
        route(call("PATCH /typed/{an_int32}/{a_bool}/{colour}/{time}", body=""), '"GET /bytes/{some_bytes}"'),
    )
)


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with library(ROUTES, tmp_path_factory.mktemp("library")) as running:
        yield running


def problems(tmp_path: Path, *calls: str, method: str = EDIT) -> str:
    """What is told of routes that cannot be loaded."""
    (tmp_path / "gateway.yaml").write_text(f"""
contracts: [{HERE}/library.proto]
listeners: {{rest: {{kind: rest, bind: "127.0.0.1:0"}}}}
backends: {{library: {{kind: grpc, address: "127.0.0.1:1"}}}}
routes:
{"".join(route(one, method=method) for one in calls)}""")
    with pytest.raises(ConfigError) as told:
        plan(tmp_path / "gateway.yaml")
    return str(told.value)


# Grammar.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/one/x", {"aString": "x"}),
        ("/same/x", {"aString": "x"}),
        ("/shelves/shelves/1/books/2", {"aString": "shelves/1/books/2"}),
        ("/files/files", {"aString": "files"}),
        ("/files/files/a", {"aString": "files/a"}),
        ("/files/files/a/b/c", {"aString": "files/a/b/c"}),
        ("/all", {}),
        ("/all/a", {"aString": "a"}),
        ("/all/a/b", {"aString": "a/b"}),
        ("/dotted/x/and/7", {"inner": {"aString": "x", "inner": {"anInt32": 7}}}),
        ("/json/x", {"inner": {"aString": "x"}}),
        ("/any/x/end", {}),
        ("/rest", {}),
        ("/rest/a/b", {}),
    ],
)
def test_segments_are_wildcards_literals_and_variables_of_one_segment_or_several(shelves, path, message):
    assert message == shelves.told("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/one",
        "/one/x/y",
        "/shelves/shelves/1/books",
        "/shelves/shelves/1/books/2/3",
        "/shelves/x/1/books/2",
        "/files/other",
        "/any/end",
    ],
)
def test_a_wildcard_is_one_segment_and_no_path_matches_in_part(shelves, path):
    assert 404 == shelves.ask("GET", path).status


# Refused at load.


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a", "starts with /"),
        ("//", "an empty segment"),
        ("/a//b", "an empty segment"),
        ("/a/", "an empty segment"),
        ("/{}", "a variable is written"),
        ("/{1}", "a variable is written"),
        ("/a/**/*", "** must be last"),
        ("/a/**/x", "** must be last"),
        ("/a*", "whole segments"),
        ("/a{shelf}", "a whole segment"),
        ("/{shelf=/a}", "an empty segment"),
        ("/a?b=c", "a query string is no part of a path"),
        ("/a b", "white space"),
        ("/a ", "white space"),
        (" /a", "starts with /"),
        ("/a:", "an empty verb"),
        ("/a%2", "a malformed %-escape"),
        ("/a%zz", "a malformed %-escape"),
        ("/{shelf={book.name}}", "inside another"),
        ("/{shelf}/{shelf}", "stands in it twice"),
        ("/{nothing}", "{nothing} is no field of library.v1.Edit"),
        ("/{book.nothing}", "{book.nothing} is no field of library.v1.Edit"),
        ("/{shelf.name}", "{shelf.name} is no field of library.v1.Edit"),
        ("/{book}", "{book} is a message"),
        ("/{book.author}", "{book.author} is a message"),
        ("/{book.tags}", "{book.tags} is repeated"),
        ("/{book.others}", "{book.others} is a list of messages"),
        ("/{book.others.name}", "is a list of messages"),
        ("/{book.labels}", "{book.labels} is a map"),
        ("/{book.labels.x}", "is a map"),
        ("/{book.extra}", "{book.extra} is a message"),
        ("/{book.paper}/{book.screen}", "stands beside paper"),
        ("/{update_mask}/{updateMask}", "is set by the path"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_loading_with_the_reason(tmp_path, pattern, why):
    told = problems(tmp_path, f'"GET {pattern}"')
    assert why in told
    assert "gateway.yaml:6 " in told


@pytest.mark.parametrize("empty", ['"GET "', '"GET"', '""'])
def test_an_empty_template_is_refused_when_loading(tmp_path, empty):
    assert "gateway.yaml:6 " in problems(tmp_path, empty)


@pytest.mark.parametrize(
    ("one", "other"),
    [("/a/{shelf}", "/a/{book.name}"), ("/a/**", "/a/{shelf=**}"), ("/{shelf=a/*}", "/a/{shelf}"), ("/a/*:v", "/a/{shelf}:v")],
)
def test_one_method_and_pattern_twice_is_refused_when_loading_naming_both(tmp_path, one, other):
    told = problems(tmp_path, f'"GET {one}"', f'"GET {other}"')
    assert f"GET {other} is taken by route" in told
    assert "gateway.yaml:7 " in told
    assert "on line 6" in told


# Matching.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/c/f/d/e", {}),
        ("/c/x/d/e", {"aString": "x"}),
        ("/c/f/d/x", {"left": "f"}),
        ("/c/f/d", {"left": "f"}),
        ("/c/f/d/e/g", {"left": "f"}),
        ("/c/x/d/e/g/h", {"left": "x"}),
    ],
)
def test_a_literal_beats_one_wildcard_which_beats_two_with_backtracking(shelves, path, message):
    assert message == shelves.told("GET", path)


@pytest.mark.parametrize("path", ["/a" + "/" * 64_000, "/a" + "/" * 64_000 + "x"])
def test_64000_slashes_neither_overflow_nor_match(shelves, path):
    assert 404 == shelves.ask("GET", path).status


def test_64000_segments_are_matched(shelves):
    assert 200 == shelves.ask("GET", "/a" + "/x" * 64_000).status
    assert {"aString": "/".join("x" * 64_000)} == shelves.told("GET", "/all" + "/x" * 64_000)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/v/7:cancel", {"aString": "7"}),
        ("POST", "/v/7:8:cancel", {"aString": "7:8"}),
        ("GET", "/v/7:watch", {"left": "7"}),
        ("GET", "/v/7:other", {"aString": "7:other"}),
        ("GET", "/v/7:", {"aString": "7:"}),
        ("GET", "/v/7%3Acancel", {"aString": "7:cancel"}),
        ("GET", "/v/7%3awatch", {"aString": "7:watch"}),
        ("GET", "/w/a/b:zip", {"aString": "a/b"}),
        ("GET", "/w:zip", {}),
        ("PUT", "/w/a/b%3Azip", {"left": "a/b:zip"}),
        ("PUT", "/w/a:zip/b", {"left": "a:zip/b"}),
        ("GET", "/x/literal:go", {}),
        ("GET", "/x/other:go", {"aString": "other:go"}),
    ],
)
def test_a_last_colon_is_a_verb_where_the_pattern_has_it_and_else_a_part_of_the_value(shelves, method, path, message):
    assert message == shelves.told(method, path)


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", "/v/7:cancel", "OPTIONS, POST"), ("PUT", "/w/a:zip", "GET, HEAD, OPTIONS")]
)
def test_a_verb_under_another_method_is_405(shelves, method, path, allow):
    answer = shelves.ask(method, path)
    assert (405, allow) == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/a/", "/a/b/", "/all/", "/files/files/", "/rest/x/"])
def test_an_empty_last_segment_does_not_match(shelves, path):
    assert 404 == shelves.ask("GET", path).status


@pytest.mark.parametrize("path", ["/v/:watch", "/w/:zip", "/w/a/:zip", "/w/a/b/:zip", "/w/a/..:zip", "/w/a/%2e:zip"])
def test_a_verb_behind_an_empty_last_segment_does_not_match(shelves, path):
    assert 404 == shelves.ask("GET", path).status


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/m/x", 405, "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/m/only", 405, "DELETE, GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/a/b", 405, "GET, HEAD, OPTIONS"),
        ("GET", "/nowhere", 404, None),
        ("POST", "/nowhere", 404, None),
        ("TRACE", "/m/x", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    ],
)
def test_a_wrong_method_is_405_with_allow_and_no_route_is_404(shelves, method, path, status, allow):
    answer = shelves.ask(method, path)
    assert (status, allow) == (answer.status, answer.headers.get("allow"))


@pytest.mark.parametrize("headers", [{"content_type": "text/weird"}, {"accept": "image/png"}, {"content_encoding": "br"}])
def test_what_else_is_wrong_with_a_request_does_not_hide_that_it_has_no_route(shelves, headers):
    assert 404 == shelves.ask("POST", "/nowhere", b"x", **headers).status
    assert 405 == shelves.ask("PUT", "/m/x", b"x", **headers).status


def test_501_is_for_a_method_that_http_does_not_know(shelves):
    assert [501, 501] == [shelves.ask("FETCH", path).status for path in ("/m/x", "/nowhere")]


@pytest.mark.parametrize("path", ["/one/x/", "/any/x/end/", "/c/f/d/e/g/", "/v/7:watch/"])
def test_a_trailing_slash_does_not_match(shelves, path):
    assert 404 == shelves.ask("GET", path).status


# Decoding.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/one/a%2Fb", {"aString": "a/b"}),
        ("/one/a%2fb", {"aString": "a/b"}),
        ("/one/a+b", {"aString": "a+b"}),
        ("/one/a%2Bb", {"aString": "a+b"}),
        ("/one/a%20b", {"aString": "a b"}),
        ("/one/%C3%A9", {"aString": "\u00e9"}),
        ("/one/%23", {"aString": "#"}),
        ("/one/%2523", {"aString": "%23"}),
        ("/one/a%3Fb%26c", {"aString": "a?b&c"}),
        ("/one/;a=b,c", {"aString": ";a=b,c"}),
        ("/%6Fne/x", {"aString": "x"}),
    ],
)
def test_a_variable_of_one_segment_decodes_every_escape_and_never_a_plus(shelves, path, message):
    assert message == shelves.told("GET", path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/all/a%2Fb/c", "a%2Fb/c"),
        ("/all/a%2fb/c", "a%2fb/c"),
        ("/all/a%2Fb", "a%2Fb"),
        ("/all/a%20b/%23/%2523", "a b/#/%23"),
        ("/all/a+b/c", "a+b/c"),
        ("/files/files/%C3%A9%2F", "files/\u00e9%2F"),
        ("/shelves/shelves/1%2f2/books/a%20b", "shelves/1%2f2/books/a b"),
        ("/shelves/shelves/1%2F2/books/%3A", "shelves/1%2F2/books/:"),
    ],
)
def test_a_variable_of_several_segments_decodes_all_but_slashes_in_the_case_they_came_in(shelves, path, value):
    assert {"aString": value} == shelves.told("GET", path)


@pytest.mark.parametrize(
    "path", ["/one/%", "/one/%2", "/one/%zz", "/one/a%2", "/all/a/%g0", "/all/%ff", "/one/%00", "/nowhere/%zz"]
)
def test_a_malformed_escape_is_400(shelves, path):
    assert [] == shelves.refused("GET", path)


def test_a_plus_in_the_query_is_a_space(shelves):
    assert {"aString": "x", "left": "a b+c"} == shelves.told("GET", "/one/x?left=a+b%2Bc")


# Types, in the path as in the query.


def test_a_value_in_the_path_is_read_by_the_type_of_its_field(shelves):
    message = {"anInt32": 10, "aBool": True, "colour": "GREEN", "time": "2026-01-02T03:04:05Z"}
    assert message == shelves.told("PATCH", "/typed/010/true/2/2026-01-02T03:04:05Z")
    assert {"someBytes": "+/+/"} == shelves.told("GET", "/bytes/-_-_")
    assert {"someBytes": "+/+/"} == shelves.told("GET", "/bytes/+%2F+%2F")


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/typed/1.0/true/RED/2026-01-02T03:04:05Z", "/anInt32"),
        ("/typed/1e2/true/RED/2026-01-02T03:04:05Z", "/anInt32"),
        ("/typed/2147483648/true/RED/2026-01-02T03:04:05Z", "/anInt32"),
        ("/typed/1/1/RED/2026-01-02T03:04:05Z", "/aBool"),
        ("/typed/1/true/BLUE/2026-01-02T03:04:05Z", "/colour"),
        ("/typed/1/true/RED/yesterday", "/time"),
    ],
)
def test_a_value_in_the_path_that_is_not_of_its_type_is_400_with_the_fields_path(shelves, path, pointer):
    assert [pointer] == shelves.refused("PATCH", path)
