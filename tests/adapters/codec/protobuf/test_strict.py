"""What json_format would let through, each thing by itself."""

from __future__ import annotations

import pytest

from adapters.codec.protobuf import FORMAT
from adapters.codec.protobuf.strict import ambiguous, too_deep
from tests.contract.schema import descriptor_set

BAG = FORMAT.contracts([descriptor_set()]).methods["test.v1.Bags/Take"].request._descriptor


def nest(depth: int, *, lists: bool) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize("lists", [True, False])
def test_depth_is_counted_to_the_level(lists):
    assert not too_deep(nest(100, lists=lists), 100)
    assert too_deep(nest(101, lists=lists), 100)
    assert too_deep(nest(100_000, lists=lists), 100)


def test_width_is_not_depth():
    assert not too_deep([[{}] * 1000] * 10, 3)


@pytest.mark.parametrize(
    "value", [None, 1, [], {}, {"unknown": {}}, {"a_float": 1}, {"inner": 3}, {"counts": [1]}, {"struct": {"a": 1}}]
)
def test_what_is_not_ambiguous_is_left_to_json_format(value):
    assert ambiguous(value, BAG) is None


@pytest.mark.parametrize("name", ["anInt64", "aDouble"])
def test_a_number_in_a_string_is_one_in_json_s_own_digits(name):
    plain = FORMAT.contracts([descriptor_set()]).methods["test.v1.Bags/Plain"].request._descriptor
    for text in ("7", "-7", "0", "1e3"):
        assert ambiguous({name: text}, plain) is None
    for text in ("1_0", "+3", "\uff12", " 1", "1 ", "1\n", "", "inf", "two"):
        assert (f"/{name}", "is not a number") == ambiguous({name: text}, plain)


def test_a_map_s_values_are_looked_at_too():
    assert ("/many/x/anInt32", "is given by both of its names") == ambiguous({"many": {"x": {"an_int32": 1, "anInt32": 1}}}, BAG)
