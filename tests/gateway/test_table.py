"""The router, against a plain model of it as well."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.message import Headers, Many
from gateway.pattern import Segment, decode, pattern_of
from gateway.route import Endpoint, Facts
from gateway.status import allowed
from gateway.table import Table


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


@pytest.mark.parametrize("protocol", ["grpc", "grpc_web", "connect"])
def test_protocols_of_methods_have_no_method_where_others_have_no_path(protocol):
    routes = table("/shop.v1.Orders/Place", protocol=protocol)
    assert ("/shop.v1.Orders/Place", {}) == found(routes, "/shop.v1.Orders/Place", protocol)
    assert Reason.NO_METHOD is routes.find(protocol, "/shop.v1.Orders/Take").error.reason
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
    ("target", "route", "params"),
    [
        ("GET /c/f/d/e", "GET /c/f/d/e", {}),
        ("GET /c/x/d/e", "GET /c/*/d/e", {}),
        ("GET /c/f/d/x", "GET /c/*/d/**", {}),
        ("GET /c/x/d", "GET /c/*/d/**", {}),
        ("GET /c/f/d/e/g", "GET /c/*/d/**", {}),
        ("GET /c/f/x", "miss not_found", {}),
    ],
)
def test_the_way_back_from_a_more_specific_pattern_that_does_not_end_is_found(target, route, params):
    assert (route, params) == found(table("GET /c/*/d/e", "GET /c/f/d/e", "GET /c/*/d/**"), target)


@pytest.mark.parametrize(
    ("target", "params"),
    [
        ("GET /v1/shelves/1/books/2", {"name": "shelves/1/books/2"}),
        ("GET /v1/shelves/1%2F2/books/%C3%A9", {"name": "shelves/1%2F2/books/\u00e9"}),
        ("GET /v1/shelves/1%2f2/books/a%20b", {"name": "shelves/1%2f2/books/a b"}),
        ("GET /v1/files", {"name": "files"}),
        ("GET /v1/files/a/b", {"name": "files/a/b"}),
        ("GET /v1/files/a%2fb/c", {"name": "files/a%2fb/c"}),
        ("GET /v1/one", {"name": "one"}),
        ("GET /w/a%2Fb/c", {"shelf.name": "a/b", "id": "c"}),
        ("GET /w/%2523/%23", {"shelf.name": "%23", "id": "#"}),
    ],
)
def test_a_variable_may_be_several_segments_and_a_field_of_a_field(target, params):
    routes = table("GET /v1/{name=shelves/*/books/*}", "GET /v1/{name=files/**}", "GET /v1/{name=*}", "GET /w/{shelf.name}/{id}")
    assert params == found(routes, target)[1]


@pytest.mark.parametrize("path", ["/v1/shelves/1/books", "/v1/shelves/1/books/2/3", "/v1/shelves/1/x/2", "/v1/files/", "/v1/"])
def test_a_variable_of_several_segments_takes_just_what_it_says(path):
    routes = table("GET /v1/{name=shelves/*/books/*}", "GET /v1/{name=files/**}", "GET /v1/{name=*}")
    assert "miss not_found" == found(routes, f"GET {path}")[0]


VERBS = ("GET /v1/{id}", "POST /v1/{id}:cancel", "GET /v1/{id}:watch", "DELETE /v1/new", "GET /f/{p=**}:zip", "PUT /f/{p=**}")


@pytest.mark.parametrize(
    ("target", "route", "params"),
    [
        ("POST /v1/7:cancel", "POST /v1/{id}:cancel", {"id": "7"}),
        ("POST /v1/7:8:cancel", "POST /v1/{id}:cancel", {"id": "7:8"}),
        ("POST /v1/7%3A8:cancel", "POST /v1/{id}:cancel", {"id": "7:8"}),
        ("POST /v1/new:cancel", "POST /v1/{id}:cancel", {"id": "new"}),
        ("POST /v1/7:can%63el", "POST /v1/{id}:cancel", {"id": "7"}),
        ("GET /v1/7:cancel", "miss wrong_method", {}),
        ("GET /v1/7:watch", "GET /v1/{id}:watch", {"id": "7"}),
        ("HEAD /v1/7:watch", "GET /v1/{id}:watch", {"id": "7"}),
        ("GET /v1/7:other", "GET /v1/{id}", {"id": "7:other"}),
        ("GET /v1/7:", "GET /v1/{id}", {"id": "7:"}),
        ("GET /v1/7:zip", "GET /v1/{id}", {"id": "7:zip"}),
        ("GET /v1/7%3Acancel", "GET /v1/{id}", {"id": "7:cancel"}),
        ("GET /v1/7%3awatch", "GET /v1/{id}", {"id": "7:watch"}),
        ("POST /v1/7", "miss wrong_method", {}),
        ("GET /v1/:watch", "miss not_found", {}),
        ("GET /v1/..:watch", "miss not_found", {}),
        ("GET /v1/%2e:watch", "miss not_found", {}),
        ("GET /v1/7:watch/", "miss not_found", {}),
        ("GET /f/a/b:zip", "GET /f/{p=**}:zip", {"p": "a/b"}),
        ("GET /f/a%2Fb/c%20d:zip", "GET /f/{p=**}:zip", {"p": "a%2Fb/c d"}),
        ("GET /f:zip", "GET /f/{p=**}:zip", {"p": ""}),
        ("GET /f/:zip", "miss not_found", {}),
        ("PUT /f/a/b:zip", "miss wrong_method", {}),
        ("PUT /f/a:b/c", "PUT /f/{p=**}", {"p": "a:b/c"}),
        ("PUT /f/a/b:c", "PUT /f/{p=**}", {"p": "a/b:c"}),
        ("PUT /f/a/b%3Azip", "PUT /f/{p=**}", {"p": "a/b:zip"}),
    ],
)
def test_a_last_colon_begins_a_verb_where_the_pattern_has_that_verb_under_any_method(target, route, params):
    assert (route, params) == found(table(*VERBS), target)


def test_the_methods_of_a_verb_are_told_and_not_those_of_the_pattern_without_it():
    assert ("OPTIONS", "POST") == allowed(table(*VERBS).find("rest", "GET /v1/7:cancel").error)


def test_literals_that_hold_a_colon_are_told_from_verbs():
    routes = table("GET /a:b", "GET /a%3Ab", "GET /c%3Ad", "GET /e:f/g")
    assert "GET /a:b" == found(routes, "GET /a:b")[0]
    assert "GET /a%3Ab" == found(routes, "GET /a%3Ab")[0]
    assert "GET /c%3Ad" == found(routes, "GET /c:d")[0]
    assert "GET /e:f/g" == found(routes, "GET /e%3Af/g")[0]
    # Where the literal's own pattern has the verb too, only the escaped colon is the literal's.
    both = table("GET /a%3Av", "GET /a%3Av:v", "GET /{x}")
    assert ["GET /{x}", "GET /a%3Av", "GET /a%3Av:v"] == [found(both, f"GET /{path}")[0] for path in ("a:v", "a%3Av", "a:v:v")]


def test_a_slash_at_the_end_does_not_match():
    routes = table("GET /", "GET /a", "GET /a/**", "GET /b/{x}")
    assert ["GET /", "GET /a", "GET /a/**", "GET /b/{x}"] == [
        found(routes, f"GET {path}")[0] for path in ("/", "/a", "/a/b", "/b/c")
    ]
    assert {"miss not_found"} == {found(routes, f"GET {path}")[0] for path in ("/a/", "/a/b/", "/b/", "/b/c/", "/a/%20/")}


def test_the_root_has_no_segment_that_a_wildcard_could_be():
    routes = table("GET /{x}", "GET /*/a", "POST /**")
    assert ("POST /**", {}) == found(routes, "POST /")
    assert "miss wrong_method" == found(routes, "GET /")[0]
    assert "miss not_found" == found(table("GET /{x}", "GET /*:v"), "GET /")[0]


def test_a_route_of_every_method_takes_what_others_do_not_name():
    routes = table("* /a", "GET /a", "* /b/{x}")
    assert ["GET /a", "GET /a", "* /a", "* /b/{x}"] == [
        found(routes, target)[0] for target in ("GET /a", "HEAD /a", "POST /a", "PUT /b/1")
    ]


@pytest.mark.parametrize("pattern", ["/a/**", "/a/{x=**}", "/a/*/x", "/**", "/a/**:v"])
@pytest.mark.parametrize("path", ["/a" + "/" * 64_000, "/a" + "/x" * 64_000, "/a/" + "%2F" * 64_000, "/a/" + "x:v" * 64_000])
def test_a_long_path_is_answered(pattern, path):
    hit = table(f"GET {pattern}").find("rest", f"GET {path}")
    assert hit.error is None or hit.error.reason is Reason.NOT_FOUND


# Conditions.


class If:
    """A header that must be there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, If) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self, facts: Facts) -> bool:
        return facts.headers.get(self.name) is not None


