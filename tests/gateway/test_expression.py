"""Expressions: what they see, what they give, what they cost."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import ABSENT
from gateway.errors import CallerError, Reason
from gateway.expression import MAX_BUILT, MAX_ITERATIONS, MAX_TEXT, Expression, ExpressionError, Scope

NAMES = ("body", "params", "query", "headers", "principal", "call")
BODY = {
    "customer": "ada",
    "note": None,
    "quantity": 3,
    "total": 12.5,
    "big": 2**64 - 1,
    "items": [{"sku": "tea", "quantity": 2}, {"sku": "milk", "quantity": 1}],
    "tags": ["new", "gift"],
}
VALUES = {"body": BODY, "params": {"id": "7"}, "query": {}, "headers": {"x-tenant": "shop"}, "principal": None, "call": {}}


def evaluated(text: str, body: object = BODY) -> object:
    return Expression(text, NAMES).evaluate({**VALUES, "body": body})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("body.customer", "ada"),
        ("body.note", None),
        ("body.quantity > 2", True),
        ("body.big", 2**64 - 1),
        ("body.total", 12.5),
        ("double(body.quantity) * 1.5", 4.5),
        ("int(params.id) + 1", 8),
        ("headers['x-tenant'] == 'shop' && !('q' in query)", True),
        ("body.items.map(i, {'id': i.sku, 'n': i.quantity})", [{"id": "tea", "n": 2}, {"id": "milk", "n": 1}]),
        ("body.items.filter(i, i.quantity > 1).map(i, i.sku)", ["tea"]),
        ("body.items.exists(i, i.sku == 'tea') && body.items.all(i, i.quantity > 0)", True),
        ("has(body.nope) ? 1 : 2", 2),
        ("body.?nope.orValue('none')", "none"),
        ("body.?note", None),
        ("body.?nope", ABSENT),
        ("body.?items[?0].?sku", "tea"),
        ("body.?nope.optMap(x, x + 1).orValue(0)", 0),
        ("body.customer.upperAscii() + '-' + string(body.quantity)", "ADA-3"),
        ("body.tags.join(', ')", "new, gift"),
        ("'a,b'.split(',')", ["a", "b"]),
        ("'%s: %d'.format([body.customer, body.quantity])", "ada: 3"),
        ("'é🙂'.size()", 2),
        ("math.greatest(1, body.quantity)", 3),
        ("base64.encode(b'hi')", "aGk="),
        ("b'hi'", "aGk="),
        ("timestamp('2024-02-03T04:05:06Z').getFullYear()", 2024),
        ("timestamp('2024-02-03T04:05:06+01:00')", "2024-02-03T03:05:06Z"),
        ("duration('1h') + duration('1.5s')", "3601.500s"),
        ("duration('-1.5s')", "-1.500s"),
        ("{'b': [null], 'a': {1: true}}", {"a": {"1": True}, "b": [None]}),
    ],
)
def test_an_expression_gives_a_plain_value(text, value):
    found = evaluated(text)
    assert value == found
    assert type(value) is type(found)


_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=20,
)


@given(_json)
def test_whatever_json_says_goes_through_as_it_is(value):
    for text in ("body", "[body][0]"):
        assert json.dumps(value, sort_keys=True) == json.dumps(evaluated(text, value), sort_keys=True)


def test_what_is_only_fetched_keeps_its_order():
    assert list("zyxabc") == list(evaluated("body.a", {"a": dict.fromkeys("zyxabc", 1)}))


def test_what_an_expression_makes_is_the_same_bytes_each_time():
    body = dict.fromkeys("zyxabc", 1)
    assert [list("abcxyz")] * 3 == [list(evaluated("[body][0]", body)) for _ in range(3)]


def test_nulls_leave_pythons_own_none_alone():
    """The library hands out a None that it does not own; before Python 3.12 a thousand of them end the process."""
    expression = Expression("[body.note, null, {'a': body.note}]", NAMES)
    before = sys.getrefcount(None)
    for _ in range(1000):
        assert [None, None, {"a": None}] == expression.evaluate(VALUES)
    assert before - 500 < sys.getrefcount(None) < before + 500


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("body.nope", "nope is missing"),
        ("body[params.id]", "a field is missing"),
        ("body.items[9]", "a list is shorter than it needs"),
        ("body.quantity * 1.5", "a value is of another type than it needs"),
        ("int(body.customer)", "a text is not what it needs"),
        ("1 / (body.quantity - 3)", "it divides by zero"),
        ("body.big + 1u", "a number is out of range"),
        ("1.0 / 0.0", "a number is beyond what JSON can say"),
        ("type(body)", "a result is nothing that JSON can say"),
        ("[body.?note]", "an optional value stands where a value is needed: end it with orValue"),
        ("body.customer.matches('(')", "a value is not what it needs"),
    ],
)
def test_what_cannot_be_worked_out_is_told_without_an_echo(text, why):
    with pytest.raises(CallerError) as caught:
        evaluated(text)
    assert Reason.MALFORMED is caught.value.reason
    assert f"the message is not what this route needs: {why}" == caught.value.message


@pytest.mark.parametrize("body", ["a\0b", {"a\0": 1}, [["\0"]]])
def test_a_text_that_the_library_would_cut_short_is_refused(body):
    with pytest.raises(CallerError, match="NUL"):
        evaluated("body == 1", body)
    assert body == evaluated("body", body)
    assert evaluated("body == r'\\u0000'", "\\u0000")


def test_a_text_that_has_no_utf_8_is_refused():
    with pytest.raises(CallerError, match="a character that is none") as caught:
        evaluated("body == 1", ["\udcff"])
    assert Reason.MALFORMED is caught.value.reason


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "column 1: mismatched input the end"),
        ("body.", "column 6: no viable alternative"),
        ("1 +\n nope", "line 2, column 2: undeclared reference to 'nope'; there are body, params"),
        ("params.id > 3", "column 11: found no matching overload for '>' applied to '(string, int)'"),
        ("getattr(body, 'x')", "undeclared reference to 'getattr'"),
        ("__import__('os')", "undeclared reference to '__import__'"),
        ("call.nope", "call has no nope; it has method, path"),
        ("'" + "a" * MAX_TEXT + "'", "4096 characters at the most"),
        ("(" * 100 + "1" + ")" * 100, "nested too deep"),
        ("body" + ".a" * 500, "nested too deep"),
        ("1" + "+1" * 1000, "nested too deep"),
        ("body.a.map(i, body.b.map(j, body.c.map(k, 1)))", "2 deep in one another at the most"),
        ("body.a.replace('', body.b)", "what replace writes must be written out"),
        ("body.a.join(body.b)", "what join writes must be written out"),
        ("\ud800", "is no expression"),
    ],
)
def test_what_cannot_be_an_expression_is_refused_when_loading_with_its_place(text, why):
    with pytest.raises(ExpressionError) as caught:
        Expression(text, NAMES, {"call": ("method", "path")})
    assert why in str(caught.value)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"()[]{}?:!.,'\"+-<&|", "body", "map", "1", "in", "=="]), max_size=30).map("".join)
)
def test_any_text_is_an_expression_or_an_error(text):
    with contextlib.suppress(ExpressionError):
        Expression(text, NAMES)


@pytest.mark.parametrize("text", ["body.__class__", "body.items.__len__", "body.keys", "body.customer.format"])
def test_an_expression_cannot_reach_python(text):
    with pytest.raises(CallerError):
        evaluated(text)


def test_an_expression_knows_which_names_it_uses():
    assert {"body", "params"} == Expression("body.items.map(i, i.sku + params.id)", NAMES).uses
    assert set() == Expression("1", NAMES).uses


def test_two_expressions_of_one_text_are_equal():
    assert Expression("1", NAMES) == Expression("1", NAMES)
    assert 1 == len({Expression("1", NAMES), Expression("1", NAMES)})
    assert Expression("1", NAMES) != Expression("1 ", NAMES)
    assert Expression("1", NAMES) != Expression("1", ("body",))


def test_a_scope_serves_several_expressions():
    scope = Scope(VALUES)
    assert ["ada", 3] == [Expression(text, NAMES).evaluate(scope) for text in ("body.customer", "body.quantity")]


def too_large(text: str, body: object) -> str:
    with pytest.raises(CallerError) as caught:
        evaluated(text, body)
    assert Reason.TOO_LARGE is caught.value.reason
    return caught.value.message


def test_a_macro_that_makes_a_list_has_its_bound():
    assert list(range(MAX_BUILT)) == evaluated("body.map(i, i)", list(range(MAX_BUILT)))
    assert "more than 1000 items" in too_large("body.map(i, i)", list(range(MAX_BUILT + 1)))
    assert "more than 1000 items" in too_large("body.filter(i, true)", {str(i): i for i in range(MAX_BUILT + 1)})
    assert "more than 1000 items" in too_large("(body + body).map(i, i)", list(range(MAX_BUILT // 2 + 1)))
    assert "more than 1000 items" in too_large("body.split('').map(i, i)", "a" * (MAX_BUILT + 1))


def test_one_that_makes_none_may_go_over_more_and_has_the_librarys_bound():
    assert evaluated("body.all(i, i >= 0)", list(range(MAX_BUILT * 5)))
    assert "more than 10000 items" in too_large("body.all(i, i >= 0)", list(range(MAX_ITERATIONS + 1)))
    assert "more than 10000 items" in too_large("body.all(i, body.all(j, j >= 0))", list(range(500)))


def test_what_macros_copy_is_bounded_before_it_is_made():
    body = {"list": list(range(1000)), "text": "x" * 100_000}
    assert "more than 64 MiB" in too_large("body.list.map(i, body.text + string(i))", body)
    assert "more than 64 MiB" in too_large(
        "body.list.exists(i, body.list.exists(j, body.text + 'y' == ''))", {**body, "text": "x" * 7000}
    )
    assert 1000 == evaluated("body.list.map(i, i + 1).size()", {**body, "text": "x" * 100})
    assert not evaluated("body.list.exists(i, body.text == string(i))", {"list": [1], "text": "x" * 100_000})


def test_a_result_is_bounded_while_it_is_read():
    body = {"list": list(range(100)), "text": "x" * 100_000}
    assert "more than 4 MiB" in too_large("body.list.map(i, body.text)", body)
