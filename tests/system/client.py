"""The callers of the system tests: curl, a gRPC client that knows the contracts from their descriptor set, and websockets."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import status_pb2

from tests.system.process import ROOT

PATIENCE_S = 20


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The values of an NDJSON body."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "")


def _head(text: str) -> tuple[int, dict[str, str]]:
    first, *rest = text.split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def curl(url: str, *options: str, data: bytes | None = None) -> Answer:
    """One request with curl; `data` is its standard input (`--data-binary @-`)."""
    body = ("--data-binary", "@-") if data is not None else ()
    said = ("-sSi", "--path-as-is", "--max-time", str(PATIENCE_S))
    process = await asyncio.create_subprocess_exec(
        "curl",
        *said,
        *options,
        *body,
        url,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate(data)
    assert process.returncode in {0, 18}, f"curl {options} {url}: {err.decode()}"
    while out.startswith(b"HTTP/1.1 100"):
        out = out.partition(b"\r\n\r\n")[2]
    head, _, content = out.partition(b"\r\n\r\n")
    status, headers = _head(head.decode("latin-1"))
    return Answer(status, headers, content)


@dataclass
class Stream:
    """An answer that goes on: its head is here, its lines come."""

    status: int
    headers: dict[str, str]
    process: Process = field(repr=False)

    async def line(self) -> str:
        """The next line of the body, without its end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def value(self) -> Any:
        """The next line of NDJSON."""
        return json.loads(await self.line())

    async def event(self) -> dict[str, str]:
        """The fields of the next server-sent event; comments are passed over."""
        fields: dict[str, str] = {}
        while line := await self.line():
            name, _, value = line.partition(": ")
            if name and not line.startswith(":"):
                fields[name] = value
        return fields or await self.event()


@asynccontextmanager
async def streaming(url: str, *options: str) -> AsyncIterator[Stream]:
    """A request with curl whose answer's head has come: a feed is open by then. Leaving drops the connection.

    `-D -` and not `-i`: with that, curl keeps the head in its own buffer until a body comes.
    """
    process = await asyncio.create_subprocess_exec("curl", "-s", "-D", "-", "-N", *options, url, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            head = await process.stdout.readuntil(b"\r\n\r\n")
        yield Stream(*_head(head.decode()), process)
    finally:
        if process.returncode is None:
            process.kill()
        # Everything is read to the end, so that the pipe closes in this event loop.
        await process.communicate()


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "protos/shop.binpb").read_bytes())
    for file in files.file:
        pool.Add(file)
    return pool


POOL = _pool()


def message(name: str, **fields: Any) -> Any:
    """A protobuf message of the shop's contracts, by its full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))(**fields)


def plain(sent: Any) -> dict[str, Any]:
    """A protobuf message as its JSON mapping, every field shown."""
    return json_format.MessageToDict(sent, always_print_fields_with_no_presence=True, descriptor_pool=POOL)


class Rpc:
    """A gRPC client for the methods of the shop, at one address."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def method(self, name: str) -> Any:
        """grpc.aio's callable of a method ("shop.v1.Stock/Get"), of its own kind and types."""
        service, _, called = name.partition("/")
        found = POOL.FindServiceByName(service).FindMethodByName(called)
        kind = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
        answer = message_factory.GetMessageClass(found.output_type)
        return getattr(self.channel, kind)(
            f"/{name}", request_serializer=lambda sent: sent.SerializeToString(), response_deserializer=answer.FromString
        )

    def raw(self, path: str) -> Any:
        """A unary method whose messages are bytes."""
        return self.channel.unary_unary(path)

    async def call(self, name: str, **fields: Any) -> Any:
        """One request, one reply."""
        found = POOL.FindServiceByName(name.partition("/")[0]).FindMethodByName(name.partition("/")[2])
        return await self.method(name)(message(found.input_type.full_name, **fields), timeout=PATIENCE_S)

    async def refusal(self, name: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Status and reason (of google.rpc.ErrorInfo) of a call that is refused."""
        try:
            answer = await self.call(name, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code(), reason_of(error)
        raise AssertionError(f"{name} was answered: {answer}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in a status's details, in our own words ("unreachable")."""
    from google.rpc import error_details_pb2

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason.lower()
    return ""


@asynccontextmanager
async def rpc(address: str, *options: tuple[str, Any]) -> AsyncIterator[Rpc]:
    """A client of one gRPC listener, with a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *options]) as channel:
        yield Rpc(channel)
