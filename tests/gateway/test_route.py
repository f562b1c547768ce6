"""The router, against a plain model of it as well."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.message import Many
from gateway.route import Endpoint, PatternError, Table, decode, segments_of
from gateway.status import allowed


async def _handler(_exchange):
    pass


def table(*routes: str, protocol: str = "rest") -> Table:
    """Routes named by what they match: "GET /a", or "/a" for other protocols."""
    made = Table(lambda _protocol, error: Endpoint(f"miss {error.reason.value}", _handler))
    for route in routes:
        method, _, pattern = route.rpartition(" ")
        assert made.add(protocol, method, pattern, Endpoint(route, _handler)) is None
    return made


def found(routes: Table, target: str, protocol: str = "rest") -> tuple[str, dict[str, str]]:
    """Which route, with what."""
    hit = routes.find(protocol, target)
    return hit.endpoint.route, dict(hit.params)


@pytest.mark.parametrize(
    ("target", "route", "params"),
    [
        ("GET /", "GET /", {}),
        ("GET /orders", "GET /orders", {}),
        ("POST /orders/7", "POST /orders/{id}", {"id": "7"}),
        ("GET /orders/new", "GET /orders/new", {}),
        ("POST /orders/new", "POST /orders/{id}", {"id": "new"}),
        ("GET /orders/7/lines", "GET /orders/{id}/lines", {"id": "7"}),
        ("GET /orders/new/lines", "GET /orders/{id}/lines", {"id": "new"}),
        ("GET /files/a/b", "GET /files/{path=**}", {"path": "a/b"}),
        ("GET /files", "GET /files/{path=**}", {"path": ""}),
        ("GET /any/x/end", "GET /any/*/end", {}),
        ("GET /any/x/y", "GET /**", {}),
        ("GET /two/1/2", "GET /two/{a}/{b}", {"a": "1", "b": "2"}),
    ],
)
def test_the_most_specific_route_has_the_call(target, route, params):
    routes = table(
        "GET /",
        "GET /orders",
        "POST /orders/{id}",
        "GET /orders/new",
        "GET /orders/{id}/lines",
        "GET /files/{path=**}",
        "GET /any/*/end",
        "GET /two/{a}/{b=*}",
        "GET /**",
    )
    renamed = {"GET /two/{a}/{b=*}": "GET /two/{a}/{b}"}
    name, got = found(routes, target)
    assert (route, params) == (renamed.get(name, name), got)


def test_variables_of_two_routes_may_have_different_names_in_the_same_place():
    routes = table("GET /{a}", "POST /{b}")
    assert ("GET /{a}", {"a": "1"}) == found(routes, "GET /1")
    assert ("POST /{b}", {"b": "1"}) == found(routes, "POST /1")


def test_a_head_is_answered_by_get_unless_it_has_its_own():
    routes = table("GET /a", "GET /b", "HEAD /b")
    assert "GET /a" == found(routes, "HEAD /a")[0]
    assert "HEAD /b" == found(routes, "HEAD /b")[0]


def test_a_wrong_method_is_told_from_a_path_that_nobody_has():
    routes = table("GET /a", "POST /a", "POST /b", "DELETE /**")
    miss = routes.find("rest", "PUT /a")
    assert Reason.WRONG_METHOD is miss.error.reason
    assert ("DELETE", "GET", "HEAD", "OPTIONS", "POST") == allowed(miss.error)
    assert ("DELETE", "OPTIONS", "POST") == allowed(routes.find("rest", "GET /b").error)
    assert "miss wrong_method" == miss.endpoint.route
    assert "miss not_found" == found(table("GET /a"), "GET /b")[0]


def test_other_protocols_have_no_method_and_their_own_words():
    routes = table("/shop.v1.Orders/Place", protocol="grpc")
    assert ("/shop.v1.Orders/Place", {}) == found(routes, "/shop.v1.Orders/Place", "grpc")
    assert Reason.NO_METHOD is routes.find("grpc", "/shop.v1.Orders/Take").error.reason
    assert Reason.NOT_FOUND is routes.find("websocket", "/shop.v1.Orders/Place").error.reason


def test_a_found_route_has_no_error_and_says_what_streams():
    routes = Table(lambda _protocol, _error: Endpoint("", _handler))
    routes.add("rest", "GET", "/feed", Endpoint("feed", _handler, Many.REPLIES, ("text/plain",)))
    hit = routes.find("rest", "GET /feed")
    assert (None, Many.REPLIES, ("text/plain",)) == (hit.error, hit.endpoint.many, hit.endpoint.offers)


@pytest.mark.parametrize(
    "path", ["/../a", "/a/..", "/%2e%2e/a", "/.%2E/a", "/./a", "/%2e", "//", "//a", "/a//b", "/a/", "", "*", "a", "xa", "?"]
)
def test_dots_empty_segments_and_what_is_no_path_are_never_data(path):
    assert "miss not_found" == found(table("GET /**", "GET /{x}", "GET /a", "GET /{x}/{y}"), f"GET {path}")[0]


@pytest.mark.parametrize("path", ["/%", "/%2", "/%zz", "/a%0", "/%00", "/a%00b", "/%ff", "/%c3", "/%ed%a0%80"])
def test_a_path_that_cannot_be_decoded_is_malformed(path):
    assert "miss malformed" == found(table("GET /**", "GET /{x}"), f"GET {path}")[0]


def test_what_was_escaped_is_one_segment():
    routes = table("GET /{x}", "GET /files/{path=**}", "GET /a%20b", "GET /c+d")
    assert {"x": "a/b"} == found(routes, "GET /a%2Fb")[1]
    assert {"x": "a+b"} == found(routes, "GET /a+b")[1]
    assert {"path": "a%2Fb/c d/%2f"} == found(routes, "GET /files/a%2Fb/c%20d/%2f")[1]
    assert {"path": "\u00e9%2F\u00e9"} == found(routes, "GET /files/%C3%A9%2F%C3%A9")[1]
    assert "GET /a%20b" == found(routes, "GET /a%20b")[0]
    assert "GET /c+d" == found(routes, "GET /%63+d")[0]


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text not in {".", ".."}))
def test_any_text_comes_through_a_segment(text):
    try:
        escaped = quote(text, safe="")
    except UnicodeEncodeError:
        return  # a lone surrogate is no text that a path can hold
    assert ("GET /a/{x}", {"x": text}) == found(table("GET /a/{x}"), f"GET /a/{escaped}")
    assert text == decode(escaped)


@given(st.text(max_size=30), st.sampled_from(["rest", "grpc", "nowhere"]))
def test_whatever_is_asked_the_router_answers(target, protocol):
    hit = table("GET /{x}", "GET /**").find(protocol, target)
    assert (hit.error is None) == (not hit.endpoint.route.startswith("miss"))


def test_the_same_pattern_twice_is_told_with_the_first_ones_name():
    routes = table("GET /a/{x}/b", "GET /c/**")
    assert "GET /a/{x}/b" == routes.add("rest", "GET", "/a/{y}/b", Endpoint("second", _handler))
    assert "GET /c/**" == routes.add("rest", "GET", "/c/{rest=**}", Endpoint("second", _handler))
    assert None is routes.add("rest", "POST", "/a/{y}/b", Endpoint("second", _handler))
    assert ("GET /a/{x}/b", {"x": "1"}) == found(routes, "GET /a/1/b")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a", "starts with /"),
        ("", "starts with /"),
        ("//", "an empty segment"),
        ("/a/", "an empty segment"),
        ("/**/a", "must be last"),
        ("/{a=**}/b", "must be last"),
        ("/{a}/{a}", "stands in it twice"),
        ("/{1a}", "a variable is written"),
        ("/{}", "a variable is written"),
        ("/{a=b}", "a variable is written"),
        ("/x{a}", "a character that a path cannot hold"),
        ("/a b", "a character that a path cannot hold"),
        ("/a?b", "a character that a path cannot hold"),
        ("/%zz", "a character that a path cannot hold"),
        ("/\u00e9", "a character that a path cannot hold"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_the_reason(pattern, why):
    with pytest.raises(PatternError, match=why):
        segments_of(pattern)


@pytest.mark.parametrize("pattern", ["/%ff", "/%00"])
def test_a_literal_that_no_path_decodes_to_is_refused(pattern):
    with pytest.raises((PatternError, CallerError)):
        segments_of(pattern)


# The model: try every pattern, and take the one whose segments are more literal, from the left.

RANK = {"literal": 0, "any": 1, "rest": 2}


def _model(routes: list[tuple[str, str]], method: str, path: str) -> tuple[str, dict[str, str]] | None:
    parts = path[1:].split("/")
    hits = []
    for route_method, pattern in routes:
        kinds = segments_of(pattern)
        params: dict[str, str] = {}
        rest = kinds[-1][0] == "rest"
        single = kinds[:-1] if rest else kinds
        if len(parts) < len(single) or (not rest and len(parts) > len(single)):
            continue
        if any(kind == "literal" and name != part for (kind, name), part in zip(single, parts, strict=False)):
            continue
        params = {name: part for (kind, name), part in zip(single, parts, strict=False) if kind == "any"}
        if rest:
            params[kinds[-1][1]] = "/".join(parts[len(single) :])
        if method != route_method and not (method == "HEAD" and route_method == "GET"):
            continue
        params.pop("", None)
        order = ([RANK[kind] for kind, _ in kinds], route_method != method)
        hits.append((order, f"{route_method} {pattern}", params))
    if not hits:
        return None
    _, name, params = min(hits)
    return name, params


_literals = st.sampled_from(["a", "b"])
_singles = st.lists(st.one_of(_literals, st.just("*")), max_size=3)


@st.composite
def _routes(draw):
    chosen: dict[tuple[str, str], None] = {}
    for kinds in draw(st.lists(_singles, min_size=1, max_size=12)):
        segments = [f"{{v{at}}}" if kind == "*" else kind for at, kind in enumerate(kinds)]
        if draw(st.booleans()):
            segments.append("{r=**}")
        chosen[draw(st.sampled_from(["GET", "POST", "HEAD"])), "/" + "/".join(segments)] = None
    return list(chosen)


@given(_routes(), st.sampled_from(["GET", "POST", "HEAD"]), st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5))
def test_the_tree_finds_what_trying_every_pattern_would(routes, method, parts):
    path = "/" + "/".join(parts)
    hit = table(*(f"{route_method} {pattern}" for route_method, pattern in routes)).find("rest", f"{method} {path}")
    expected = _model(routes, method, path)
    if expected is None:
        assert hit.error is not None
    else:
        assert expected == (hit.endpoint.route, dict(hit.params))
