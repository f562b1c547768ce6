"""Every config model: frozen, strict about its fields, documented by its docstrings."""

from __future__ import annotations

import pytest
from pydantic import PositiveInt, ValidationError  # noqa: F401  PositiveInt: named in an annotation below

from gateway.part import Part


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
