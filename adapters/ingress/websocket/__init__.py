"""The listener kind `websocket`: one WebSocket, one conversation; text frames carry JSON, binary frames protobuf."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import ByteSize, Field
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
from websockets.http11 import Request, Response

from adapters.ingress.websocket.exchange import RESTART, Conversation
from adapters.ingress.websocket.framing import Refusal, Terms
from adapters.ingress.websocket.handshake import add_headers, refusal, refusal_of_status
from adapters.ingress.websocket.opening import Opening
from adapters.ingress.websocket.wire import Wire
from adapters.websocket.envelope import SUBPROTOCOL
from gateway.bind import Address, Bind
from gateway.codec import Contract, HttpBinding
from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import new_id
from gateway.listener import ListenerConfig, View
from gateway.message import BYTES, JSON, PROTOBUF, TEXT, Many
from gateway.part import Written
from gateway.task import Tasks
from gateway.tls import ListenerTls

log = logging.getLogger("polygate")
wire_log = logging.getLogger("polygate.websocket")

BACKLOG = 1024
DRAIN_GAP_S = 0.05
"""Between two closes of a drain, so that not all callers come back at once; less where there are too many for the time."""
LINGER_S = 1.0
"""How long a connection beyond the limit may take to read its refusal."""
LEAST_S = 0.1
"""What a closing handshake gets, even where the drain's time is over."""
_TYPES = {"json": JSON, "text": TEXT, "protobuf": PROTOBUF, "bytes": BYTES}


