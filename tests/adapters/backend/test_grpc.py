"""The gRPC backend, against grpcio's own server over loopback, and against peers that speak HTTP/2 badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from adapters.backend.grpc import CallTo, Config
from gateway.codec import Contract
from gateway.errors import Reason
from gateway.message import PROTOBUF, Many, Message
from gateway.port import Target
from tests.contract.backend import CallContract, Rig
from tests.kafka_broker import free_port

Behaviour = Callable[[Any, Any], Any]


class Peer(grpc.GenericRpcHandler):
    """A gRPC server whose methods are raw coroutines, by name."""

    def __init__(self, methods: dict[str, Behaviour]) -> None:
        self.methods = methods
        self.metadata: list[dict[str, str | bytes]] = []
        self.address = ""

    def service(self, details):
        self.metadata.append(dict(details.invocation_metadata))
        behaviour = self.methods.get(details.method.rpartition("/")[2])
        return behaviour and grpc.stream_stream_rpc_method_handler(behaviour)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def backend(self, **settings: object) -> Config:
        return Config.model_validate({"kind": "grpc", "address": self.address, **settings})


def target(method: str, many: Many = Many.NEITHER, **settings: object) -> Target:
    contract = Contract(f"shop.v1.Test/{method}", None, None, many)
    spec = CallTo.model_validate({"backend": "peer", "call": contract.name})
    return Target("route", spec, contract, PROTOBUF, **settings)


async def echo(_requests, context):
    while (body := await context.read()) is not grpc.aio.EOF:
        await context.write(b"<" + body + b">")


async def three(_requests, context):
    await context.read()
    for number in range(3):
        await context.write(b"%d" % number)


async def fail(_requests, context):
    await context.read()
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such sku")


async def empty(_requests, context):
    """OK without a message: nonsense for a unary method."""
    await context.read()


class TestContract(CallContract):
    @pytest.fixture
    async def rig(self):
        arrived, left = asyncio.Event(), asyncio.Event()

        async def hang(_requests, context):
            await context.read()
            arrived.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                left.set()

        peer = Peer({"Echo": echo, "Three": three, "Fail": fail, "Hang": hang, "Empty": empty})
        async with peer.serving():
            yield Rig(
                backend=peer.backend(),
                answers=target("Echo"),
                request=Message(b"hi", PROTOBUF),
                reply=Message(b"<hi>", PROTOBUF),
                fails=target("Fail"),
                fails_as=Reason.BACKEND_NOT_FOUND,
                hangs=target("Hang"),
                arrived=arrived,
                left=left,
                nonsense=target("Empty"),
                streams=target("Three", Many.REPLIES),
                stream=tuple(Message(b"%d" % number, PROTOBUF) for number in range(3)),
                talks=target("Echo", Many.BOTH),
                away=Config(kind="grpc", address=f"127.0.0.1:{free_port()}"),
            )
