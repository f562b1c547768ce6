"""Contracts with more types in a row than Python's recursion goes deep."""

from __future__ import annotations

import sys

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from adapters.codec.protobuf import FORMAT
from adapters.codec.protobuf.runtime import class_of
from gateway.codec import ABSENT, Given, Rule

CHAIN = 3000


@pytest.fixture(scope="module")
def chained():
    """Types that are each inside the one before, the first inside the last."""
    file = FileDescriptorProto(name="chain.proto", package="chain", syntax="proto3")
    for number in range(CHAIN):
        message = file.message_type.add(name=f"T{number}")
        inside = f".chain.T{(number + 1) % CHAIN}"
        message.field.add(name="next", number=1, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=inside)
        message.field.add(name="name", number=2, type=FieldDescriptorProto.TYPE_STRING, label=1)
    file.service.add(name="S").method.add(name="M", input_type=".chain.T0", output_type=".chain.T0")
    return FORMAT.contracts([FileDescriptorSet(file=[file]).SerializeToString()]).methods["chain.S/M"].request


def test_a_long_chain_of_types_is_compiled_read_written_and_bound(chained):
    body = b'{"next":{"next":{"name":"x"}}}'
    assert body == chained.unpack_json(chained.pack_json(body))
    assert {"next": {"next": {"name": "x"}}} == chained.bind(Rule(body=""))(ABSENT, Given({}, (("next.next.name", "x"),)))


def test_what_else_recurses_is_bounded_as_before(chained):
    limit = sys.getrecursionlimit()
    assert "chain.T0" == class_of(chained.descriptor).DESCRIPTOR.full_name
    assert limit == sys.getrecursionlimit()
