"""Writers: a message to JSON text, by a function written for its type.

The runtime has read the wire form, so strings are UTF-8 and depth is bounded; what is written needs no further look.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Callable, Mapping
from math import copysign
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from adapters.codec.protobuf import text
from adapters.codec.protobuf.runtime import class_of
from adapters.codec.protobuf.shape import entry, is_map, is_required
from adapters.codec.protobuf.source import Source, indented
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS, special_writer
from adapters.codec.protobuf.wrong import REQUIRED, WrongError, located
from gateway.codec import JsonOptions

Write = Callable[[Any], str]
F = FieldDescriptor
_PLAIN = frozenset({F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32, F.TYPE_UINT32, F.TYPE_FIXED32})
_QUOTED = frozenset({F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64, F.TYPE_UINT64, F.TYPE_FIXED64})
_CALLS: Mapping[int, str] = {F.TYPE_BYTES: "base64", F.TYPE_FLOAT: "float32"}
_FLOATS = frozenset({F.TYPE_DOUBLE, F.TYPE_FLOAT})


class Text(NamedTuple):
    """A piece of JSON: an expression, without quotes or backslashes, between two literals."""

    before: str
    expression: str
    after: str

    @property
    def calls(self) -> bool:
        """Whether it is what a function gives, and so a string already."""
        return not self.before and not self.after and self.expression.endswith(")") and not self.expression.startswith("(")


class Writers:
    """The writers of one pool's types, each made when it is first asked for. `whole`: what is required must be there."""

    def __init__(self, pool: DescriptorPool, options: JsonOptions, *, whole: bool) -> None:
        self._pool = pool
        self._options = options
        self._whole = whole
        words = {name: getattr(text, name) for name in ("quote", "checked", "base64", "double", "float32", "truth")}
        words |= {"WrongError": WrongError, "REQUIRED": REQUIRED, "located": located, "copysign": copysign}
        self._source = Source(words)
        self._names: dict[str, str] = {}
        self._enums: dict[str, str] = {}
        self._verified: dict[str, bool] = {}
        self._inside: dict[str, tuple[type[Any], Write]] = {}
        self._unwritten: list[tuple[str, Descriptor]] = []

    def of(self, descriptor: Descriptor) -> Write:
        """The writer of a type. It raises WrongError, and DecodeError for what an Any holds."""
        name = self._name(descriptor)
        # In a loop: a chain of types may be longer than Python's recursion.
        while self._unwritten:
            own, kind = self._unwritten.pop()
            self._source.add(f"{own}(m)", self._wrapper(kind) if kind.full_name in WRAPPERS else self._message(kind))
        return self._source.function(name)

    def named(self, name: str) -> tuple[type[Any], Write]:
        """The class and the writer of the type that an Any names. Raises KeyError."""
        found = self._inside.get(name)
        if found is None:
            descriptor = self._pool.FindMessageTypeByName(name)
            found = self._inside[name] = class_of(descriptor), self.of(descriptor)
        return found

    def _name(self, descriptor: Descriptor) -> str:
        name = self._names.get(descriptor.full_name)
        if name is None:
            if descriptor.full_name in SPECIAL:
                name = self._source.constant(special_writer(descriptor.full_name, self.named), "write")
                self._names[descriptor.full_name] = name
                return name
            # Before its body: a type may hold itself.
            name = self._names[descriptor.full_name] = self._source.reserve("write")
            self._unwritten.append((name, descriptor))
        return name

    def _wrapper(self, descriptor: Descriptor) -> list[str]:
        return ["v = m.value", f"return {_joined(self._single(descriptor.fields_by_name['value'], 'v'))}"]

    def _message(self, descriptor: Descriptor) -> list[str]:
        fields = sorted(descriptor.fields, key=lambda field: field.number)
        if not fields:
            return ["return '{}'"]
        kind = class_of(descriptor)
        # By the class: a field may be called HasField.
        has, which = (self._source.constant(getattr(kind, name), "call") for name in ("HasField", "WhichOneof"))
        own = [f"f{at}" for at in range(len(fields))]
        body = [f"one_{one.index} = {which}(m, {one.name!r})" for one in descriptor.oneofs if len(one.fields) > 1]
        for field, name in zip(fields, own, strict=True):
            body += self._field(field, name, has)
        return [
            f"{' = '.join(own)} = ''",
            "key = at = None",
            *("try:", *indented(body), "except WrongError as error: raise located(error, m, key, at) from None"),
            # Each but the first has its comma before it: without the first, one is too many.
            f"if not f0: return '{{' + {_joined(*(Text('', name, '') for name in own[1:]))}[1:] + '}}'",
            f"return {_joined('{', *(Text('', name, '') for name in own), '}')}",
        ]

    def _field(self, field: FieldDescriptor, own: str, has: str) -> list[str]:
        name = field.name if self._options.proto_names else field.json_name
        label = ("" if own == "f0" else ",") + json.dumps(name, ensure_ascii=False) + ":"
        access = f"v = getattr(m, {field.name!r})" if keyword.iskeyword(field.name) else f"v = m.{field.name}"
        lack = [f"else: raise WrongError(REQUIRED, {name!r})"] if self._whole and is_required(field) else []
        key = [f"key = {name!r}"] if field.message_type is not None else []
        put = [*key, *self._put(field, own, label)]
        if field.has_presence:
            one = field.containing_oneof
            several = one is not None and len(one.fields) > 1
            there = f"one_{one.index} == {field.name!r}" if one is not None and several else f"{has}(m, {field.name!r})"
            return [f"if {there}:", *indented([access, *put]), *lack]
        if self._options.defaults and not lack:
            return [access, *put]
        # Minus zero equals the default, and is none.
        there = "v or copysign(1.0, v) < 0" if field.type in _FLOATS and not field.is_repeated else "v"
        return [access, f"if {there}:", *indented(put), *lack]

    def _put(self, field: FieldDescriptor, own: str, label: str) -> list[str]:
        """From the value in v to the field's text."""
        if is_map(field):
            key, value = entry(field)
            one = f"put({_joined(self._key(key), ':', self._single(value, 'e'))})"
            loop = ["parts = []", "put = parts.append", "for at in v:", *indented(["e = v[at]", one]), "at = None"]
            return [*loop, "v = ','.join(parts)", f"{own} = {_joined(label + '{', Text('', 'v', ''), '}')}"]
        if not field.is_repeated:
            return [f"{own} = {_joined(label, self._single(field, 'v'))}"]
        if field.type in _PLAIN:
            # A list's own text is JSON, and made in C.
            return ["v = repr(v[:]).replace(' ', '')", f"{own} = {_joined(label, Text('', 'v', ''))}"]
        one = f"put({_joined(self._single(field, 'e'))})"
        loop = ["parts = []", "put = parts.append", "for at, e in enumerate(v[:]):", *indented([one]), "at = None"]
        return [*loop, "v = ','.join(parts)", f"{own} = {_joined(label + '[', Text('', 'v', ''), ']')}"]

    def _key(self, field: FieldDescriptor) -> Text:
        """The text of a map's key, which is a string in JSON."""
        if field.type == F.TYPE_STRING:
            return self._single(field, "at")
        return Text('"', "truth[at]" if field.type == F.TYPE_BOOL else "at", '"')

    def _single(self, field: FieldDescriptor, v: str) -> Text:
        """The text of one value."""
        if field.message_type is not None:
            return Text("", f"{self._name(field.message_type)}({v})", "")
        if field.enum_type is not None:
            return self._enum(field.enum_type, v)
        if field.type == F.TYPE_STRING:
            return Text("", f"{self._string(field)}({v})", "")
        if field.type == F.TYPE_BOOL:
            return Text("", f"truth[{v}]", "")
        if field.type in _PLAIN:
            return Text("", v, "")
        if field.type in _QUOTED:
            return Text('"', v, '"')
        if field.type == F.TYPE_DOUBLE:
            return Text("", f"(repr({v}) if {v} - {v} == 0 else double({v}))", "")
        return Text("", f"{_CALLS[field.type]}({v})", "")

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

    def _enum(self, descriptor: EnumDescriptor, v: str) -> Text:
        if descriptor.full_name == "google.protobuf.NullValue":
            return Text("null", "", "")
        if self._options.enum_numbers:
            return Text("", v, "")
        name = self._enums.get(descriptor.full_name)
        if name is None:
            # Of the names of one number, the first.
            texts = {value.number: json.dumps(value.name) for value in reversed(descriptor.values)}
            name = self._enums[descriptor.full_name] = self._source.constant(texts, "texts")
        return Text("", f"({name}.get({v}) or {v})", "")


def _joined(*parts: str | Text) -> str:
    """The expression for literals and texts in a row: one f-string, which is the fastest way to join them."""
    texts = [part if isinstance(part, Text) else Text(part, "", "") for part in parts]
    if len(texts) == 1 and texts[0].calls:
        return texts[0].expression
    inner = (
        f"{_escaped(text.before)}{'{' + text.expression + '}' if text.expression else ''}{_escaped(text.after)}" for text in texts
    )
    return "f'" + "".join(inner) + "'"


def _escaped(literal: str) -> str:
    escaped = literal.encode("unicode_escape").decode()
    return escaped.replace("'", "\\'").replace("{", "{{").replace("}", "}}")