def conditional(*routes: tuple[str, str, str | None]) -> Table:
    """Routes of one protocol as (name, call, header that must be there)."""
    made = table()
    for name, route, wanted in routes:
        method, _, pattern = route.rpartition(" ")
        assert made.add("rest", method, pattern, Endpoint(name, _handler, condition=If(wanted) if wanted else None)) is None
    return made


@pytest.mark.parametrize(
    ("target", "headers", "route"),
    [
        ("GET /a", [], "plain"),
        ("GET /a", ["x"], "x"),
        ("GET /a", ["y"], "y"),
        ("GET /a", ["y", "x"], "x"),
        ("HEAD /a", ["y"], "y"),
        ("GET /b/c", ["x"], "literal"),
        ("GET /b/c", ["y"], "variable"),
        ("GET /b/c", [], "rest"),
        ("GET /d", [], "miss not_found"),
        ("POST /d", [], "miss wrong_method"),
    ],
)
def test_a_condition_that_does_not_hold_leaves_the_call_to_the_next_and_then_to_less_specific_patterns(target, headers, route):
    routes = conditional(
        ("plain", "GET /a", None),
        ("x", "GET /a", "x"),
        ("y", "GET /a", "y"),
        ("literal", "GET /b/c", "x"),
        ("variable", "GET /b/{v}", "y"),
        ("rest", "GET /b/**", None),
        ("alone", "GET /d", "x"),
    )
    assert route == routes.find("rest", target, Headers((name, "1") for name in headers)).endpoint.route


