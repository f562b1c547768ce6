"""Nesting is bounded before anything recurses, in JSON and on the wire."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, duration_pb2, struct_pb2, type_pb2

from adapters.codec.protobuf.depth import bounded, check_depth, is_shallow, too_deep
from adapters.codec.protobuf.wrong import WrongError


def nest(depth: int, way: str) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if way == "list" else {"a": value} if way == "dict" else (("a", value),)
    return value


@pytest.mark.parametrize("way", ["list", "dict", "pairs"])
def test_depth_is_counted_to_the_level(way):
    assert not too_deep(nest(100, way), 100)
    assert too_deep(nest(101, way), 100)
    assert too_deep(nest(100_000, way), 100)


def test_width_is_not_depth():
    assert not too_deep([[{}] * 1000] * 10, 3)


def test_a_text_of_our_own_is_looked_at_where_it_has_enough_brackets():
    check_depth("[" * 100 + "]" * 100)
    check_depth("[" + ",".join(["{}"] * 1000) + "]")
    with pytest.raises(WrongError, match="nested"):
        check_depth("[" * 101 + "]" * 101)


def test_a_type_is_shallow_unless_it_may_hold_itself_or_anything():
    assert is_shallow(duration_pb2.Duration.DESCRIPTOR)
    assert is_shallow(descriptor_pb2.SourceCodeInfo.DESCRIPTOR)
    assert not is_shallow(descriptor_pb2.DescriptorProto.DESCRIPTOR)
    assert not is_shallow(struct_pb2.Struct.DESCRIPTOR)
    assert not is_shallow(type_pb2.Field.DESCRIPTOR)  # its options are of any type


def test_what_the_runtime_could_not_read_again_is_refused():
    read = bounded(lambda _value: b"\xff", struct_pb2.Struct.DESCRIPTOR)
    assert b"\xff" == read(nest(32, "dict"))
    with pytest.raises(WrongError, match="nested"):
        read(nest(33, "dict"))
