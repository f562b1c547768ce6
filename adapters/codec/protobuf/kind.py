"""One protobuf message type of a contract, compiled: its JSON mapping and its binary form."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from adapters.codec.protobuf.bind import binding, is_raw, picking
from adapters.codec.protobuf.depth import UNBOUNDED, bounded, check_depth, is_shallow, over_deep
from adapters.codec.protobuf.leaf import Shape
from adapters.codec.protobuf.reader import Readers
from adapters.codec.protobuf.runtime import class_of
from adapters.codec.protobuf.scan import scan, scan_once
from adapters.codec.protobuf.schema import leaves, told
from adapters.codec.protobuf.writer import Writers
from adapters.codec.protobuf.wrong import WRONG, InexactError, WrongError, located, refusal
from gateway.codec import Bind, JsonOptions, Rule, Type, Value
from gateway.schema import Leaf, Schema, Schemas

PLAIN = JsonOptions()
_plain = json.JSONDecoder().raw_decode


class Pool:
    """The message types of one contract, and what is compiled of them, by options."""

    def __init__(self, pool: DescriptorPool) -> None:
        self.pool = pool
        self.digest = b""
        """Of all its files; set once they are known."""
        self.shapes: dict[str, Shape] = {}
        self._readers: dict[tuple[bool, bool], Readers] = {}
        self._writers: dict[tuple[JsonOptions, bool], Writers] = {}

    def readers(self, options: JsonOptions = PLAIN, *, whole: bool) -> Readers:
        """The readers under these options."""
        lenient = options.unknown == "ignore"
        return self._readers.setdefault((lenient, whole), Readers(self.pool, lenient=lenient, whole=whole))

    def writers(self, options: JsonOptions = PLAIN, *, whole: bool) -> Writers:
        """The writers under these options."""
        return self._writers.setdefault((options, whole), Writers(self.pool, options, whole=whole))


class MessageType:
    """See `Type`. Each function is compiled when it is first asked for, which is when a route is made."""

    binary = True

    def __init__(self, descriptor: Descriptor, pool: Pool, options: JsonOptions = PLAIN, *, whole: bool = True) -> None:
        self.name: str = descriptor.full_name
        self.descriptor = descriptor
        self.options = options
        self.fields: tuple[str, ...] = tuple(name for field in descriptor.fields for name in (field.name, field.json_name))
        self.columns = tuple(field.name if options.proto_names else field.json_name for field in descriptor.fields)
        self._class: Any = class_of(descriptor)
        self._pool = pool
        self._whole = whole

    def __repr__(self) -> str:
        return f"MessageType({self.name})"

    def _said(self) -> tuple[object, ...]:
        return self._pool.digest, self.name, self.options, self._whole

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, MessageType) and self._pool.digest != b"" and self._said() == other._said())

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def part(self) -> MessageType:
        """See `Type`."""
        return MessageType(self.descriptor, self._pool, self.options, whole=False)

    def under(self, options: JsonOptions) -> Type:
        if options == self.options:
            return self
        return MessageType(self.descriptor, self._pool, options, whole=self._whole)

    @cached_property
    def pack(self) -> Callable[[Value], bytes]:
        """See `Type`."""
        name, read = self.name, self._bounded

        def pack(value: Value) -> bytes:
            try:
                return read(value)
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        return pack

    @cached_property
    def pack_json(self) -> Callable[[bytes], bytes]:
        """See `Type`."""
        name, flat, bounded = self.name, self._read, self._bounded
        shallow = flat is bounded

        def pack_json(body: bytes) -> bytes:
            # The straight way through `scan`, less a call: a text that begins and ends with its object.
            try:
                text = body.decode()
                value, end = scan_once(text, 0)
                if end < len(text):
                    value = scan(body)
            except (ValueError, StopIteration, RecursionError):
                value = scan(body)
            try:
                if shallow or body.count(b"{") + body.count(b"[") <= UNBOUNDED:
                    return flat(value)
                return bounded(value)
            except InexactError:
                return exactly(body)
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        def exactly(body: bytes) -> bytes:
            try:
                return bounded(scan(body, digits=True))
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        return pack_json

    @cached_property
    def unpack_json(self) -> Callable[[bytes], bytes]:
        """See `Type`."""
        show = self._show
        if not is_shallow(self.descriptor):
            return lambda body: show(body).encode()
        parse, write = self._class.FromString, self._write

        def unpack_json(body: bytes) -> bytes:
            try:
                return write(parse(body)).encode()
            except (DecodeError, WrongError):
                return show(body).encode()  # says why not

        return unpack_json

    @cached_property
    def unpack(self) -> Callable[[bytes], Value]:
        """See `Type`."""
        show = self._show
        return lambda body: _plain(show(body))[0]

    @cached_property
    def check(self) -> Callable[[Value], Value]:
        """See `Type`."""
        pack, unpack = self.pack, self.unpack
        return lambda value: unpack(pack(value))

    def bind(self, rule: Rule) -> Bind:
        return binding(self.descriptor, rule, lambda: self.unpack(b""), self._pool.shapes)

    def pick(self, field: str) -> Callable[[Value], Value]:
        return picking(self.descriptor, field, enum_numbers=self.options.enum_numbers)

    def raw(self, field: str) -> bool:
        return is_raw(self.descriptor, field)

    def schema(self, schemas: Schemas, *, sent: bool, field: str = "", without: Sequence[str] = ()) -> Schema:
        return told(self.descriptor, self.options, schemas, sent=sent, field=field, without=without)

    def leaves(self, schemas: Schemas, without: Sequence[str] = ()) -> Sequence[Leaf]:
        return tuple(leaves(self.descriptor, schemas, without))

    @cached_property
    def _read(self) -> Callable[[Value], bytes]:
        return self._pool.readers(self.options, whole=self._whole).of(self.descriptor)

    @cached_property
    def _bounded(self) -> Callable[[Value], bytes]:
        # What is no field's may be nested at will.
        if self.options.unknown == "reject" and is_shallow(self.descriptor):
            return self._read
        return bounded(self._read, self.descriptor)

    @cached_property
    def _write(self) -> Callable[[Any], str]:
        return self._pool.writers(self.options, whole=self._whole).of(self.descriptor)

    @cached_property
    def _show(self) -> Callable[[bytes], str]:
        name, parse, write = self.name, self._class.FromString, self._write
        shallow = is_shallow(self.descriptor)

        def show(body: bytes) -> str:
            try:
                text = write(parse(body))
                if not shallow:
                    check_depth(text)
            except DecodeError as error:
                raise refusal(name, WrongError(f"is not a {name}")) from error
            except WrongError as error:
                raise refusal(name, error) from error
            except RecursionError as error:  # an Any in an Any in an Any: bytes to the runtime, which bounds all else
                raise refusal(name, over_deep()) from error
            return text

        return show
