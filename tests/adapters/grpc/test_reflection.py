"""Real servers over loopback: grpcio's own reflection, and a listener of the gateway."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from adapters.grpc import reflection
from adapters.grpc.reflection import ReflectionError, reflected

V1, V1ALPHA = reflection.NAMES


def files(*names: str) -> descriptor_pb2.FileDescriptorSet:
    """A chain of files, each importing the one before it, the last with a service."""
    found = descriptor_pb2.FileDescriptorSet()
    for name in names:
        file = found.file.add(
            name=f"{name}.proto", package="tea", syntax="proto3", dependency=[one.name for one in found.file][-1:]
        )
        file.message_type.add(name=f"{name.title()}")
    last = found.file[-1].name.removesuffix(".proto").title()
    service = found.file[-1].service.add(name="Kettle")
    service.method.add(name="Boil", input_type=f".tea.{last}", output_type=f".tea.{last}")
    return found


@contextmanager
def serving(answer, *names: str):
    """A server whose reflection, under these names, is `answer(requests, context)`; gives a channel to it."""
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in names:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(None).wait()


def telling(found: descriptor_pb2.FileDescriptorSet, *, alone: bool = False):
    """Grpcio's own reflection of some files; `alone`: a file comes without what it imports, as some servers do it."""
    pool = DescriptorPool()
    for file in found.file:
        pool.Add(file)
    servicer = ReflectionServicer(service_names=["tea.Kettle", V1ALPHA, "grpc.health.v1.Health"], pool=pool)

    def answer(requests, context):
        for reply in servicer.ServerReflectionInfo(requests, context):
            if alone and reply.HasField("file_descriptor_response"):
                del reply.file_descriptor_response.file_descriptor_proto[1:]
            yield reply

    return answer


def told(channel, seconds: float = 5) -> set[str]:
    return {file.name for file in descriptor_pb2.FileDescriptorSet.FromString(reflected(channel, (), seconds)).file}


@pytest.mark.parametrize("name", [V1, V1ALPHA])
@pytest.mark.parametrize("alone", [False, True])
def test_every_file_is_told_with_what_it_imports_by_either_version(name, alone):
    with serving(telling(files("leaf", "pot", "cup"), alone=alone), name) as channel:
        assert {"leaf.proto", "pot.proto", "cup.proto"} == told(channel)


def test_v1_is_asked_first():
    def never(_requests, context):
        context.abort(grpc.StatusCode.INTERNAL, "v1alpha was asked though there is v1")

    server = telling(files("leaf"))
    with serving(server, V1) as channel:
        assert {"leaf.proto"} == told(channel)
    with serving(never, V1ALPHA) as channel, pytest.raises(ReflectionError, match="internal"):
        told(channel)


def test_metadata_goes_with_the_question():
    seen = []

    def answer(requests, context):
        seen.append(dict(context.invocation_metadata()).get("authorization"))
        yield from telling(files("leaf"))(requests, context)

    with serving(answer, V1) as channel:
        reflected(channel, (("authorization", "Bearer tea"),), 5)
    assert ["Bearer tea"] == seen


def test_a_server_without_reflection_is_told():
    with serving(telling(files("leaf")), "tea.Other") as channel, pytest.raises(ReflectionError, match="serves no reflection"):
        told(channel)


def test_a_server_that_is_not_there_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with (
            grpc.insecure_channel(f"127.0.0.1:{free.getsockname()[1]}") as channel,
            pytest.raises(ReflectionError, match="cannot be reached"),
        ):
            told(channel)


def test_a_server_that_says_nothing_has_so_long():
    def silent(_requests, context):
        while context.is_active():
            time.sleep(0.05)
        yield from ()

    with serving(silent, V1) as channel, pytest.raises(ReflectionError, match=r"did not tell its contracts within 0.3 s"):
        told(channel, 0.3)


def test_a_file_that_the_server_does_not_tell_is_told():
    found = files("leaf", "cup")

    def answer(requests, context):
        for request in requests:
            if request.file_by_filename:
                error = reflection_pb2.ErrorResponse(error_code=5, error_message="no")
                yield reflection_pb2.ServerReflectionResponse(error_response=error)
            else:
                yield from telling(found, alone=True)(iter([request]), context)

    with serving(answer, V1) as channel, pytest.raises(ReflectionError, match=r"the file of leaf\.proto"):
        told(channel)


def test_googles_own_files_need_not_be_told():
    found = files("leaf")
    found.file[0].dependency.append("google/protobuf/timestamp.proto")
    content = found.file[0].SerializeToString()

    def answer(requests, _context):
        for request in requests:
            reply = reflection_pb2.ServerReflectionResponse()
            if request.list_services:
                reply.list_services_response.service.add(name="tea.Kettle")
            elif request.file_by_filename:
                reply.error_response.error_code = 5
            else:
                reply.file_descriptor_response.file_descriptor_proto.append(content)
            yield reply

    with serving(answer, V1) as channel:
        assert {"leaf.proto"} == told(channel)


def test_bytes_that_are_no_file_are_told():
    def answer(requests, _context):
        for request in requests:
            reply = reflection_pb2.ServerReflectionResponse()
            if request.list_services:
                reply.list_services_response.service.add(name="tea.Kettle")
            else:
                reply.file_descriptor_response.file_descriptor_proto.append(b"\xff\xff")
            yield reply

    with serving(answer, V1) as channel, pytest.raises(ReflectionError, match=r"tea\.Kettle that cannot be read"):
        told(channel)


def test_a_stream_that_ends_early_is_told():
    def answer(_requests, _context):
        yield from ()

    with serving(answer, V1) as channel, pytest.raises(ReflectionError, match="ended before it had told its contracts"):
        told(channel)


def test_a_server_that_lists_nothing_of_its_own_is_told():
    def answer(requests, _context):
        for _ in requests:
            reply = reflection_pb2.ServerReflectionResponse()
            reply.list_services_response.service.add(name=V1)
            yield reply

    with serving(answer, V1) as channel, pytest.raises(ReflectionError, match="lists no service"):
        told(channel)


def test_a_server_cannot_tell_without_end(monkeypatch):
    monkeypatch.setattr(reflection, "MAX_FILES", 2)
    with serving(telling(files("leaf", "pot", "cup")), V1) as channel, pytest.raises(ReflectionError, match="more than 2 files"):
        told(channel)
