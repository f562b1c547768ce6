from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.binding import Binding, PlannedRoute, _samples, check_calls, labelled
from gateway.config import Config
from gateway.file import FileConfig
from gateway.message import Many
from gateway.source import Source
from gateway.target import TargetConfig


def routes(*patterns: str) -> list[PlannedRoute]:
    to = TargetConfig(backend="b")
    return [
        PlannedRoute(
            f"r{n}",
            to,
            None,
            None,
            (Binding("rest", f"GET {pattern}", "GET", pattern, Many.NEITHER, False, (), None, ("routes", n)),),
            ("routes", n),
            {},
        )
        for n, pattern in enumerate(patterns)
    ]


def problems(tmp_path, *patterns: str) -> list[str]:
    config = Config(Source("f", tmp_path), FileConfig.model_construct(listeners={}))
    check_calls(config, routes(*patterns))
    return [problem.text for problem in config.source.problems]


def test_a_call_is_found_by_the_label_of_its_binding():
    table, bindings, taken = labelled(routes("/a", "/{b}"))
    assert "r1" == bindings[table.find("rest", "GET /x").endpoint.route][0].name
    assert [] == taken


@pytest.mark.parametrize("patterns", [("/a", "/{b}", "/**"), ("/a/{b}", "/{a}/b"), ("/", "/{a}"), ("/a/**", "/a/{b}/**")])
def test_what_some_call_can_reach_is_no_problem(tmp_path, patterns):
    assert [] == problems(tmp_path, *patterns)


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (("/a", "/a"), "GET /a is taken by route r0"),
        (("/{a}", "/{b}"), "GET /{b} is taken by route r0"),
        (("/a/**", "/a/{rest=**}"), "GET /a/{rest=**} is taken by route r0"),
        (("/a/**", "/a", "/a/{b}", "/a/{b}/{c=**}"), "no call can reach GET /a/**"),
        (("/a/./b",), "no call can reach GET /a/./b: a path has no . or .. in it"),
    ],
)
def test_what_no_call_can_reach_is_told(tmp_path, patterns, told):
    (text,) = problems(tmp_path, *patterns)
    assert text.startswith(told)


segments = st.sampled_from(["a", "b", "{x}", "%2F", "c d".replace(" ", "%20")])
patterns = st.builds(
    lambda parts, rest: "/" + "/".join([*parts, *rest]),
    st.lists(segments, max_size=3).filter(lambda parts: parts.count("{x}") < 2),
    st.sampled_from([[], ["**"]]),
).filter(lambda pattern: pattern != "/")


@given(patterns)
def test_every_pattern_takes_its_own_samples(pattern):
    (route,) = routes(pattern)
    table, _, _ = labelled([route])
    assert any(table.find("rest", call).error is None for call in _samples(route.bindings[0], 3))