# RFC 9110 5.6.2, and what a browser sends as an Origin (RFC 6454 7.1): lower case, no path. Anything else could never match.
_SUBPROTOCOL = Written(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$", "a word without spaces or commas, as in chat.v1")
_ORIGIN = Written(
    r"^(\*|null|[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+)$",
    "a scheme and a host in lower case and no path, as in https://shop.example, or *",
)


class Config(ListenerConfig):
    """Take WebSockets: a frame is a message, whatever the route's target does with it."""

    protocol: ClassVar[str] = "websocket"
    wire: ClassVar[Many] = Many.BOTH
    inherits: ClassVar[bool] = True

    kind: Literal["websocket"]
    bind: Bind
    """Where to listen."""
    tls: ListenerTls | None = None
    """Serve wss:// with this certificate."""
    text: Literal["json", "text"] = "json"
    """What text frames hold."""
    binary: Literal["protobuf", "bytes"] = "protobuf"
    """What binary frames hold."""
    subprotocols: tuple[Annotated[str, _SUBPROTOCOL], ...] = ()
    """Names that a caller may ask for; the first of these that it offers is agreed on, and after them `polygate.v1`, under which
    frames are envelopes. `json` and `protobuf` choose the format of replies; without one they come in that of the latest
    request."""
    origins: tuple[Annotated[str, _ORIGIN], ...] = Field(default=(), examples=[["https://shop.example"]])
    """Whose pages may connect besides those of the same host; "*" for anybody's. A caller that is no browser names none."""
    compression: Literal["none", "deflate"] = "none"
    """Offer permessage-deflate: fewer bytes for much processor time and memory."""
    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many may be open at once. One more is answered 503."""
    max_message: ByteSize = Field(default=ByteSize(1 << 20), gt=0, le=1 << 30)
    """The longest message, after decompression. A longer one closes with 1009."""
    max_queue: int = Field(default=16, ge=1, le=1024)
    """How many messages of one caller may wait before its socket is no longer read."""
    write_limit: ByteSize = Field(default=ByteSize(16 << 10), gt=0, le=1 << 24)
    """How much may wait for a slow caller before sending waits for it."""
    open_timeout: float = Field(default=10, gt=0, le=600)
    """Seconds from the connection to the end of the handshake."""
    close_timeout: float = Field(default=10, gt=0, le=600)
    """Seconds that a caller may take to close its side."""
    ping_interval: float = Field(default=20, gt=0, le=3600)
    """Seconds between two pings."""
    ping_timeout: float = Field(default=20, gt=0, le=3600)
    """Seconds without a sign of life after a ping until the connection is closed."""

    def limit(self) -> int:
        return int(self.max_message)

    @classmethod
    def calls(cls, contract: Contract) -> Sequence[HttpBinding]:
        return (HttpBinding("", f"/{contract.name}"),)

    def build(self, name: str, view: View) -> WebSocket:
        return WebSocket(self, name, view)


class WebSocket:
    """The listener. Each connection has the library's task, which keeps the handshake and the close, and the exchange's."""

    def __init__(self, config: Config, name: str, view: View) -> None:
        self._config = config
        self._name = name
        self._view = view
        self._tasks: Tasks
        self._wires: set[Wire] = set()
        self._draining = False
        self._emptied = asyncio.Event()
        self._talks: dict[ServerConnection, Conversation] = {}
        self._terms = self._made_terms()
        self._opening = Opening(view, self._terms, config.origins)

    def _made_terms(self) -> Terms:
        config = self._config
        # The library tells of every connection; its errors are of interest.
        wire_log.setLevel(logging.WARNING)
        return Terms(
            text=_TYPES[config.text],
            binary=_TYPES[config.binary],
            max_size=int(config.max_message),
            max_queue=config.max_queue,
            write_limit=int(config.write_limit),
            open_timeout=config.open_timeout,
            close_timeout=config.close_timeout,
            ping_interval=config.ping_interval,
            ping_timeout=config.ping_timeout,
            extensions=enable_server_permessage_deflate(None) if config.compression == "deflate" else (),
            subprotocols=tuple(dict.fromkeys((*config.subprotocols, SUBPROTOCOL))),
            refuse=refusal_of_status,
            logger=wire_log,
        )

    def serving(self) -> AbstractAsyncContextManager[Address]:
        return self._serving()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[Address]:
        async with Tasks() as self._tasks:
            context = self._config.tls.context() if self._config.tls else None
            sockets = self._view.listen(self._name, self._config.bind, BACKLOG)
            bound = sockets[0].getsockname()
            servers = [await self._server(one, context) for one in sockets]
            try:
                yield Address(bound[0], bound[1])
            finally:
                for server in servers:
                    server.close(close_connections=False)
                await self._drain()
                for server in servers:
                    await server.wait_closed()

    async def _server(self, listening: socket.socket, context: ssl.SSLContext | None) -> Server:
        config = self._config
        server = await serve(
            self._converse,
            sock=listening,
            process_request=self._open,
            process_response=self._head,
            server_header=None,
            # Ours ends before; this is the library's own net.
            open_timeout=config.open_timeout + LINGER_S,
            close_timeout=config.close_timeout,
            ping_interval=None,
            write_limit=int(config.write_limit),
            logger=wire_log,
            create_connection=cast("Any", self._connection),
            ssl=context,
            backlog=BACKLOG,
        )
        # It would refuse each handshake that is under way when it stops listening: see `_drain`.
        server.is_serving = lambda: True  # type: ignore[method-assign]
        return server

    # A connection

    def _connection(self, _protocol: object, server: Server, **settings: Any) -> asyncio.Protocol:
        if len(self._wires) >= self._config.max_connections:
            return Refusal(refusal_of_status(503), LINGER_S)
        wire = Wire(server, self._terms, self, **settings)
        if self._config.tls is None:
            # Counted at once: many may come in one turn of the loop. One that fails at TLS is never heard of again.
            self.made(wire)
        return wire

    def made(self, wire: Wire) -> None:
        """See `Count`."""
        self._wires.add(wire)

    def lost(self, wire: Wire) -> None:
        """See `Count`."""
        self._wires.discard(wire)
        self._talks.pop(wire, None)
        if not self._wires:
            self._emptied.set()

    async def _open(self, connection: ServerConnection, request: Request) -> Response | None:
        """Run the exchange until it accepts or ends: the 101, or the refusal."""
        wire = cast("Wire", connection)
        try:
            await self._view.admission.turn()
        except CallerError as late:
            return refusal(late, new_id())
        talk, handler = self._opening.talk(wire, request)
        self._talks[wire] = talk
        talk.start(handler, self._tasks)
        error = await self._verdict(talk, wire)
        if wire.protocol.eof_sent:
            # The caller went wrong, or away, in the meantime; there is nothing left to answer.
            await wire.wait_closed()
        if error is None:
            return None
        answer = refusal(error, talk.call.id)
        if request.method == "HEAD":
            answer.body = b""
        return answer

    async def _verdict(self, talk: Conversation, wire: Wire) -> GatewayError | None:
        """Why the handler refuses; None where it accepts."""
        try:
            async with asyncio.timeout_at(wire.open_until):
                await talk.decided.wait()
        except TimeoutError:
            talk.task.cancel()
            return GatewayError(Reason.TIMED_OUT, "the call was not accepted in time")
        except asyncio.CancelledError:
            talk.task.cancel()
            raise
        return talk.error

    def _head(self, connection: ServerConnection, _request: Request, response: Response) -> None:
        talk = self._talks.get(connection)
        if talk is not None and response.status_code == 101:  # noqa: PLR2004  Switching Protocols
            add_headers(response, talk.headers, talk.call.id)

    async def _converse(self, connection: ServerConnection) -> None:
        """From the 101 to the end of the connection."""
        wire = cast("Wire", connection)
        talk = self._talks[wire]
        wire.opened()
        talk.open()
        if self._draining:
            talk.drain()
        await asyncio.wait([talk.task])
        ending = talk.outcome()
        await wire.finish(ending.code, ending.reason)

    # The end

    async def _drain(self) -> None:
        """Close what is open, one after the other, within the time that there is. Who was let in at the last moment may open
        first, and is closed then: a refused handshake would look like an outage.
        """
        loop = asyncio.get_running_loop()
        until = self._view.drain_until or loop.time()
        left = max(0.0, until - loop.time())
        # The last moments are for the closing handshakes.
        last = until - min(LINGER_S, left / 4)
        self._draining = True
        for wire in list(self._wires):
            loop.call_later(min(LINGER_S, left / 4), self._turn_away, wire)
        talks = [talk for talk in self._talks.values() if talk.is_open]
        gap = min(DRAIN_GAP_S, (last - loop.time()) / (2 * len(talks) + 1))
        for talk in talks:
            if not talk.task.done():
                talk.drain()
                await asyncio.sleep(max(0.0, gap))
        tasks = [talk.task for talk in self._talks.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, last - loop.time()))
        for talk in self._talks.values():
            if not talk.task.done():
                talk.end(RESTART, "restarting")
        if self._wires:
            self._emptied.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(until, loop.time() + LEAST_S)):
                    await self._emptied.wait()
        for wire in list(self._wires):
            wire.transport.abort()

    def _turn_away(self, wire: Wire) -> None:
        wire.turn_away()
        talk = self._talks.get(wire)
        if talk is not None and not talk.is_open and not talk.task.done():
            talk.drain()
