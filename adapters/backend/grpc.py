"""The gRPC backend: raw bytes over one channel, all four kinds of methods, with the peer's own status passed through.

A call is made only on a channel that is connected, which the backend waits for itself: so a peer that is away is a definite
failure, and whatever goes wrong later is not. What grpcio says of itself is told from what the peer said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import grpc
import grpc.aio
from pydantic import Field

from adapters.grpc.failure import LastWord, answered, bad_answer, failure_of, late
from adapters.grpc.metadata import REQUEST_ID, Metadata, forwarded, metadata_of
from gateway.codec import Contract
from gateway.errors import BackendError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange, Handler, early, relay
from gateway.message import PROTOBUF, Many, Message
from gateway.part import Written
from gateway.peer import PeerConfig
from gateway.target import Target, TargetConfig
from gateway.task import Tasks
from gateway.tls import BackendTls

# Every wait has a deadline: that of a call whose caller has none.
DEFAULT_S = 30.0
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
        self._tasks = Tasks()
        self._settling: asyncio.Task[None] | None = None
        self._fixed = config.fixed()
        self._taken = frozenset(name for name, _ in self._fixed)
        self._channel: grpc.aio.Channel

    async def __aenter__(self) -> Self:
        config = self._config
        if config.tls is None:
            channel = grpc.aio.insecure_channel(config.address, config.options())
        else:
            channel = grpc.aio.secure_channel(config.address, _credentials(config.tls), config.options())
        self._channel = channel
        self._stack.push_async_callback(channel.close)
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        await self.connected(asyncio.get_running_loop().time() + CHECK_S)

    def handler(self, target: Target) -> Handler:
        spec = cast("CallTo", target.spec)  # the one verb that there is
        many = spec.many(target.contract)
        bound = _Method(self, f"/{spec.call}", many, target)
        return bound.once if many is Many.NEITHER else bound.stream

    def method(self, kind: str, path: str) -> Callable[..., Any]:
        """A raw method of the channel: its serializers stay unset, so that bytes go in and out."""
        multicallable: Callable[..., Any] = getattr(self._channel, kind)(path)
        return multicallable

    async def connected(self, until: float) -> None:
        """Wait for the connection until it is there or has failed. BackendError(UNREACHABLE) at the latest at `until`."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        if state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            if self._settling is None or self._settling.done():
                self._settling = self._tasks.spawn(self._settle(), f"connecting to {self._config.address}")
            now = asyncio.get_running_loop().time()
            await asyncio.wait({self._settling}, timeout=max(min(until - now, self._config.connect_s), 0))
            if self._channel.get_state() is grpc.ChannelConnectivity.READY:
                return
        raise BackendError(Reason.UNREACHABLE, "the backend cannot be reached")

    async def _settle(self) -> None:
        """One watcher, however many calls wait: until connecting has worked or failed."""
        pending = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
        while (state := self._channel.get_state(try_to_connect=True)) in pending:
            await self._channel.wait_for_state_change(state)

    def metadata(self, call: Call) -> Metadata:
        """What goes to the peer: the caller's headers, our own in their place, and the exchange's id."""
        sent = metadata_of(pair for pair in forwarded(call.headers) if pair[0] not in self._taken)
        return (*sent, *self._fixed, (REQUEST_ID, call.id))


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, key, chain = (path.read_bytes() if path is not None else None for path in (tls.ca, tls.key, tls.certificate))
    return grpc.ssl_channel_credentials(ca, key, chain)


