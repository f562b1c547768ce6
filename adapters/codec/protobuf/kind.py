"""One protobuf message type of a contract, compiled: its JSON mapping and its binary form."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf.bind import binding, is_raw, picking
from adapters.codec.protobuf.reader import Readers
from adapters.codec.protobuf.scan import scan, scan_once, too_deep
from adapters.codec.protobuf.schema import leaves, told
from adapters.codec.protobuf.shape import is_shallow
from adapters.codec.protobuf.writer import Writers
from adapters.codec.protobuf.wrong import WRONG, InexactError, WrongError, located, refusal
from gateway.codec import Bind, JsonOptions, Rule, Type, Value
from gateway.errors import CallerError
from gateway.jsontext import MAX_DEPTH
from gateway.schema import Leaf, Schema, Schemas

_SHALLOW_ENOUGH = 32
"""So many brackets in JSON are never nested over 100 on the wire: a Struct takes three levels for one."""
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH}"
PLAIN = JsonOptions()
_plain = json.JSONDecoder().raw_decode


class Pool:
    """The message types of one contract, and what is compiled of them, by options."""

    def __init__(self, pool: DescriptorPool) -> None:
        self.pool = pool
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
        self._class: Any = GetMessageClass(descriptor)
        self._pool = pool
        self._whole = whole

    def __repr__(self) -> str:
        return f"MessageType({self.name})"

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
        name = self.name
        read = self._read

        def pack(value: Value) -> bytes:
            try:
                return read(value)
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        return pack

    @cached_property
    def pack_json(self) -> Callable[[bytes], bytes]:
        """See `Type`."""
        name = self.name
        read = self._read

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
                return read(value)
            except InexactError:
                return exactly(body)
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        def exactly(body: bytes) -> bytes:
            try:
                return read(scan(body, digits=True))
            except WRONG as error:
                raise refusal(name, located(error, None, None, None)) from error

        return pack_json

    @cached_property
    def unpack_json(self) -> Callable[[bytes], bytes]:
        """See `Type`."""
        if not is_shallow(self.descriptor):
            show = self._show
            return lambda body: show(body).encode()
        name, parse, write = self.name, self._class.FromString, self._write

        def unpack_json(body: bytes) -> bytes:
            try:
                return write(parse(body)).encode()
            except (DecodeError, WrongError) as error:
                raise unreadable(name, error) from error

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
        return binding(self.descriptor, rule, lambda: self.unpack(b""))

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
        read = self._pool.readers(self.options, whole=self._whole).of(self.descriptor)
        if self.options.unknown == "reject" and is_shallow(self.descriptor):
            return read
        parse = self._class.FromString

        def bounded(value: Value) -> bytes:
            if not too_deep(value, _SHALLOW_ENOUGH):
                return read(value)
            if too_deep(value):
                raise WrongError(_TOO_DEEP)
            body = read(value)
            try:
                parse(body)
            except DecodeError as error:
                raise WrongError(_TOO_DEEP) from error
            return body

        return bounded

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
            except (DecodeError, WrongError) as error:
                raise unreadable(name, error) from error
            if not shallow and text.count("{") + text.count("[") > MAX_DEPTH and too_deep(_plain(text)[0]):
                raise refusal(name, WrongError(_TOO_DEEP))
            return text

        return show


def unreadable(name: str, error: DecodeError | WrongError) -> CallerError:
    """What is told of a message that the runtime cannot read, or that has no JSON."""
    return refusal(name, error if isinstance(error, WrongError) else WrongError(f"is not a {name}"))
