"""The format `protobuf`, and contracts from descriptor sets: what a message means is compiled when the config is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from adapters.codec.protobuf.flat import flat
from adapters.codec.protobuf.schema import leaves, told
from adapters.codec.protobuf.strict import ambiguous, too_deep
from gateway.codec import Bind, Codec, Contract, Contracts, JsonOptions, Rule, Type, Value
from gateway.errors import CallerError, FieldError, Reason
from gateway.jsontext import dumps, loads
from gateway.message import PROTOBUF, Many
from gateway.schema import Schema, Schemas
from gateway.transcode import untyped

MAX_DEPTH = 100
# Where json_format says which field it was: the first of these that is in its text. Longer names are not worth telling.
_STEPS = r"((?:\.\w{1,64}|\[\d{1,9}\])*)"
_PLACES = (
    re.compile(rf'no field named "(?P<name>\w{{1,64}})" at "\w+{_STEPS}"'),
    re.compile(rf" at \w+{_STEPS}\.*\Z"),
    re.compile(r'(?:no field named|Failed to parse) "?(?P<name>\w{1,64})[" ]'),
)

Missing = Callable[[Any, str], str | None]
"""The path of the first required field that a message lacks."""


def _malformed(why: str, pointer: str, cause: BaseException | None = None) -> NoReturn:
    raise CallerError(Reason.MALFORMED, why, details=(FieldError(pointer, why),)) from cause


class MessageType:
    """One protobuf message type: its canonical JSON mapping and its binary form, by protobuf's own json_format."""

    def __init__(self, descriptor: Descriptor, pool: DescriptorPool, *, whole: bool = True) -> None:
        self.name: str = descriptor.full_name
        self._descriptor = descriptor
        self.fields: tuple[str, ...] = tuple(name for field in descriptor.fields for name in (field.name, field.json_name))
        self._pool = pool
        self._class: type[Message] = message_factory.GetMessageClass(descriptor)
        self._missing = _requirements(descriptor, {}) if whole else None
        self._flat = flat(descriptor)
        self._required = (
            tuple((field.name, field.json_name) for field in descriptor.fields if _is_required(field)) if whole else ()
        )
        self.part: MessageType = MessageType(descriptor, pool, whole=False) if self._missing is not None else self

    binary = True

    def under(self, options: JsonOptions) -> Type:
        del options
        return self

    def pack_json(self, body: bytes) -> bytes:
        return self.pack(loads(body))

    def unpack_json(self, body: bytes) -> bytes:
        return dumps(self.unpack(body))

    def bind(self, rule: Rule) -> Bind:
        return untyped(rule)

    def pick(self, field: str) -> Callable[[Value], Value]:
        return lambda value: value.get(field)

    def raw(self, field: str) -> bool:
        return field in {"*", ""} and self.name == "google.api.HttpBody"

    def schema(self, schemas: Schemas, *, sent: bool, field: str = "", without: Sequence[str] = ()) -> Schema:
        return told(self._descriptor, JsonOptions(), schemas, sent=sent, field=field, without=without)

    def leaves(self, schemas: Schemas) -> Mapping[str, Schema]:
        del schemas
        return dict(leaves(self._descriptor))

    def _parse(self, value: Value) -> Message:
        if not isinstance(value, dict) and "." in self.name and not self.name.startswith("google.protobuf."):
            _malformed("the body must be a JSON object", "")
        if too_deep(value, MAX_DEPTH):
            _malformed(f"the message is nested deeper than {MAX_DEPTH}", "")
        if (wrong := ambiguous(value, self._descriptor)) is not None:
            _malformed(f"the message does not fit {self.name}: {wrong[0]} {wrong[1]}", wrong[0])
        try:
            message: Message = json_format.ParseDict(
                value, self._class(), descriptor_pool=self._pool, max_recursion_depth=MAX_DEPTH
            )
        except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
            pointer = _pointer(str(error))
            _malformed(f"the message does not fit {self.name}" + (f" at {pointer}" if pointer else ""), pointer, error)
        self._require(message)
        return message

    def _require(self, message: Message) -> None:
        if self._missing is not None and (path := self._missing(message, "")) is not None:
            _malformed(f"{path[1:].replace('/', '.')} is required", path)

    def _short(self, value: Value) -> dict[str, Any] | None:
        """The fields of a flat message, with those that are required among them; None where json_format is to say."""
        values = self._flat.values(value) if self._flat is not None else None
        if values is not None:
            for name, _ in self._required:
                if not values.get(name):
                    _malformed(f"{name} is required", f"/{name}")
        return values

    def check(self, value: Value) -> Value:
        values = self._short(value)
        if values is not None and self._flat is not None:
            return self._flat.canonical(value, values)
        return self._plain(self._parse(value))

    def pack(self, value: Value) -> bytes:
        values = self._short(value)
        message = self._class(**values) if values is not None else self._parse(value)
        packed: bytes = message.SerializeToString()
        return packed

    def unpack(self, body: bytes) -> Value:
        message = self._class()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            _malformed(f"the message is not a {self.name}", "", error)
        value = self._flat.read(message) if self._flat is not None else None
        if value is not None:
            for name, json_name in self._required:
                if json_name not in value:
                    _malformed(f"{name} is required", f"/{name}")
            return value
        self._require(message)
        return self._plain(message)

    def _plain(self, message: Message) -> Value:
        value = self._flat.read(message) if self._flat is not None else None
        if value is not None:
            return value
        try:
            value = json_format.MessageToDict(message, descriptor_pool=self._pool)
        except (ValueError, TypeError, RecursionError) as error:
            _malformed(f"the message is not a {self.name}", "", error)
        if too_deep(value, MAX_DEPTH):
            _malformed(f"the message is nested deeper than {MAX_DEPTH}", "")
        return value