def test_a_condition_is_asked_of_all_that_is_known_of_the_call():
    asked: list[Facts] = []
    routes = table()

    def condition(facts: Facts) -> bool:
        asked.append(facts)
        return facts.params == {"x": "1"}

    routes.add("rest", "GET", "/a/{x}", Endpoint("r", _handler, condition=condition))
    headers, query = Headers((("h", "1"),)), (("q", "2"),)
    assert "r" == routes.find("rest", "GET /a/1", headers, query).endpoint.route
    assert "miss not_found" == routes.find("rest", "GET /a/2", headers, query).endpoint.route
    assert [Facts("rest", f"GET /a/{x}", {"x": x}, headers, query) for x in "12"] == asked


def test_one_pattern_may_have_several_routes_where_their_conditions_differ():
    routes = conditional(("x", "GET /a", "x"), ("plain", "GET /a", None))
    assert "x" == routes.add("rest", "GET", "/a", Endpoint("again", _handler, condition=If("x")))
    assert "plain" == routes.add("rest", "GET", "/a", Endpoint("again", _handler))
    assert None is routes.add("rest", "GET", "/a", Endpoint("y", _handler, condition=If("y")))


def test_a_condition_that_cannot_be_asked_is_the_answer():
    def condition(_facts: Facts) -> bool:
        raise CallerError(Reason.MALFORMED, "no")

    routes = table()
    routes.add("rest", "GET", "/a", Endpoint("r", _handler, condition=condition))
    assert Reason.MALFORMED is routes.find("rest", "GET /a").error.reason


# The model: try every pattern, and take the one whose segments are more literal, from the left.

RANK = {"literal": 1, "any": 2, "rest": 3}


def _fits(segments: tuple[Segment, ...], parts: list[str]) -> bool:
    if not segments:
        return not parts
    kind, text = segments[0]
    if kind == "rest":
        return True
    return bool(parts) and (kind == "any" or text == parts[0]) and _fits(segments[1:], parts[1:])


def _model(routes: list[tuple[str, str]], method: str, path: str) -> tuple[str, dict[str, str]] | None:
    patterns = [(route_method, pattern, pattern_of(pattern)) for route_method, pattern in routes]
    hits = []
    for route_method, text, pattern in patterns:
        parts = path[1:].split("/")
        short, colon, verb = parts[-1].rpartition(":")
        if colon and any(verb == other.verb and other.segments == pattern.segments for _, _, other in patterns):
            parts[-1] = short
        else:
            verb = ""
        wanted = {method, "*", *(["GET"] if method == "HEAD" else [])}
        if verb != pattern.verb or route_method not in wanted or "" in parts:
            continue
        if not _fits(pattern.segments, parts):
            continue
        order = [RANK[kind] for kind, _ in pattern.segments]
        if verb and len(order) >= len(parts) and pattern.segments[len(parts) - 1].kind == "literal":
            order[len(parts) - 1] = 0  # the shorter literal and its verb come before the longer literal
        params = {name: "/".join(parts[start:stop]) for name, start, stop in pattern.variables}
        hits.append((order, [method, "GET", "*"].index(route_method), f"{route_method} {text}", params))
    if not hits:
        return None
    _, _, name, params = min(hits)
    return name, params


_kinds = st.lists(st.sampled_from(["a", "b", "a%3Av", "*", "*"]), max_size=4)


@st.composite
def _routes(draw):
    chosen: dict[tuple[str, str, str], str] = {}
    for fixed in draw(st.lists(_kinds, min_size=1, max_size=12)):
        kinds = [*fixed, "**"] if draw(st.booleans()) or not fixed else fixed
        low = draw(st.integers(0, len(kinds) - 1))
        high = draw(st.integers(low + 1, len(kinds)))
        variable = f"{{v={'/'.join(kinds[low:high])}}}"
        verb = draw(st.sampled_from(["", "", ":v", ":w"]))
        method = draw(st.sampled_from(["GET", "POST", "HEAD", "*"]))
        chosen[method, "/".join(kinds), verb] = "/" + "/".join([*kinds[:low], variable, *kinds[high:]]) + verb
    return [(method, pattern) for (method, _, _), pattern in chosen.items()]


_parts = st.lists(st.sampled_from(["a", "b", "c", "a:v", "a:w", "c:x"]), min_size=1, max_size=6)


@given(_routes(), st.sampled_from(["GET", "POST", "HEAD"]), _parts)
def test_the_tree_finds_what_trying_every_pattern_would(routes, method, parts):
    path = "/" + "/".join(parts)
    hit = table(*(f"{route_method} {pattern}" for route_method, pattern in routes)).find("rest", f"{method} {path}")
    expected = _model(routes, method, path)
    if expected is None:
        assert hit.error is not None
    else:
        assert expected == (hit.endpoint.route, dict(hit.params))
