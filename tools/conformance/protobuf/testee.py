#!/usr/bin/env -S .venv/bin/python
"""The program under test of protobuf's conformance runner: requests on stdin, responses on stdout, from the project's folder.

Each is a message of conformance.proto with its length before it, in four bytes. CONFORMANCE_TESTS names the descriptor set;
with CONFORMANCE_CODEC=upstream it is protobuf's own json_format that answers, to compare with.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf import MessageType, Pool
from gateway.codec import JsonOptions
from gateway.errors import CallerError

PROTOBUF, JSON = 1, 2
"""WireFormat, the two that we speak."""
IGNORE_UNKNOWN = 3
"""TestCategory JSON_IGNORE_UNKNOWN_PARSING_TEST."""

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]
"""JSON to the wire form, and back."""


def ours(descriptor: Descriptor, pool: Pool, *, lenient: bool) -> Codec:
    """The gateway's codec."""
    kind = MessageType(descriptor, pool, JsonOptions(unknown="ignore" if lenient else "reject"))
    return kind.pack_json, kind.unpack_json


def upstream(descriptor: Descriptor, pool: Pool, *, lenient: bool) -> Codec:
    """Protobuf's own."""
    make: Any = GetMessageClass(descriptor)

    def pack(body: bytes) -> bytes:
        parsed = json_format.Parse(body, make(), ignore_unknown_fields=lenient, descriptor_pool=pool.pool)
        return bytes(parsed.SerializePartialToString())

    return pack, lambda body: json_format.MessageToJson(make.FromString(body), descriptor_pool=pool.pool).encode()


class Testee:
    """Answers one request after another."""

    def __init__(self, descriptors: bytes, codec: Callable[..., Codec]) -> None:
        pool = DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            pool.Add(file)
        self._pool = Pool(pool)
        self._codec = codec
        self._request: Any = GetMessageClass(pool.FindMessageTypeByName("conformance.ConformanceRequest"))
        self._response: Any = GetMessageClass(pool.FindMessageTypeByName("conformance.ConformanceResponse"))

    def answer(self, content: bytes) -> bytes:
        """One response."""
        request = self._request.FromString(content)
        return bytes(self._response(**self._result(request)).SerializeToString())

    def _result(self, request: Any) -> dict[str, Any]:
        if request.message_type == "conformance.FailureSet":
            return {"protobuf_payload": b""}
        payload = request.WhichOneof("payload")
        if payload not in {"protobuf_payload", "json_payload"} or request.requested_output_format not in {PROTOBUF, JSON}:
            return {"skipped": "not a format of ours"}
        descriptor = self._pool.pool.FindMessageTypeByName(request.message_type)
        pack, unpack = self._codec(descriptor, self._pool, lenient=request.test_category == IGNORE_UNKNOWN)
        wanted = request.requested_output_format
        try:
            if payload == "json_payload":
                body = pack(request.json_payload.encode())
            else:
                body = request.protobuf_payload
                parsed: Any = GetMessageClass(descriptor).FromString(body)
                # The gateway never writes binary anew for a binary target: the suite's own form of it is the runtime's.
                body = parsed.SerializePartialToString() if wanted == PROTOBUF else body
        except (CallerError, DecodeError, json_format.ParseError) as error:
            return {"parse_error": str(error)}
        if wanted == PROTOBUF:
            return {"protobuf_payload": body}
        try:
            return {"json_payload": unpack(body).decode()}
        except (CallerError, json_format.SerializeToJsonError, ValueError) as error:
            return {"serialize_error": str(error)}


def serve(testee: Testee, requests: BinaryIO, responses: BinaryIO) -> None:
    """Until the runner closes its end."""
    while head := requests.read(4):
        answer = testee.answer(requests.read(struct.unpack("<I", head)[0]))
        responses.write(struct.pack("<I", len(answer)) + answer)
        responses.flush()


if __name__ == "__main__":
    codec = upstream if os.environ.get("CONFORMANCE_CODEC") == "upstream" else ours
    serve(Testee(Path(os.environ["CONFORMANCE_TESTS"]).read_bytes(), codec), sys.stdin.buffer, sys.stdout.buffer)
