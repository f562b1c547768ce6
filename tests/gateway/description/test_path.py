"""Path patterns as OpenAPI writes them: single segments, each with what it means."""

from __future__ import annotations

import pytest

from gateway.description.path import Parameter, parameters, told
from gateway.pattern import pattern_of
from gateway.schema import Leaf


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", "/"),
        ("/orders/{customer}", "/orders/{customer}"),
        ("/orders/*", "/orders/{orders}"),
        ("/v1/{name=shelves/*}", "/v1/shelves/{shelves}"),
        ("/v1/{name=shelves/*/books/*}:publish", "/v1/shelves/{shelves}/books/{books}:publish"),
        ("/{a=x/*}/{b=x/*}", "/x/{x}/x/{x_2}"),
        ("/files/{path=**}", "/files/{path}"),
        ("/files/**", "/files/{files}"),
        ("/a%2Fb/{order.id}", "/a%2Fb/{order.id}"),
    ],
)
def test_a_variable_of_several_segments_is_cut_into_them(pattern, path):
    assert path == told(pattern_of(pattern)).path


def test_paths_that_differ_in_names_have_one_shape():
    assert told(pattern_of("/a/{b}")).shape == told(pattern_of("/a/{c}")).shape
    assert told(pattern_of("/a/{b}")).shape != told(pattern_of("/a/b")).shape
    assert told(pattern_of("/a/{b}:go")).shape != told(pattern_of("/a/{b}")).shape


def test_parameters_may_be_called_otherwise_and_stay_what_they_are():
    path = told(pattern_of("/a/{b}/{c}")).called(["x", "y"])
    assert "/a/{x}/{y}" == path.path
    assert (Parameter("x", "b"), Parameter("y", "c")) == path.parameters


def test_a_parameter_has_the_schema_of_its_field_in_either_of_its_names():
    leaf = Leaf("order.unitCount", "order.unit_count", {"type": "integer", "description": "How many."})
    (one,) = parameters(told(pattern_of("/{order.unit_count}")), [leaf])
    assert ("How many.", {"type": "integer"}) == (one["description"], one["schema"])
    assert ("order.unit_count", "path", True) == (one["name"], one["in"], one["required"])


def test_a_text_in_a_path_is_never_empty():
    (one,) = parameters(told(pattern_of("/{name}")), [Leaf("name", "name", {"type": "string"})])
    assert {"type": "string", "minLength": 1} == one["schema"]
    (other,) = parameters(told(pattern_of("/{name}")), [])
    assert {"type": "string", "minLength": 1} == other["schema"]


def test_a_part_of_a_field_says_which():
    _, book = parameters(told(pattern_of("/{name=shelves/*/books/*}")), [])
    assert "The segment of `name` after `books`." == book["description"]