def _pointer(text: str) -> str:
    """The place that an error of json_format names; "" where it names none."""
    for pattern in _PLACES:
        if (found := pattern.search(text)) is not None:
            steps = (found[2] if found.re is _PLACES[0] else found[1] if found.re is _PLACES[1] else "") or ""
            name = found.groupdict().get("name")
            return steps.replace("[", "/").replace("]", "").replace(".", "/") + (f"/{name}" if name else "")
    return ""


def _requirements(descriptor: Descriptor, known: dict[str, Missing | None]) -> Missing | None:
    """A check for fields annotated `google.api.field_behavior = REQUIRED` (AIP-203: set, and not to the default)."""
    if descriptor.full_name in known:
        # A type inside itself: looked up when it runs, since it is not compiled yet.
        return lambda message, path: inner(message, path) if (inner := known[descriptor.full_name]) else None
    known[descriptor.full_name] = None
    required = tuple(field.name for field in descriptor.fields if _is_required(field))
    deeper = tuple(
        (field.name, field.is_repeated, check)
        for field in descriptor.fields
        if field.message_type is not None
        and not field.message_type.GetOptions().map_entry
        and not field.message_type.full_name.startswith("google.protobuf.")
        and (check := _requirements(field.message_type, known)) is not None
    )
    if not required and not deeper:
        return None

    def missing(message: Any, path: str) -> str | None:
        present = {field.name for field, _ in message.ListFields()}
        for name in required:
            if name not in present:
                return f"{path}/{name}"
        for name, repeated, check in deeper:
            if name in present:
                parts = enumerate(getattr(message, name)) if repeated else ((None, getattr(message, name)),)
                for index, part in parts:
                    found = check(part, f"{path}/{name}" + ("" if index is None else f"/{index}"))
                    if found is not None:
                        return found
        return None

    known[descriptor.full_name] = missing
    return missing


def _is_required(field: FieldDescriptor) -> bool:
    behaviors: Sequence[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


class _Codec:
    def __init__(self, kind: Type) -> None:
        self.decode = kind.unpack
        self.encode = kind.pack


class ProtobufFormat:
    """See `Format`."""

    name = "protobuf"
    content_types: tuple[str, ...] = (PROTOBUF,)
    typed = True
    opaque = False

    def codec(self, kind: Type | None) -> Codec:
        if kind is None:
            raise ValueError("protobuf has no meaning without a contract")
        return _Codec(kind)

    def contracts(self, files: Sequence[bytes]) -> Contracts:
        """Every method of every service in serialized FileDescriptorSets. Raises ValueError for what is none."""
        pool = DescriptorPool()
        kinds: dict[str, MessageType] = {}
        methods: dict[str, Contract] = {}
        names: list[str] = []
        for content in files:
            parsed = descriptor_pb2.FileDescriptorSet()
            try:
                parsed.ParseFromString(content)
                for file in parsed.file:
                    pool.Add(file)
                    names.append(file.name)
            except (DecodeError, TypeError) as error:
                raise ValueError("this is not a FileDescriptorSet (protoc --descriptor_set_out --include_imports)") from error
        for name in names:
            for service in _found(pool, name).services_by_name.values():
                for method in service.methods:
                    contract = _contract(method, lambda kind: kinds.setdefault(kind.full_name, MessageType(kind, pool)))
                    methods[contract.name] = contract
        return Contracts(methods, tuple(files))


def _found(pool: DescriptorPool, name: str) -> Any:
    try:
        return pool.FindFileByName(name)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name} lacks an import: make the set with --include_imports") from error


def _contract(method: MethodDescriptor, kind: Callable[[Descriptor], MessageType]) -> Contract:
    many = Many.NEITHER
    if method.client_streaming:
        many |= Many.REQUESTS
    if method.server_streaming:
        many |= Many.REPLIES
    level = method.GetOptions().idempotency_level
    safe = level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    name = f"{method.containing_service.full_name}/{method.name}"
    return Contract(name, kind(method.input_type), kind(method.output_type), many, safe)


FORMAT = ProtobufFormat()
