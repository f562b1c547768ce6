"""Contracts of the tests' own, `test.v1`: a message of every kind of field, one of plain scalars alone, and methods at will."""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from gateway.message import Many

_F = FieldDescriptorProto
_SCALARS = {
    "a_string": _F.TYPE_STRING,
    "a_bool": _F.TYPE_BOOL,
    "an_int32": _F.TYPE_INT32,
    "a_uint32": _F.TYPE_UINT32,
    "an_sint32": _F.TYPE_SINT32,
    "a_fixed32": _F.TYPE_FIXED32,
    "an_int64": _F.TYPE_INT64,
    "a_uint64": _F.TYPE_UINT64,
    "a_double": _F.TYPE_DOUBLE,
}
_IMPORTS = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)


def _field(name: str, number: int, kind: int | str, *, repeated: bool = False) -> FieldDescriptorProto:
    label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
    if isinstance(kind, int):
        return _F(name=name, number=number, type=kind, label=label)
    enum = kind.endswith("Colour")
    return _F(name=name, number=number, type=_F.TYPE_ENUM if enum else _F.TYPE_MESSAGE, type_name=kind, label=label)


def _messages() -> list[descriptor_pb2.DescriptorProto]:
    plain = descriptor_pb2.DescriptorProto(name="Plain")
    plain.field.extend(_field(name, number, kind) for number, (name, kind) in enumerate(_SCALARS.items(), 1))
    bag = descriptor_pb2.DescriptorProto(name="Bag")
    bag.field.extend(
        [
            _field("text", 1, _F.TYPE_STRING),
            _field("data", 2, _F.TYPE_BYTES),
            _field("a_float", 3, _F.TYPE_FLOAT),
            _field("colour", 4, ".test.v1.Colour"),
            _field("inner", 5, ".test.v1.Bag"),
            _field("many", 6, ".test.v1.Plain", repeated=True),
            _field("words", 7, _F.TYPE_STRING, repeated=True),
            _field("counts", 8, ".test.v1.Bag.CountsEntry", repeated=True),
            _field("struct", 9, ".google.protobuf.Struct"),
            _field("any", 10, ".google.protobuf.Any"),
            _field("time", 11, ".google.protobuf.Timestamp"),
            _field("span", 12, ".google.protobuf.Duration"),
            _field("wrapped", 13, ".google.protobuf.Int64Value"),
        ]
    )
    entry = bag.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.extend([_field("key", 1, _F.TYPE_STRING), _field("value", 2, _F.TYPE_INT64)])
    return [plain, bag]


def descriptor_set() -> bytes:
    """The serialized FileDescriptorSet, with its imports, of `test.v1.Bags` (Take, Pour, Plain)."""
    file = descriptor_pb2.FileDescriptorProto(name="test/v1/bag.proto", package="test.v1", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in _IMPORTS)
    file.message_type.extend(_messages())
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("COLOUR_UNSPECIFIED", "RED", "GREEN")):
        colour.value.add(name=name, number=number)
    service = file.service.add(name="Bags")
    for name, kind in (("Take", "Bag"), ("Plain", "Plain")):
        service.method.add(name=name, input_type=f".test.v1.{kind}", output_type=f".test.v1.{kind}")
    service.method.add(
        name="Pour", input_type=".test.v1.Bag", output_type=".test.v1.Bag", server_streaming=True, client_streaming=True
    )
    files = descriptor_pb2.FileDescriptorSet()
    for module in _IMPORTS:
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return files.SerializeToString()


def methods(known: bytes, **made: tuple[str, str, Many]) -> bytes:
    """A FileDescriptorSet with what is `known` and a service `test.v1.NAME` for each, whose method Run has these types."""
    files = descriptor_pb2.FileDescriptorSet.FromString(known)
    file = descriptor_pb2.FileDescriptorProto(name="test/v1/methods.proto", package="test.v1", syntax="proto3")
    file.dependency.extend(one.name for one in files.file)
    file.message_type.add(name="Line").field.append(_field("text", 1, _F.TYPE_STRING))
    for name, (request, reply, many) in made.items():
        file.service.add(name=name).method.add(
            name="Run",
            input_type=f".{request}",
            output_type=f".{reply}",
            client_streaming=bool(many & Many.REQUESTS),
            server_streaming=bool(many & Many.REPLIES),
        )
    files.file.append(file)
    return files.SerializeToString()
