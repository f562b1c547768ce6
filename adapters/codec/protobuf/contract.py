"""Contracts from descriptor sets: several sets made one, and what each method says of itself, its HTTP calls included."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from adapters.codec.protobuf.origin import comments, rules
from gateway.codec import Contract, Contracts, HttpBinding, Type, Value
from gateway.contract import MisfitError
from gateway.errors import CallerError
from gateway.message import Many

MakeType = Callable[[Descriptor, DescriptorPool], Type]

# Files that every tool brings an edition of its own of: they need not be the same in two sources, and the first counts. Where
# no source has one, the one that protobuf and googleapis-common-protos bring is taken.
_GOOGLES = re.compile(r"google/(?:protobuf|api|rpc|type|longrunning)/[a-z0-9_/]+\.proto\Z")


def contracts(sets: Sequence[bytes], make: MakeType) -> Contracts:
    """Every method of every service in serialized FileDescriptorSets. Raises MisfitError."""
    files = _merged(sets)
    pool = DescriptorPool()
    for file, number in files.values():
        try:
            pool.Add(file)
        except TypeError as error:
            raise MisfitError(f"{file.name} cannot be built: {_reason(error)}", number) from error
    kinds: dict[str, Type] = {}

    def kind(descriptor: Descriptor) -> Type:
        found = kinds.get(descriptor.full_name)
        if found is None:
            found = kinds[descriptor.full_name] = make(descriptor, pool)
        return found

    def tell(name: str, body: bytes) -> Value | None:
        try:
            return kind(pool.FindMessageTypeByName(name)).unpack(body)
        except (KeyError, CallerError):
            return None

    own = [file for file, _ in files.values() if not _GOOGLES.match(file.name)]
    said = {name: text for file in own for name, text in comments(file)}
    methods = [
        replace(_contract(method, kind, places), tell=tell)
        for name, (file, _) in files.items()
        for places in (rules(file),)
        for service in pool.FindFileByName(name).services_by_name.values()
        for method in service.methods
    ]
    digests = {file.name: _digest(file) for file in own}
    merged = FileDescriptorSet(file=[file for file, _ in files.values()])
    for file in merged.file:
        file.ClearField("source_code_info")
    return Contracts({one.name: one for one in methods}, (merged.SerializeToString(),), said, digests)


Numbered = dict[str, tuple[FileDescriptorProto, int]]
"""Files by name, each with the number of the set that it is from; in the order in which they can be built."""


def _merged(sets: Sequence[bytes]) -> Numbered:
    """The files of all sets, each once. A set need not hold what Google's files it imports."""
    found: Numbered = {}
    for number, content in enumerate(sets):
        for file in _parsed(content, number).file:
            first = found.setdefault(file.name, (file, number))
            if first[0] is not file and not _GOOGLES.match(file.name) and not _same(first[0], file):
                raise MisfitError(f"{file.name} is not the same as in", number, first[1])
    ordered: Numbered = {}
    for name, (_, number) in list(found.items()):
        _place(name, number, found, ordered)
    return ordered


def _parsed(content: bytes, number: int) -> FileDescriptorSet:
    try:
        return FileDescriptorSet.FromString(content)
    except DecodeError as error:
        raise MisfitError("this is not a FileDescriptorSet (protoc --descriptor_set_out --include_imports)", number) from error


def _place(name: str, number: int, found: Numbered, ordered: Numbered) -> None:
    """A file behind all that it imports, without recursion: a chain of imports may be long."""
    waiting = [name]
    opened: set[str] = set()
    while waiting:
        at = waiting[-1]
        if at in ordered:
            waiting.pop()
            continue
        if at not in found:
            found[at] = (_ours(at, number), number)
        file, _ = found[at]
        lacking = [one for one in file.dependency if one not in ordered]
        if not lacking or at in opened:
            if lacking:
                raise MisfitError(f"{at} and {lacking[0]} import each other", found[at][1])
            ordered[at] = found[at]
            waiting.pop()
            continue
        opened.add(at)
        waiting += lacking
        number = found[at][1]


def _ours(name: str, number: int) -> FileDescriptorProto:
    """A file of Google's that no source has."""
    if _GOOGLES.match(name):
        try:
            module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        except ModuleNotFoundError:
            pass  # told below, as any other file that is not there
        else:
            file = FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(file)
            return file
    raise MisfitError(f"{name} is imported and not there: make the set with --include_imports", number)


def _reason(error: TypeError) -> str:
    """Protobuf's words, less its opening: what is wrong with which name."""
    return str(error).rpartition("descriptor pool: ")[2].strip() or "it contradicts itself"


def _same(one: FileDescriptorProto, other: FileDescriptorProto) -> bool:
    return _bare(one) == _bare(other)


def _digest(file: FileDescriptorProto) -> str:
    return hashlib.sha256(_bare(file)).hexdigest()[:16]


def _bare(file: FileDescriptorProto) -> bytes:
    """What a file says, less what tools add or leave out: comments, and JSON names that follow from the fields' names."""
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    if bare.syntax == "proto2":
        bare.ClearField("syntax")
    fields = [*bare.extension]
    waiting = list(bare.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        fields += [*message.field, *message.extension]
    for field in fields:
        if field.json_name == _camel(field.name):
            field.ClearField("json_name")
    return bare.SerializeToString(deterministic=True)


def _camel(name: str) -> str:
    """Protoc's own default for a JSON name."""
    return re.sub(r"_+(.?)", lambda match: match[1].upper(), name)


def _contract(method: MethodDescriptor, kind: Callable[[Descriptor], Type], places: Mapping[str, str]) -> Contract:
    many = Many.NEITHER
    if method.client_streaming:
        many |= Many.REQUESTS
    if method.server_streaming:
        many |= Many.REPLIES
    options = method.GetOptions()
    safe = options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    name = f"{method.containing_service.full_name}/{method.name}"
    http: tuple[HttpBinding, ...] = ()
    if options.HasExtension(annotations_pb2.http):
        origin = places.get(method.full_name, method.containing_service.file.name)
        http = tuple(replace(one, origin=origin) for one in _bindings(options.Extensions[annotations_pb2.http]))
    return Contract(name, kind(method.input_type), kind(method.output_type), many, safe, http)


def _bindings(rule: http_pb2.HttpRule) -> Iterator[HttpBinding]:
    """A rule and those that stand beside it. What is in `additional_bindings` may have none of its own (http.proto)."""
    yield _binding(rule)
    for more in rule.additional_bindings:
        nested = "additional_bindings may not stand in additional_bindings" if more.additional_bindings else ""
        yield _binding(more, nested)


def _binding(rule: http_pb2.HttpRule, wrong: str = "") -> HttpBinding:
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        return HttpBinding("", "", wrong=wrong or "the annotation has no pattern")
    method, path = (rule.custom.kind, rule.custom.path) if pattern == "custom" else (pattern.upper(), getattr(rule, pattern))
    return HttpBinding(method, path, rule.body, rule.response_body, wrong=wrong)
