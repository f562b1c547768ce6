"""What an expression can cost."""

from __future__ import annotations

import pytest
from cel_expr_python import cel

from gateway.cost import Cost, cost_of


def cost(text: str) -> Cost:
    config = "extensions: [{name: strings}, {name: optional}]\nvariables: [{name: body, type_name: dyn}]\n"
    return cost_of(cel.NewEnv(config=cel.NewEnvConfigFromYaml(config)).compile(text).serialize())


@pytest.mark.parametrize(
    ("text", "nesting", "builds", "copies"),
    [
        ("1", 0, False, 0),
        ("body.a + body.b", 0, False, 0),
        ("body.map(i, i)", 1, True, 0),
        ("body.filter(i, i > 1)", 1, True, 0),
        ("body.filter(i, i > 1).map(i, i)", 1, True, 0),
        ("body.exists(i, i == 1)", 1, False, 0),
        ("body.map(i, i + body.a)", 1, True, 1),
        ("body.map(i, body.all(j, i == j))", 2, True, 0),
        ("{'a': [body.map(i, {i: i.map(j, j.split(','))})]}", 2, True, 1),
        ("body.a.map(i, i).exists(j, j.b.exists(k, k.c.all(l, l)))", 3, True, 0),
        ("body.?a.optMap(x, x + 1)", 0, False, 0),
    ],
)
def test_macros_are_counted_by_how_deep_they_stand_and_what_they_make(text, nesting, builds, copies):
    found = cost(text)
    assert (nesting, builds, copies) == (found.nesting, found.builds, found.copies)


def test_names_members_and_functions_are_found_wherever_they_stand():
    found = cost("{body.a: [-body.b[0], has(body.c) ? 'x'.size() : 1]}")
    assert "body" in found.names
    assert {("body", "a"), ("body", "b"), ("body", "c")} == found.members
    assert {"size", "-_", "_?_:_", "_[_]"} <= found.functions


@pytest.mark.parametrize(
    "text", ["body.a.replace('a', body.b)", "body.a.join(body.b)", "body.a.replace(body.b, 'a')", "body.a.join('a' + 'b')"]
)
def test_a_text_written_many_times_over_is_noticed_where_it_is_not_written_out(text):
    assert cost(text).multiplies


@pytest.mark.parametrize(
    "text", ["body.a.replace('a', 'b')", "body.a.join()", "body.a.join(', ')", "body.a.replace('a', 'b', 2)"]
)
def test_one_that_is_written_out_is_not(text):
    assert not cost(text).multiplies
