"""Writers: a message to JSON text, by a function written for its type.

The runtime has read the wire form, so strings are UTF-8 and depth is bounded; what is written needs no further look.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf import text
from adapters.codec.protobuf.shape import entry, is_map, is_required
from adapters.codec.protobuf.source import Source, indented
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS, special_writer
from adapters.codec.protobuf.wrong import REQUIRED, WrongError, located
from gateway.codec import JsonOptions

Write = Callable[[Any], str]
F = FieldDescriptor
_PLAIN = frozenset({F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32, F.TYPE_UINT32, F.TYPE_FIXED32})
_QUOTED = frozenset({F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64, F.TYPE_UINT64, F.TYPE_FIXED64})
_CALLS: Mapping[int, str] = {F.TYPE_BYTES: "base64", F.TYPE_DOUBLE: "double", F.TYPE_FLOAT: "float32"}
_FLOATS = frozenset({F.TYPE_DOUBLE, F.TYPE_FLOAT})


class Writers:
    """The writers of one pool's types, each made when it is first asked for. `whole`: what is required must be there."""

    def __init__(self, pool: DescriptorPool, options: JsonOptions, *, whole: bool) -> None:
        self._pool = pool
        self._options = options
        self._whole = whole
        words = {name: getattr(text, name) for name in ("quote", "checked", "base64", "double", "float32", "is_minus_zero")}
        self._source = Source(words | {"WrongError": WrongError, "REQUIRED": REQUIRED, "located": located})
        self._names: dict[str, str] = {}
        self._enums: dict[str, str] = {}
        self._verified: dict[str, bool] = {}

    def of(self, descriptor: Descriptor) -> Write:
        """The writer of a type. It raises WrongError, and DecodeError for what an Any holds."""
        return self._source.function(self._name(descriptor))

    def named(self, name: str) -> tuple[type[Any], Write]:
        """The class and the writer of the type that an Any names. Raises KeyError."""
        descriptor = self._pool.FindMessageTypeByName(name)
        return GetMessageClass(descriptor), self.of(descriptor)

    def _name(self, descriptor: Descriptor) -> str:
        name = self._names.get(descriptor.full_name)
        if name is None:
            if descriptor.full_name in SPECIAL:
                name = self._source.constant(special_writer(descriptor.full_name, self.named), "write")
                self._names[descriptor.full_name] = name
                return name
            # Before its body: a type may hold itself.
            name = self._names[descriptor.full_name] = self._source.reserve("write")
            wrapper = descriptor.full_name in WRAPPERS
            self._source.add(f"{name}(m)", self._wrapper(descriptor) if wrapper else self._message(descriptor))
        return name

    def _wrapper(self, descriptor: Descriptor) -> list[str]:
        return ["v = m.value", f"return {self._single(descriptor.fields_by_name['value'], 'v')}"]

    def _message(self, descriptor: Descriptor) -> list[str]:
        fields = sorted(descriptor.fields, key=lambda field: field.number)
        kind = GetMessageClass(descriptor)
        # By the class: a field may be called HasField.
        has, which = (self._source.constant(getattr(kind, name), "call") for name in ("HasField", "WhichOneof"))
        lines = ["out = ''", "key = at = None"]
        lines += [f"one_{one.index} = {which}(m, {one.name!r})" for one in descriptor.oneofs if len(one.fields) > 1]
        body = [line for field in fields for line in self._field(field, has)]
        if body:
            lines += ["try:", *indented(body), "except WrongError as error: raise located(error, m, key, at) from None"]
        return [*lines, "return '{' + out[1:] + '}'"]

    def _field(self, field: FieldDescriptor, has: str) -> list[str]:
        name = field.name if self._options.proto_names else field.json_name
        label = "," + json.dumps(name, ensure_ascii=False) + ":"
        access = f"getattr(m, {field.name!r})" if keyword.iskeyword(field.name) else f"m.{field.name}"
        lack = f"raise WrongError(REQUIRED, {name!r})" if self._whole and is_required(field) else ""
        if field.has_presence:
            one = field.containing_oneof
            there = (
                f"one_{one.index} == {field.name!r}" if one is not None and len(one.fields) > 1 else f"{has}(m, {field.name!r})"
            )
            put = [f"key = {name!r}"] if field.message_type is not None else []
            put.append(f"out += {label!r} + {self._single(field, access)}")
            return [f"if {there}:", *indented(put), *([f"else: {lack}"] if lack else [])]
        lines = [f"v = {access}"]
        if is_map(field):
            put = self._map(field, label, name)
        elif field.is_repeated:
            put = self._repeated(field, label, name)
        else:
            put = [f"out += {label!r} + {self._single(field, 'v')}"]
        if self._options.defaults and not lack:
            return [*lines, *put]
        there = "v or is_minus_zero(v)" if field.type in _FLOATS and not field.is_repeated else "v"
        return [*lines, f"if {there}:", *indented(put), *([f"else: {lack}"] if lack else [])]

    def _repeated(self, field: FieldDescriptor, label: str, name: str) -> list[str]:
        if field.message_type is not None:
            one = f"parts.append({self._single(field, 'e')})"
            loop = [f"key = {name!r}; parts = []; at = 0", "for e in v:", *indented([one, "at += 1"])]
            return [*loop, "at = None", f"out += {label + '['!r} + ','.join(parts) + ']'"]
        if field.type in _PLAIN:
            inner = "','.join(map(str, v))"
        elif field.type in _QUOTED:
            return [f"out += {label + '['!r} + ('\"' + '\",\"'.join(map(str, v)) + '\"' if v else '') + ']'"]
        else:
            inner = f"','.join([{self._single(field, 'e')} for e in v])"
        return [f"out += {label + '['!r} + {inner} + ']'"]

    def _map(self, field: FieldDescriptor, label: str, name: str) -> list[str]:
        key, value = entry(field)
        if key.type == F.TYPE_STRING:
            keyed = f"{self._string(key)}(at)"
        elif key.type == F.TYPE_BOOL:
            keyed = "('\"true\"' if at else '\"false\"')"
        else:
            keyed = "f'\"{at}\"'"
        one = f"parts.append({keyed} + ':' + {self._single(value, 'v[at]')})"
        loop = [f"key = {name!r}; parts = []", "for at in v:", *indented([one])]
        return [*loop, "at = None", f"out += {label + '{'!r} + ','.join(parts) + '}}'"]

    def _single(self, field: FieldDescriptor, v: str) -> str:
        """The expression for one value's text."""
        if field.message_type is not None:
            return f"{self._name(field.message_type)}({v})"
        if field.enum_type is not None:
            return self._enum(field.enum_type, v)
        if field.type == F.TYPE_STRING:
            return f"{self._string(field)}({v})"
        if field.type == F.TYPE_BOOL:
            return f"('true' if {v} else 'false')"
        if field.type in _PLAIN:
            return f"str({v})"
        if field.type in _QUOTED:
            return f"f'\"{{{v}}}\"'"
        return f"{_CALLS[field.type]}({v})"

    def _string(self, field: FieldDescriptor) -> str:
        """Proto3 strings have been verified; others may be anything."""
        holder = field.containing_type
        if holder is None:
            raise AssertionError("a field is of a message")
        file = holder.file
        if file.name not in self._verified:
            proto = FileDescriptorProto()
            file.CopyToProto(proto)
            self._verified[file.name] = proto.syntax == "proto3"
        return "quote" if self._verified[file.name] else "checked"

    def _enum(self, descriptor: EnumDescriptor, v: str) -> str:
        if descriptor.full_name == "google.protobuf.NullValue":
            return "'null'"
        if self._options.enum_numbers:
            return f"str({v})"
        name = self._enums.get(descriptor.full_name)
        if name is None:
            texts = {number: json.dumps(value.name) for number, value in descriptor.values_by_number.items()}
            name = self._enums[descriptor.full_name] = self._source.constant(texts, "texts")
        return f"({name}.get({v}) or str({v}))"