class _Method:
    """One target: a method of the peer, bound."""

    def __init__(self, backend: Grpc, path: str, many: Many, target: Target) -> None:
        self._backend = backend
        self._path = path
        self._many = many
        self._safe = target.safe
        self._contract = target.contract
        self._bound: Callable[..., Any] | None = None

    def _call(self, kind: str) -> Callable[..., Any]:
        # The channel exists from the backend's entering on; handlers may be bound before.
        if self._bound is None:
            self._bound = self._backend.method(kind, self._path)
        return self._bound

    async def once(self, exchange: Exchange) -> None:
        """One in, one out, in grpcio's own form: half the price of a stream."""
        message = await exchange.receive()
        call = exchange.call
        left = await self._ready(call)
        # The peer is told of the caller's own timeout, not of the time that we ourselves allow.
        timeout = None if call.expires is None else left
        rpc = self._call("unary_unary")(message.body, timeout=timeout, metadata=self._backend.metadata(call))
        try:
            async with asyncio.timeout(left if timeout is None else None):
                body = await rpc
        except grpc.aio.AioRpcError as error:
            due = None if timeout is None else call.due(DEFAULT_S)
            raise failure_of(error, safe=self._safe, contract=self._contract, due=due) from error
        except TimeoutError as error:
            raise late(safe=self._safe) from error
        if body is None:
            raise bad_answer("the backend said OK without a message that can be read", safe=self._safe)
        headers, trailers = answered(await rpc.initial_metadata()), answered(await rpc.trailing_metadata())
        if headers:
            await exchange.accept(headers)
        await exchange.send(Message(body, PROTOBUF))
        if trailers:
            exchange.conclude(trailers)

    async def stream(self, exchange: Exchange) -> None:
        """Any other kind: both ways at once until the peer ends."""
        call = exchange.call
        await self._ready(call)
        # A stream lasts as long as it likes, unless its caller has said otherwise.
        left = None if call.expires is None else max(0.0, early(call.expires) - asyncio.get_running_loop().time())
        rpc = self._call("stream_stream")(metadata=self._backend.metadata(call), timeout=left)
        replies = _Replies(exchange, rpc, None if self._many & Many.REQUESTS else call.due(DEFAULT_S), safe=self._safe)

        last = LastWord(rpc)

        async def send(message: Message) -> None:
            # A peer may end before it has read everything; how it ended is what reading says.
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
                await rpc.write(message.body)

        try:
            await relay(exchange, send, replies.receive, rpc.done_writing)
        except grpc.aio.AioRpcError as error:
            status = await last.status(error)
            if status.code() is not grpc.StatusCode.OK:
                due = None if call.expires is None else early(call.expires)
                raise failure_of(status, safe=self._safe, contract=self._contract, due=due) from error
        finally:
            rpc.cancel()
        if not self._many & Many.REPLIES and replies.count != 1:
            raise bad_answer("the backend said OK without its one message", safe=self._safe)
        if trailers := answered(await rpc.trailing_metadata()):
            exchange.conclude(trailers)

    async def _ready(self, call: Call) -> float:
        """Connected, with so many seconds left."""
        due = call.due(DEFAULT_S)
        await self._backend.connected(due)
        left = due - asyncio.get_running_loop().time()
        if left <= 0:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the call could be sent")
        return left


class _Replies:
    """The peer's side of a stream."""

    def __init__(self, exchange: Exchange, rpc: Any, due: float | None, *, safe: bool) -> None:
        self._safe = safe
        self._exchange = exchange
        self._rpc = rpc
        self._due = due
        # Its read() may drop what is left once the status is in; its iterator does not.
        self._bodies: AsyncIterator[bytes] = aiter(rpc)
        self.count = 0

    async def receive(self) -> Message:
        if self.count == 0:
            try:
                async with asyncio.timeout_at(self._due):
                    body = await self._first()
            except TimeoutError as error:
                call = self._exchange.call
                raise late(safe=self._safe, asked=call.expires is not None and call.expires == call.deadline) from error
        else:
            body = await anext(self._bodies, None)
        if body is None:
            raise EndOfMessages
        self.count += 1
        return Message(body, PROTOBUF)

    async def _first(self) -> bytes | None:
        headers = answered(await self._rpc.initial_metadata())
        if not self._rpc.done():
            await self._exchange.accept(headers)
            return await anext(self._bodies, None)
        # It is over already. A refusal has no head of its own: what it is, the status says, and its error has its headers.
        body = await anext(self._bodies, None)
        await self._exchange.accept(headers)
        return body
