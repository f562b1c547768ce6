"""Functions written as text find each other, and their lines are there for a traceback."""

from __future__ import annotations

import traceback

import pytest

from adapters.codec.protobuf.source import Source, indented


def test_functions_find_each_other_and_what_they_were_given():
    source = Source({"one": 1})
    two = source.constant(2, "number")
    inner = source.reserve("inner")
    source.add("outer(value)", [f"return {inner}(value) + one"])
    source.add(f"{inner}(value)", [f"return value * {two}"])
    assert 7 == source.function("outer")(3)


def test_what_is_added_later_joins_what_is_there():
    source = Source({})
    source.add("first()", ["return 1"])
    assert 1 == source.function("first")()
    source.add("second()", ["return first() + 1"])
    assert 2 == source.function("second")()


def test_a_traceback_shows_the_line():
    source = Source({})
    source.add("fails()", indented(["raise KeyError('here')"], 0))
    with pytest.raises(KeyError) as caught:
        source.function("fails")()
    assert "raise KeyError('here')" in "".join(traceback.format_exception(caught.value))
