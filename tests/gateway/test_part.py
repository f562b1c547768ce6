"""Every config model: frozen, strict about its fields, documented by its docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import ByteSize, Field, PositiveInt, ValidationError  # noqa: F401  PositiveInt: named in an annotation below

from gateway.part import Part, Written


class Shop(Part):
    """A model as adapters write them."""

    name: str = "tea"
    """What it is called."""


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        Shop.model_validate({"nmae": "tea"})


def test_a_part_cannot_be_changed():
    shop = Shop()
    with pytest.raises(ValidationError, match="frozen"):
        shop.name = "coffee"


def test_a_default_is_validated_like_any_value():
    with pytest.raises(ValidationError, match="greater than 0"):
        type("Bad", (Part,), {"__annotations__": {"size": "PositiveInt"}, "size": 0, "__module__": __name__})()


def test_what_stands_under_a_field_is_its_description():
    assert "What it is called." == Shop.model_json_schema()["properties"]["name"]["description"]


class Numbers(Part):
    """Fields that want numbers, and some that may have more."""

    whole: int | None = None
    """A whole number."""
    real: Annotated[float, Field(gt=0)] = 1.0
    """A number."""
    size: ByteSize = ByteSize(1)
    """A size."""
    switch: bool | int = 0
    """Either."""
    anything: Any = None
    """Whatever."""


@pytest.mark.parametrize(("field", "kind"), [("whole", "int_type"), ("real", "float_type"), ("size", "byte_size")])
def test_true_is_no_number(field, kind):
    with pytest.raises(ValidationError) as caught:
        Numbers.model_validate({field: True})
    assert [(kind, (field,))] == [(error["type"], error["loc"]) for error in caught.value.errors()]


def test_true_is_itself_where_a_field_may_be_that():
    assert (True, True) == (Numbers(switch=True).switch, Numbers(anything=True).anything)


def test_a_number_in_a_text_is_one_for_a_variable_fills_in_text():
    numbers = Numbers.model_validate({"whole": "7", "real": "0.5", "size": "2KiB"})
    assert (7, 0.5, 2048) == (numbers.whole, numbers.real, numbers.size)


class Spelt(Part):
    """Texts that must be written in one way."""

    word: Annotated[str, Written(r"^[a-z]+$", "lower-case letters, as in tea")] | None = None
    """A word."""
    named: Mapping[Annotated[str, Written(r"^[a-z]+$", "lower-case letters, as in tea")], int] = {}
    """Some by name."""


@pytest.mark.parametrize("word", ["Tea", "", "tea\n"])
def test_a_text_that_is_written_otherwise_is_told_in_words_how(word):
    with pytest.raises(ValidationError, match="must be lower-case letters, as in tea"):
        Spelt(word=word)
    with pytest.raises(ValidationError, match="must be lower-case letters, as in tea"):
        Spelt(named={word: 1})


def test_programs_are_told_the_pattern():
    assert ("tea", {"tea": 1}) == (Spelt(word="tea").word, Spelt(named={"tea": 1}).named)
    schema = Spelt.model_json_schema()["properties"]
    assert "^[a-z]+$" == schema["word"]["anyOf"][0]["pattern"]
    assert ["^[a-z]+$"] == list(schema["named"]["patternProperties"])
