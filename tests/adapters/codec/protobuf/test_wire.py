"""Varints are those of the runtime."""

from __future__ import annotations

import pytest
from google.protobuf import wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf.wire import headed, sized, table, tag, varint

EDGES = [edge + by for bits in (7, 14, 21, 28, 35, 42, 49, 56, 63) for edge in (1 << bits,) for by in (-1, 0, 1)]


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([edge for edge in EDGES if edge < 2**63])))
def test_a_number_is_written_as_the_runtime_writes_it(number):
    expected = wrappers_pb2.Int64Value(value=number).SerializeToString()
    assert (expected or b"\x08\x00") == b"\x08" + varint(number)


def test_the_largest_unsigned_number_takes_ten_bytes():
    assert b"\xff" * 9 + b"\x01" == varint(2**64 - 1)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 3_000_000])
def test_a_body_of_any_length_is_written_as_the_runtime_writes_it(length):
    body = bytes(length)
    expected = wrappers_pb2.BytesValue(value=body).SerializeToString() or b"\x0a\x00"
    assert expected == headed(b"\x0a", body) == b"\x0a" + sized(body)


def test_a_tag_holds_the_field_s_number_and_the_wire_type():
    assert b"\x82\x7d" == tag(2000, 2)
    assert b"\x82\x7d\x05" == table(tag(2000, 2))[5]
