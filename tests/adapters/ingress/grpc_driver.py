"""The contract suite's view of the gRPC listener: a grpc.aio channel over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from adapters.grpc.failure import LastWord
from adapters.ingress.grpc import Config
from gateway.errors import Reason
from gateway.listener import View
from gateway.message import PROTOBUF, Headers, Many
from gateway.status import TABLE
from tests.contract.driver import PATIENCE_S, SENT, Answer, Conversation, Driver, EndedError

PATH = "/shop.v1.Test/Talk"


def error_info(details: bytes | None) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo in a `grpc-status-details-bin`, or an empty one."""
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details or b"").details:
        if detail.Unpack(info):
            break
    return info


class GrpcConversation(Conversation):
    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self._call = call
        self._last = LastWord(call)

    async def send(self, body: bytes) -> None:
        # Where it has ended already, receive() says how.
        with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            await self._call.write(body)

    async def finish(self) -> None:
        await self._call.done_writing()

    async def receive(self) -> bytes:
        try:
            body = await self._call.read()
        except grpc.aio.AioRpcError:
            body = grpc.aio.EOF
        if body is grpc.aio.EOF:
            raise EndedError(await self._answer())
        return body

    async def leave(self) -> None:
        self._call.cancel()

    async def _answer(self) -> Answer:
        call = self._call
        known = (await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details())
        # Writing to a call that is refused meanwhile makes grpcio's client put an error of its own in the answer's place.
        status = await self._last.status(grpc.aio.AioRpcError(*known))
        trailers = dict(status.trailing_metadata() or ())
        info = error_info(trailers.get("grpc-status-details-bin"))
        clean = status.code() is grpc.StatusCode.OK
        return Answer(
            clean=clean,
            status=None if clean else status.code().value[0],
            reason=info.reason or trailers.get("x-reason", ""),
            id=str(trailers.get("x-request-id", "")),
            text=f"{status.details()} {info}",
            headers=Headers(status.initial_metadata() or ()),
        )


class GrpcDriver(Driver):
    protocol: ClassVar[str] = "grpc"
    target: ClassVar[str] = PATH
    wire: ClassVar[Many] = Many.BOTH
    content_type: ClassVar[str] = PROTOBUF

    def __init__(self, **settings: object) -> None:
        self.config = Config.model_validate({"kind": "grpc", "bind": "127.0.0.1:0", **settings})
        self.channel: grpc.aio.Channel

    @asynccontextmanager
    async def listening(self, view: View) -> AsyncIterator[str]:
        async with self.config.build("rpc", view).serving() as address:
            self.channel = grpc.aio.insecure_channel(str(address), options=[("grpc.use_local_subchannel_pool", 1)])
            try:
                yield str(address)
            except BaseException:
                await self.channel.close()
                raise
        # What the callers were told last may still be on its way to them.
        await self.channel.close(PATIENCE_S)

    @asynccontextmanager
    async def conversing(self) -> AsyncIterator[GrpcConversation]:
        call = self.channel.stream_stream(PATH)(metadata=(SENT,))
        try:
            yield GrpcConversation(call)
        finally:
            call.cancel()

    def status(self, reason: Reason) -> int:
        return TABLE[reason].code.value
