"""The gRPC listener: every method of every service, as raw bytes, through one generic handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import grpc
import grpc.aio
from pydantic import Field

from adapters.grpc.server import Server
from adapters.grpc.service import services
from adapters.ingress.grpc.call import Calls
from gateway.bind import Address, Bind, listen, split_bind
from gateway.codec import Contract
from gateway.listener import ListenerConfig, View
from gateway.message import Many
from gateway.task import Tasks
from gateway.tls import ListenerTls
from gateway.wire import Wire, method_wire
from gateway.worker import own

# How long grpcio may take to close what is cut, once the drain is over.
CLOSE_S = 2.0


class Config(ListenerConfig):
    """gRPC, all four kinds of methods, with health and reflection."""

    kind: Literal["grpc"]
    protocol: ClassVar[str] = "grpc"
    wire: ClassVar[Many] = Many.BOTH

    bind: Bind
    """Where to listen."""
    tls: ListenerTls | None = None
    """Without it the wire is clear text (h2c)."""
    health: bool = True
    """Serve grpc.health.v1.Health."""
    reflection: bool = True
    """Serve grpc.reflection (v1 and v1alpha): the services that have a route."""
    max_message: int = Field(default=4 << 20, gt=0, le=1 << 30)
    """Of a message in, in bytes. More is RESOURCE_EXHAUSTED."""
    max_metadata: int = Field(default=16 << 10, ge=1 << 10, le=1 << 20)
    """Of all metadata of a call together, in bytes."""
    max_exchanges: int = Field(default=10_000, gt=0)
    """At one time. More is UNAVAILABLE."""
    max_connections: int = Field(default=10_000, gt=0)
    """At one time. More are closed as they come."""
    max_streams: int = Field(default=1_000, gt=0)
    """At one time on one connection; the caller's library queues more."""
    first_message_s: float = Field(default=10.0, gt=0, le=3600)
    """How long a call may go without the message that it owes (a bidirectional method owes none)."""
    keepalive_s: float = Field(default=60.0, ge=1)
    """How often a silent connection is pinged."""
    keepalive_timeout_s: float = Field(default=20.0, ge=1)
    """A ping without an answer for so long: the connection is dropped, and its calls are cancelled."""
    max_idle_s: float = Field(default=300.0, ge=1)
    """A connection without a call for so long is closed."""
    max_age_s: float | None = Field(default=None, ge=1)
    """A connection so old is asked to end (GOAWAY), so that callers spread over new processes."""
    max_age_grace_s: float = Field(default=30.0, ge=1)
    """How long its calls may then go on."""
    reuse_port: bool = False
    """Listen though another process does on the same port, so that they share it (SO_REUSEPORT)."""

    def build(self, name: str, view: View) -> Grpc:
        return Grpc(self, name, view)

    def limit(self) -> int:
        return self.max_message

    @classmethod
    def wires(cls) -> Mapping[str, tuple[Wire, ...]]:
        return {cls.protocol: (method_wire(cls.protocol),)}

    @classmethod
    def pattern(cls, when: str) -> tuple[str, str]:
        return method_wire(cls.protocol).pattern(when)

    @classmethod
    def shape(cls, contract: Contract | None) -> Many:
        return method_wire(cls.protocol).shape(contract)

    def options(self) -> list[tuple[str, int]]:
        """The settings as grpcio's channel arguments."""
        ages = (
            []
            if self.max_age_s is None
            else [
                ("grpc.max_connection_age_ms", _ms(self.max_age_s)),
                ("grpc.max_connection_age_grace_ms", _ms(self.max_age_grace_s)),
            ]
        )
        return [
            # So that a listener can take the place of another while that still drains: grpcio takes no socket that is open.
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self.max_message),
            # The soft limit refuses at random above it; at the hard one it is a plain limit.
            ("grpc.max_metadata_size", self.max_metadata),
            ("grpc.absolute_max_metadata_size", self.max_metadata),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_concurrent_streams", self.max_streams),
            # With the probe each stream may hold megabytes that nobody has read yet; without it, 64 KiB.
            ("grpc.http2.bdp_probe", 0),
            # grpcio remembers a header that it could not read and then reads it into others of its name: one call with an
            # unknown grpc-encoding spoils the compressed calls of all who share the connection. So it may remember none.
            ("grpc.http2.hpack_table_size.decoder", 0),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Callers may ping an idle connection every 10 s; grpcio's default of 5 minutes ends theirs with too_many_pings.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.max_connection_idle_ms", _ms(self.max_idle_s)),
            *ages,
        ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Grpc:
    """The ingress."""

    def __init__(self, config: Config, name: str, view: View) -> None:
        self._config = config
        self._name = name
        self._view = view
        own_services = services(view, health=config.health, reflection=config.reflection)
        self._calls = Calls(view, own_services, config.max_exchanges, config.first_message_s)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        """See `Ingress.serving`."""
        server = Server(self._bound)
        await server.start()
        host, _ = split_bind(self._config.bind)
        async with Tasks() as tasks:
            tasks.spawn(self._calls.patience.watch(), "grpc: first messages")
            try:
                yield Address(host, server.port)
            finally:
                await self._drain(server)

    def _bound(self, port: int) -> tuple[grpc.aio.Server, int]:
        worker, place = own(), self._view.place
        host, given = self._config.bind.rsplit(":", 1)
        if not port:
            port = place.port if place is not None else int(given) or worker.ports.get(self._name, 0)
            if place is None and port and not worker.number and not self._config.reuse_port:
                _check_free(self._name, f"{host}:{port}")
        server = grpc.aio.server(options=self._config.options())
        server.add_generic_rpc_handlers((self._calls,))
        bind, tls = f"{host}:{port}", self._config.tls
        try:
            if tls is None:
                return server, server.add_insecure_port(bind)
            authority = tls.client_ca.read_bytes() if tls.client_ca else None
            pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
            credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
            return server, server.add_secure_port(bind, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {bind}") from error

    async def _drain(self, server: Server) -> None:
        """Take no more calls, and let those that run end."""
        now = asyncio.get_running_loop().time()
        until = max(self._view.drain_until or now, now)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.stop(until - now + CLOSE_S))
            await self._calls.end(until)


def _check_free(name: str, bind: str) -> None:
    """Raise OSError where a port is taken: sharing it by SO_REUSEPORT, grpcio would not tell."""
    for one in listen(name, bind, 1):
        one.close()
