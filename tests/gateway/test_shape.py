"""Messages built from a tree."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.expression import Scope
from gateway.shape import MAX_ITEMS, MAX_NODES, Shape

BODY = {
    "order_no": "A-17",
    "cust": {"name": "ada", "town": "Turin"},
    "remark": None,
    "positions": [{"article": "tea", "qty": "2"}, {"article": "milk", "qty": "1", "gift": True}],
}
VALUES = {"body": BODY, "params": {"region": "eu"}, "query": {}, "headers": {}, "principal": None, "call": {}}


def shaped(tree: object, body: object = BODY) -> object:
    shape = Shape(tree)
    assert [] == shape.problems
    return json.loads(shape(Scope({**VALUES, "body": body})))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("web", "web"),
        (5, 5),
        (None, None),
        ([], []),
        ({}, {}),
        ("=body.cust", {"name": "ada", "town": "Turin"}),
        ("= body.cust.name ", "ada"),
        ({"order": "=body"}, {"order": BODY}),
        ({"id": "{order_no}", "ref": "{region}/{order_no}!"}, {"id": "A-17", "ref": "eu/A-17!"}),
        ({"a": ["=body.order_no", "{region}", 1, None]}, {"a": ["A-17", "eu", 1, None]}),
        ({"note": "=body.?note", "remark": "=body.?remark"}, {"remark": None}),
        ({"note": '=body.?note.orValue("none")'}, {"note": "none"}),
        (["=body.?note", "=body.?remark"], [None]),
        ({"braces": '="{}"', "equals": '="=1"'}, {"braces": "{}", "equals": "=1"}),
        ({"who": {"=all": "=body.cust"}}, {"who": {"name": "ada", "town": "Turin"}}),
        ({"=all": "=body.cust", "town": "Rome", "zip": 1}, {"name": "ada", "town": "Rome", "zip": 1}),
        ({"=all": "=body.cust", "town": "=body.?nope"}, {"name": "ada"}),
        ({"=all": "=body.?nope", "a": 1}, {"a": 1}),
        ({"=for line in body.positions": "=line.article"}, ["tea", "milk"]),
        (
            {"lines": {"=for p in body.positions": {"sku": "=p.article", "quantity": "=int(p.qty)", "gift": "=p.?gift"}}},
            {"lines": [{"sku": "tea", "quantity": 2}, {"sku": "milk", "quantity": 1, "gift": True}]},
        ),
        ({"=for p in body.positions": '=p.qty == "2" ? optional.of(p.article) : optional.none()'}, ["tea"]),
        ({"=for p in body.positions": {"=for q in body.positions": "=p.qty + q.qty"}}, [["22", "21"], ["12", "11"]]),
        ({"a": {"=for p in body.?nope": 1}}, {}),
        ({"=for n in [1, 2]": "{region}"}, ["eu", "eu"]),
    ],
)
def test_a_tree_gives_a_message(tree, message):
    assert message == shaped(tree)


def test_fields_stand_in_the_order_of_the_tree():
    shape = Shape({"z": 1, "a": "=body", "m": {"=all": "=body", "b": 2}})
    assert b'{"z":1,"a":{"y":1,"b":0},"m":{"y":1,"b":2}}' == shape(Scope({"body": {"y": 1, "b": 0}}))


def _json(marks: str) -> st.SearchStrategy:
    texts = st.text(st.characters(exclude_characters=marks, exclude_categories=("Cs",)))
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts
    return st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@given(_json(""))
def test_a_body_can_be_wrapped_unwrapped_and_gone_over_without_a_change(value):
    assert {"a": [value]} == shaped({"a": ["=body"]}, value)
    assert value == shaped("=body.a", {"a": value})
    assert [value, value] == shaped({"=for one in body": "=one"}, [value, value])


@given(_json("={}"))
def test_what_has_no_marks_in_it_stands_as_it_is(value):
    assert value == shaped(value)


@pytest.mark.parametrize(
    ("tree", "place", "why"),
    [
        ({"a": ["=body."]}, ("a", 0), "column 6"),
        ({"a": "=nope"}, ("a",), "undeclared reference to 'nope'"),
        ("=call.nope", (), "call has no nope; it has id, protocol, method, path, peer"),
        ({"a": "{"}, ("a",), "a variable is written {name}"),
        ({"a": "{}"}, ("a",), "a text with braces in it is written as an expression"),
        ({"=if": 1}, ("=if",), "a key that begins with = is =all, or =for NAME in LIST"),
        ({"=for x": 1}, ("=for x",), "is written =for NAME in LIST"),
        ({"=for x in body": 1, "a": 2}, ("=for x in body",), "stands alone"),
        ({"=for body in body": 1}, ("=for body in body",), "body has a meaning already"),
        ({"=for x in body": {"=for x in x": 1}}, ("=for x in body", "=for x in x"), "x has a meaning already"),
        ({"=for x in nope": 1}, ("=for x in nope",), "undeclared reference"),
        ({"=all": "body"}, ("=all",), "is an expression for an object, as in =body"),
        ({"=all": "=body."}, ("=all",), "column 6"),
    ],
)
def test_what_cannot_work_is_told_with_its_place(tree, place, why):
    ((where, text),) = Shape(tree).problems
    assert place == where
    assert why in text


def test_every_problem_is_told():
    assert 3 == len(Shape({"a": "=", "b": "{", "=c": 1}).problems)


def test_a_tree_is_bounded():
    assert not Shape([1] * (MAX_NODES - 1)).problems
    ((_, text),) = Shape([1] * MAX_NODES).problems
    assert "1000 fields and values at the most" in text
    nested: object = 1
    for name in "abcd":
        nested = {f"=for {name} in body": nested}
    ((_, text),) = Shape(nested).problems
    assert "3 deep" in text


@pytest.mark.parametrize(
    ("tree", "why", "place"),
    [
        ({"a": {"b": ["=body.nope"]}}, "nope is missing", "a.b[0]"),
        ({"a": "{nope}"}, "the message has no field nope", "a"),
        ({"=for p in body.cust": 1}, "a list is wanted where something else is", ""),
        ({"a": {"=all": "=body.order_no"}}, "an object is wanted where something else is", "a"),
        ({"l": {"=for p in body.positions": {"g": "=p.gift"}}}, "gift is missing", "l.=for p in body.positions.g"),
        ("=body.?nope", "nothing is left of it", None),
    ],
)
def test_what_cannot_be_shaped_is_malformed_and_a_note_says_where(tree, why, place):
    with pytest.raises(CallerError) as caught:
        shaped(tree)
    assert Reason.MALFORMED is caught.value.reason
    assert why in caught.value.message
    assert ([] if place is None else [place]) == getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("tree", "body"),
    [
        ({"=for a in body": {"=for b in body": 1}}, [1] * 200),
        ({"=for a in body": 1}, [1] * (MAX_ITEMS + 1)),
        ({"=for a in body": "=body"}, ["x" * 100] * 1000),
        ({"=for a in body": {"=all": "=body[0]", "l": "=body"}}, [{"x": "y" * 1000}] * 200),
    ],
)
def test_what_grows_beyond_bounds_is_too_large(tree, body):
    with pytest.raises(CallerError) as caught:
        shaped(tree, body)
    assert Reason.TOO_LARGE is caught.value.reason


def test_only_the_names_that_it_uses_are_asked_for():
    assert {"body", "query"} == Shape({"a": {"=for x in body": "=x + query.q"}}).uses
    assert {"body", "params"} == Shape("{a}").uses
    assert set() == Shape({"a": "b"}).uses
