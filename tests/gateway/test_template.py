"""Templates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, FieldError, Reason
from gateway.template import Template, TemplateError, text_of

_name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
_literal = st.text(st.characters(exclude_characters="{}"), max_size=8)


def test_a_path_variable_wins_over_a_field_and_a_field_is_read_where_the_path_has_none():
    template = Template("{a}-{b}.{a}")
    assert ("a", "b") == template.names
    assert "1-2.1" == template.render({"a": "1"}, lambda: {"a": "field", "b": 2})


def test_the_message_is_opened_once_and_only_where_it_must_be():
    opened = []

    def fields():
        opened.append(True)
        return {"b": "2", "c": "3"}

    assert "1" == Template("{a}").render({"a": "1"}, fields)
    assert "plain" == Template("plain").render({}, fields)
    assert [] == opened
    assert "1 2 3" == Template("{a} {b} {c}").render({"a": "1"}, fields)
    assert [True] == opened


@pytest.mark.parametrize("fields", [{}, {"a": None}])
def test_a_field_that_nobody_gives_is_the_callers_fault(fields):
    with pytest.raises(CallerError) as raised:
        Template("orders.{a}").render({}, lambda: fields)
    assert Reason.MALFORMED is raised.value.reason
    assert (FieldError("/a", "is missing"),) == raised.value.details


@pytest.mark.parametrize("source", ["{", "}", "{}", "{a", "a}", "{a b}", "{1}", "{{a}}", "{a.b}", "{\u00e9}", "{a}{"])
def test_a_brace_that_is_no_variable_is_refused(source):
    with pytest.raises(TemplateError, match="a variable is written"):
        Template(source)


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), ("", ""), (1, "1"), (True, "true"), (1.5, "1.5"), ([1, "\u00e9"], '[1,"\u00e9"]')]
)
def test_a_string_stands_as_it_is_and_anything_else_as_json(value, text):
    assert text == text_of(value)
    assert text == Template("{a}").render({}, lambda: {"a": value})


@given(st.lists(st.tuples(_literal, _name), max_size=6), _literal, st.data())
def test_it_renders_as_replacing_each_variable_would(parts, last, data):
    values = {name: data.draw(st.text() | st.integers()) for _, name in parts}
    params = {name: str(value) for name, value in values.items() if data.draw(st.booleans())}
    template = Template("".join(f"{literal}{{{name}}}" for literal, name in parts) + last)
    expected = "".join(literal + (params[name] if name in params else text_of(values[name])) for literal, name in parts) + last
    assert expected == template.render(params, lambda: values)
    assert tuple(dict.fromkeys(name for _, name in parts)) == template.names


@given(st.text())
def test_any_text_is_a_template_or_refused(source):
    try:
        template = Template(source)
    except TemplateError:
        assert {"{", "}"} & set(source)
    else:
        assert source == template.source


@given(st.recursive(st.integers() | st.booleans(), st.lists))
def test_what_is_no_string_can_be_read_back(value):
    assert value == json.loads(text_of(value))
