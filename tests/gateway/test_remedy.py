from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ByteSize, Field, field_validator

from gateway.part import Part
from gateway.remedy import did_you_mean, validated
from gateway.source import Source


class Inner(Part):
    colour: Literal["red", "green"] = "red"
    """A colour."""


class Outer(Part):
    number: int = Field(default=1, ge=1)
    """A number."""
    size: ByteSize = ByteSize(1)
    """A size."""
    text: str | tuple[str, ...] = ""
    """A text or some."""
    inner: Inner | None = None
    """One inside."""
    named: Mapping[str, Inner] = {}
    """Many inside."""
    short: str = Field(default="a", min_length=1)
    """A text that is not empty."""
    must: bool = Field(examples=[True])
    """Must be there."""

    @field_validator("number")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, ["must: is missing; for example true"]),
        ({"must": True, "nmber": 1}, ['nmber: unknown field; did you mean "number"?']),
        ({"must": True, "zzz": 1}, ["zzz: unknown field; there are number, size, text, inner, named, short, must"]),
        ({"must": True, "inner": {"color": "red"}}, ['inner.color: unknown field; did you mean "colour"?']),
        ({"must": True, "named": {"a": {"zzz": 1}}}, ["named.a.zzz: unknown field; there is colour"]),
        ({"must": True, "inner": {"colour": "gren"}}, ['inner.colour: must be one of red, green; did you mean "green"?']),
        ({"must": True, "inner": {"colour": 5}}, ["inner.colour: must be one of red, green"]),
        ({"must": "perhaps"}, ["must: must be true or false"]),
        ({"must": True, "number": "many"}, ["number: must be a whole number"]),
        ({"must": True, "number": 0}, ["number: must be greater than or equal to 1"]),
        ({"must": True, "number": 2}, ["number: must be odd"]),
        ({"must": True, "size": "big"}, ["size: must be a size, as in 65536 or 64KiB"]),
        ({"must": True, "number": True}, ["number: must be a whole number"]),
        ({"must": True, "size": True}, ["size: must be a size, as in 65536 or 64KiB"]),
        ({"must": True, "short": ""}, ["short: must not be empty"]),
        ({"must": True, "text": 5}, ["text: must be a text or a list; put quotes around it"]),
        ({"must": True, "text": {}}, ["text: must be a text or a list"]),
        ({"must": True, "text": ["a", {}]}, ["text: must be a text", "text[1]: must be a text"]),
        ([], [": must be a mapping"]),
    ],
)
def test_every_problem_has_its_place_and_its_remedy(value, told):
    source = Source("f", Path())
    assert validated(source, Outer, value, ()) is None
    assert told == [f"{problem.path}: {problem.text}" for problem in source.problems]


def test_what_is_right_is_the_model():
    source = Source("f", Path())
    part = validated(source, Outer, {"must": True, "number": "3"}, ())
    assert part is not None
    assert (3, []) == (part.number, source.problems)


def test_the_nearest_name_is_meant_and_else_all_are_told_though_never_a_hundred():
    assert '; did you mean "topic"?' == did_you_mean("topik", ["topic", "other"])
    assert "; there are a, b" == did_you_mean("zzz", ["a", "b"])
    assert did_you_mean("zzz", [f"n{n}" for n in range(100)]).endswith("n11, ...")
    assert "" == did_you_mean("zzz", [])
