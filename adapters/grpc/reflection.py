"""Asking a server for its files by reflection (grpc.reflection v1, and v1alpha where it has no v1), when the config is loaded.

Blocking, by grpcio's synchronous client: nothing serves yet, and whoever loads a config need not have an event loop.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Protocol, Self, runtime_checkable

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from adapters.grpc.metadata import Metadata

# The two differ in nothing but the name.
NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
# Services that every server has, and the gateway's own listener too: no contracts of anybody.
_EVERYBODYS = ("grpc.reflection.", "grpc.health.")
MAX_FILES = 5_000
MAX_BYTES = 64 << 20


@runtime_checkable
class Reflecting(Protocol):
    """The config of a backend whose server may be asked."""

    def dial(self) -> tuple[grpc.Channel, Metadata]:
        """A blocking channel to the server, and the metadata that goes with every call."""


class ReflectionError(Exception):
    """The server did not tell its files; the text says why."""


def reflected(channel: grpc.Channel, metadata: Metadata, seconds: float) -> bytes:
    """Every file of every service that a server lists, and what they import, as a serialized FileDescriptorSet."""
    until = time.monotonic() + seconds
    for name in NAMES:
        with _Asking(channel, name, metadata, until) as asking:
            try:
                return asking.files()
            except grpc.RpcError as error:
                code = error.code()
                if code is grpc.StatusCode.UNIMPLEMENTED and name != NAMES[-1]:
                    continue
                raise ReflectionError(_why(code, seconds)) from error
    raise AssertionError("the last name returns or raises")


def _why(code: grpc.StatusCode, seconds: float) -> str:
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "serves no reflection (grpc.reflection.v1 or v1alpha)"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"did not tell its contracts within {seconds:g} s"
    if code is grpc.StatusCode.UNAVAILABLE:
        return "cannot be reached to be asked for its contracts"
    return f"refused to tell its contracts ({code.name.lower()})"


class _Asking:
    """One stream of questions and answers."""

    def __init__(self, channel: grpc.Channel, name: str, metadata: Metadata, until: float) -> None:
        self._questions: queue.SimpleQueue[ServerReflectionRequest | None] = queue.SimpleQueue()
        ask = channel.stream_stream(
            f"/{name}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        self._answers = ask(iter(self._questions.get, None), timeout=max(until - time.monotonic(), 0.001), metadata=metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._questions.put(None)
        self._answers.cancel()

    def files(self) -> bytes:
        answer = self._ask(ServerReflectionRequest(list_services="*"))
        listed = [one.name for one in answer.list_services_response.service if not one.name.startswith(_EVERYBODYS)]
        if not listed:
            raise ReflectionError("lists no service of its own")
        found: dict[str, FileDescriptorProto] = {}
        size = 0
        waiting = [ServerReflectionRequest(file_containing_symbol=name) for name in reversed(listed)]
        while waiting:
            question = waiting.pop()
            if question.file_by_filename in found:
                continue
            for file in self._told(question):
                if file.name in found:
                    continue
                found[file.name] = file
                size += file.ByteSize()
                if len(found) > MAX_FILES or size > MAX_BYTES:
                    raise ReflectionError(f"tells more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
                # Servers may send what a file imports with it, and not all do.
                waiting += [ServerReflectionRequest(file_by_filename=name) for name in file.dependency if name not in found]
        return FileDescriptorSet(file=found.values()).SerializeToString()

    def _told(self, question: ServerReflectionRequest) -> Iterator[FileDescriptorProto]:
        answer = self._ask(question)
        what = question.file_containing_symbol or question.file_by_filename
        if answer.WhichOneof("message_response") == "error_response":
            # A file of Google's own that the server has none of is taken from ours.
            if question.file_by_filename.startswith("google/"):
                return
            raise ReflectionError(f"does not tell the file of {what}")
        try:
            for content in answer.file_descriptor_response.file_descriptor_proto:
                yield FileDescriptorProto.FromString(content)
        except DecodeError as error:
            raise ReflectionError(f"tells a file of {what} that cannot be read") from error

    def _ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        self._questions.put(question)
        try:
            answer: ServerReflectionResponse = next(self._answers)
        except StopIteration as error:
            raise ReflectionError("ended before it had told its contracts") from error
        return answer
