"""The gRPC listener: every method of every service, as raw bytes, through one generic handler.

No method is registered, so a path is routed when its HEADERS come, before any message: refusals, the deadline of the first
message and admission are ours. A method with one reply runs in grpcio's stream-unary form: like stream-stream it runs at
HEADERS time, and like unary-unary it sends reply and status in one batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Literal, cast
from urllib.parse import unquote

import grpc
import grpc.aio
from pydantic import Field

from adapters.grpc.conversation import Conversation, Patience
from adapters.grpc.metadata import REQUEST_ID, headers_of
from adapters.grpc.server import Server
from adapters.grpc.service import services
from adapters.grpc.status import status_of
from gateway.bind import Address, Bind, listen, split_bind
from gateway.codec import Contract
from gateway.errors import CallerError, GatewayError, Outcome, Reason, Resume
from gateway.exchange import Call, new_id
from gateway.listener import ListenerConfig, View
from gateway.message import PROTOBUF, Headers, Many
from gateway.route import Endpoint, Found
from gateway.status import marks
from gateway.task import Tasks
from gateway.tls import ListenerTls
from gateway.wire import Wire, method_wire
from gateway.worker import own

log = logging.getLogger("polygate")

# How long grpcio may take to close what is cut, once the drain is over.
CLOSE_S = 2.0
# How soon a stream that is being sent to is looked at again when a drain ends it.
CUT_AGAIN_S = 0.1


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
        self._own: Mapping[str, Endpoint] = services(view, health=config.health, reflection=config.reflection)
        self._running: dict[asyncio.Task[Any], Conversation] = {}
        self._patience = Patience(config.first_message_s)
        self._draining = False
        self._emptied = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        """See `Ingress.serving`."""
        server = Server(self._bound)
        await server.start()
        host, _ = split_bind(self._config.bind)
        async with Tasks() as tasks:
            tasks.spawn(self._patience.watch(), "grpc: first messages")
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
        server.add_generic_rpc_handlers((_Paths(self),))
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
        """Take no more calls, let those that run end, then end them ourselves: grpcio's own grace drops them without a status.

        A stream of replies has no end of its own: each is ended in its turn, over the first half of the time that is left.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = max(self._view.drain_until or now, now)
        self._draining = True
        streams = [task for task, conversation in self._running.items() if conversation.call.many is Many.REPLIES]
        for number, task in enumerate(streams):
            loop.call_at(now + (until - now) / 2 * number / len(streams), self._cut, task)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.stop(until - now + CLOSE_S))
            try:
                async with asyncio.timeout_at(until):
                    if self._running:
                        await self._emptied.wait()
            except TimeoutError:
                log.warning("grpc: %d calls outlasted the drain", len(self._running))
            for task in list(self._running):
                self._cut(task, wait=False)

    def _cut(self, task: asyncio.Task[Any], *, wait: bool = True) -> None:
        """End a call, once what is being sent to it has left."""
        conversation = self._running.get(task)
        if conversation is None or conversation.cut:
            return
        if wait and conversation.sending:
            asyncio.get_running_loop().call_later(CUT_AGAIN_S, self._cut, task)
        else:
            conversation.cut = True
            task.cancel(Reason.OVERLOADED)

    def find(self, target: str, headers: Headers) -> Found:
        """The route of a path, or one of our own services where it has none."""
        found = self._view.find("grpc", target, headers)
        if found.error is not None and target in self._own:
            return Found(self._own[target])
        return found

    async def run(self, found: Found, target: str, headers: Headers, context: Any) -> bytes:
        """Run one call to its end. Returns what a method with one reply replies; an error leaves as grpcio's AbortError."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        exchange_id = new_id()
        conversation: Conversation | None = None
        try:
            call = self._call(exchange_id, found, target, headers, context)
            conversation = Conversation(call, context, self._patience)
            handler = found.endpoint.handler
            if len(self._running) >= self._config.max_exchanges:
                handler = self._view.refuse("grpc", GatewayError(Reason.OVERLOADED, "too many calls at once")).handler
            self._running[task] = conversation
            if self._view.admission.late:
                await self._view.admission.turn()
            await handler(conversation)
            context.set_trailing_metadata(((REQUEST_ID, exchange_id), *conversation.trailers))
        except GatewayError as error:
            if conversation is not None and (head := marks(error)):
                with suppress(CallerError):  # gone: abort() finds that out by itself
                    await conversation.accept(head)
            return await _refuse(context, error, exchange_id)
        except asyncio.CancelledError:
            cut = conversation is not None and conversation.cut
            if not cut and task.cancelling():
                raise
            # Cut by the drain, or cancelled by nobody: grpcio sends no status for a CancelledError, and the caller would hang.
            for _ in range(task.cancelling()):
                task.uncancel()
            return await _refuse(context, _stopping(conversation) if cut else _bug(exchange_id), exchange_id)
        except Exception:
            # grpcio would tell the caller the exception's class and text.
            log.exception("exchange %s failed", exchange_id)
            return await _refuse(context, _bug(exchange_id), exchange_id)
        finally:
            self._running.pop(task, None)
            if self._draining and not self._running:
                self._emptied.set()
        return conversation.reply or b""

    @staticmethod
    def _call(exchange_id: str, found: Found, target: str, headers: Headers, context: Any) -> Call:
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        return Call(
            id=exchange_id,
            protocol="grpc",
            target=target,
            headers=headers,
            params=found.params,
            many=found.endpoint.many,
            deadline=deadline,
            expires=deadline,
            peer=_host(context.peer()),
            accepts=PROTOBUF,
        )


def _check_free(name: str, bind: str) -> None:
    """Raise OSError where a port is taken: sharing it by SO_REUSEPORT, grpcio would not tell."""
    for one in listen(name, bind, 1):
        one.close()


async def _refuse(context: Any, error: GatewayError, exchange_id: str) -> bytes:
    status = status_of(error, exchange_id)
    await context.abort(status.code, status.message, status.trailers)
    raise AssertionError("abort() raises")


def _stopping(conversation: Conversation | None) -> GatewayError:
    cursor = conversation.cursor if conversation is not None else None
    details = (Resume(cursor),) if cursor is not None else ()
    # What had begun may have been done.
    return GatewayError(Reason.OVERLOADED, "the gateway is stopping", details=details, outcome=Outcome.UNKNOWN)


def _bug(exchange_id: str) -> GatewayError:
    return GatewayError(Reason.BUG, f"something went wrong here ({exchange_id})")


def _host(peer: str) -> str:
    """The address of `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`; "" for a Unix socket."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    return unquote(rest.rpartition(":")[0]).strip("[]")


class _Paths(grpc.GenericRpcHandler):
    """grpcio asks it for a handler when the HEADERS of a call come. It may not raise: grpcio would tell the caller what."""

    def __init__(self, ingress: Grpc) -> None:
        self._ingress = ingress

    def service(self, details: Any) -> Any:
        ingress, target = self._ingress, details.method
        headers = headers_of(details.invocation_metadata)
        found = ingress.find(target, headers)

        # Made per call, for the context that a handler is given does not know its method. grpcio runs an `async def` only.
        async def run(_requests: object, context: Any) -> bytes:
            return await ingress.run(found, target, headers, context)

        many = found.endpoint.many
        if many is Many.REPLIES or many is Many.BOTH:
            return grpc.stream_stream_rpc_method_handler(run)
        return grpc.stream_unary_rpc_method_handler(run)
