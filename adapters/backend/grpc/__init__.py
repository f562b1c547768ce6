"""The gRPC backend: raw bytes over one channel, all four kinds of methods, with the peer's own status passed through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Annotated, ClassVar, Literal, Self, cast

import grpc
import grpc.aio
from pydantic import Field

from adapters.backend.grpc.link import Link
from adapters.backend.grpc.method import Method
from adapters.grpc.metadata import Metadata, metadata_of
from gateway.codec import Contract
from gateway.exchange import Handler
from gateway.message import Many
from gateway.part import Written
from gateway.peer import PeerConfig
from gateway.target import Target, TargetConfig
from gateway.tls import BackendTls

CHECK_S = 1.5


class Tls(BackendTls):
    """How the peer is known, and how we are known to it."""

    server_name: str | None = None
    """The name that the peer's certificate must have, where it is not that of `address`."""


class CallTo(TargetConfig):
    """Call a method of a gRPC server."""

    verb: ClassVar[str] = "call"

    call: Annotated[str, Written(r"^[A-Za-z_][\w.]*/[A-Za-z_]\w*$", "package.Service/Method, as in shop.v1.Stock/Get")] = Field(
        examples=["shop.v1.Stock/Get"]
    )
    """The method's full name."""
    format: str = "protobuf"
    """How the target's messages are written."""

    def method(self) -> str:
        return self.call


class Config(PeerConfig):
    """Call the methods of a gRPC server."""

    kind: Literal["grpc"]
    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = {"call": CallTo}

    address: str = Field(min_length=1, examples=["stock:50051", "dns:///stock:50051", "unix:/run/stock.sock"])
    """Where the server is."""
    tls: Tls | None = None
    """Without it the wire is clear text (h2c)."""
    connect_s: float = Field(default=5.0, gt=0, le=300)
    """How long connecting may take."""
    max_message: int = Field(default=4 << 20, gt=0, le=1 << 30)
    """Of a reply, in bytes."""
    max_metadata: int = Field(default=16 << 10, ge=1 << 10, le=1 << 20)
    """Of all metadata of a reply together, in bytes."""
    metadata: Mapping[str, str] = Field(default={}, examples=[{"authorization": "Bearer ${file:/run/secrets/stock}"}])
    """Sent with every call, in place of what the caller sent under these names. A `-bin` value is written in base64."""
    calls: int = Field(default=1024, ge=1, le=1_000_000)
    """The most calls at once, streams included. One more is refused as overloaded, so that a slow server hurts only its own
    routes.
    """
    keepalive_s: float = Field(default=330.0, ge=10)
    """How often a connection with silent calls is pinged. Most servers drop whoever pings more than every 5 minutes."""
    keepalive_timeout_s: float = Field(default=20.0, ge=1)
    """A ping without an answer for so long: the connection is dropped."""

    def connecting(self) -> Grpc:
        return Grpc(self)

    def calls_at_once(self) -> int:
        return self.calls

    def calling(self, contract: Contract) -> Mapping[str, object]:
        return {"call": contract.name}

    def dial(self) -> tuple[grpc.Channel, Metadata]:
        """See `Reflecting`."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, self.options()), self.fixed()
        return grpc.secure_channel(self.address, _credentials(self.tls), self.options()), self.fixed()

    def fixed(self) -> Metadata:
        """What goes with every call."""
        return metadata_of((name.lower(), value) for name, value in self.metadata.items())

    def options(self) -> list[tuple[str, int | str]]:
        """The settings as grpcio's channel arguments."""
        connect_ms = round(self.connect_s * 1000)
        name = [("grpc.ssl_target_name_override", self.tls.server_name)] if self.tls and self.tls.server_name else []
        return [
            # A connection of its own: grpcio shares one among all channels of a process that lead to the same place.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            # With the probe each stream may hold megabytes that nobody has read yet; without it, 64 KiB.
            ("grpc.http2.bdp_probe", 0),
            # Retries are a policy's business; a call that the peer has not seen is sent again in any case.
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.max_receive_message_length", self.max_message),
            ("grpc.max_metadata_size", self.max_metadata),
            ("grpc.absolute_max_metadata_size", self.max_metadata),
            ("grpc.min_reconnect_backoff_ms", connect_ms),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", max(connect_ms, 5000)),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            *name,
        ]


class Grpc:
    """The backend."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._link = Link(config.address, config.connect_s, config.fixed())

    async def __aenter__(self) -> Self:
        config = self._config
        if config.tls is None:
            channel = grpc.aio.insecure_channel(config.address, config.options())
        else:
            channel = grpc.aio.secure_channel(config.address, _credentials(config.tls), config.options())
        self._stack.push_async_callback(channel.close)
        await self._stack.enter_async_context(self._link.over(channel))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        await self._link.connected(asyncio.get_running_loop().time() + CHECK_S)

    def handler(self, target: Target) -> Handler:
        spec = cast("CallTo", target.spec)  # the one verb that there is
        many = spec.many(target.contract)
        bound = Method(self._link, f"/{spec.call}", many, target)
        return bound.once if many is Many.NEITHER else bound.stream


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, key, chain = (path.read_bytes() if path is not None else None for path in (tls.ca, tls.key, tls.certificate))
    return grpc.ssl_channel_credentials(ca, key, chain)
