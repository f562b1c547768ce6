"""What a file's source info (descriptor.proto, SourceCodeInfo) tells: comments by full name, and where annotations stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

Path = Sequence[int]

# The numbers of the fields that lead from one thing to those inside of it.
_INSIDE: Mapping[type, Mapping[int, str]] = {
    FileDescriptorProto: {
        FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER: "message_type",
        FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER: "enum_type",
        FileDescriptorProto.SERVICE_FIELD_NUMBER: "service",
    },
    DescriptorProto: {
        DescriptorProto.FIELD_FIELD_NUMBER: "field",
        DescriptorProto.NESTED_TYPE_FIELD_NUMBER: "nested_type",
        DescriptorProto.ENUM_TYPE_FIELD_NUMBER: "enum_type",
        DescriptorProto.ONEOF_DECL_FIELD_NUMBER: "oneof_decl",
    },
    EnumDescriptorProto: {EnumDescriptorProto.VALUE_FIELD_NUMBER: "value"},
    ServiceDescriptorProto: {ServiceDescriptorProto.METHOD_FIELD_NUMBER: "method"},
}
_HTTP = (MethodDescriptorProto.OPTIONS_FIELD_NUMBER, annotations_pb2.HTTP_FIELD_NUMBER)


def comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """What stands beside each thing of a file, by its full name."""
    for location in file.source_code_info.location:
        text = (location.leading_comments or location.trailing_comments).strip()
        if text and (found := _named(file, location.path)) is not None and not found[1]:
            yield found[0], "\n".join(line.removeprefix(" ").rstrip() for line in text.splitlines())


def rules(file: FileDescriptorProto) -> dict[str, str]:
    """Where the google.api.http annotation of each method stands: file:line, by the method's full name."""
    lines: dict[str, int] = {}
    for location in file.source_code_info.location:
        if (found := _named(file, location.path)) is not None and tuple(found[1][: len(_HTTP)]) == _HTTP:
            line = location.span[0] + 1
            lines[found[0]] = min(line, lines.get(found[0], line))
    return {name: f"{file.name}:{line}" for name, line in lines.items()}


def _named(file: FileDescriptorProto, path: Path) -> tuple[str, Path] | None:
    """The full name of what a path leads to, and the rest of the path, which leads inside of it; None for the file itself."""
    at: Any = file
    names = [file.package] if file.package else []
    while len(path) > 1 and (field := _INSIDE.get(type(at), {}).get(path[0])) is not None:
        things = getattr(at, field)
        if path[1] >= len(things):
            return None  # source info of another edition of the file
        at, path = things[path[1]], path[2:]
        names.append(at.name)
    return None if at is file else (".".join(names), path)
