"""The backend `websocket`: one exchange is one WebSocket to a server, its messages frames or envelopes of polygate.v1."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, field_validator, model_validator
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol
from yarl import URL

from adapters.backend.websocket.link import Link, Opening, unopened
from adapters.backend.websocket.talk import Bare, Enveloped, Manner, Talk
from adapters.grpc.metadata import REQUEST_ID, forwarded
from adapters.grpc.timeout import NAME, timeout_of
from adapters.http.request import BACK, FORWARD, HeaderName, Outgoing, Path, TemplateText, opener, path_templates
from adapters.http.server import FixedHeaders, located
from adapters.http.tls import Tls
from adapters.websocket.envelope import SUBPROTOCOL
from gateway.codec import Contract
from gateway.errors import BackendError, GatewayError, Reason
from gateway.exchange import Exchange, Handler, Wrapper
from gateway.message import Many, Message
from gateway.part import Written
from gateway.peer import PeerConfig
from gateway.target import Target, TargetConfig
from gateway.task import Tasks
from gateway.template import Template

CHECK_S = 2.0
_SHAPES = {"none": Many.NEITHER, "requests": Many.REQUESTS, "replies": Many.REPLIES, "both": Many.BOTH}
_NAMES = {many: name for name, many in _SHAPES.items()}

wire_log = logging.getLogger("polygate.websocket.client")


class CallTo(TargetConfig):
    """Open a WebSocket for each exchange, and pass messages both ways until the server closes."""

    verb: ClassVar[str] = "call"

    call: Annotated[str, Written(r"^/\S*$", "a path without spaces, as in /chat/{room}")] = Field(
        examples=["/chat/{room}", "/feed"]
    )
    """The path. `{name}` is a path variable or a top-level field of the first message, percent-encoded; `{name=**}` may hold
    slashes."""
    query: Mapping[str, TemplateText] = Field(default={}, examples=[{"limit": "{limit}"}])
    """Query parameters, templates too. One that is a single variable is left out where the message lacks it."""
    headers: Mapping[HeaderName, TemplateText] = Field(default={}, examples=[{"x-tenant": "{tenant}"}])
    """Headers of the handshake, templates too."""
    subprotocol: Annotated[str, Written(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]*$", "a word without spaces or commas")] = Field(
        default="", examples=["polygate.v1"]
    )
    """What the server must agree to speak. Under `polygate.v1`, frames are envelopes: another gateway is told when the caller has
    ended, and tells its headers, trailers and errors. Otherwise a frame is a message."""
    stream: Literal["none", "requests", "replies", "both"] | None = Field(default=None, examples=["replies"])
    """Who may send more than one message: of a route without a contract both, unless told."""
    forward: tuple[HeaderName, ...] = FORWARD
    """The caller's headers that go into the handshake. Under `polygate.v1` the call's metadata goes, as to a gRPC server."""
    reply_headers: tuple[HeaderName, ...] = BACK
    """The headers of the server's handshake that go back to the caller."""

    @field_validator("call")
    @classmethod
    def _call(cls, value: str) -> str:
        if "?" in value or "#" in value:
            raise ValueError("what follows a ? belongs under query")
        Path(value)
        return value

    def many(self, contract: Contract | None) -> Many:
        """What the settings say; `refusals` compares it with the contract."""
        if self.stream is not None:
            return _SHAPES[self.stream]
        return Many.BOTH if contract is None else contract.many

    def templates(self) -> Sequence[str]:
        return (*path_templates(self.call), *self.query.values(), *self.headers.values())

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        wrong = []
        many = self.many(contract)
        if many is Many.REQUESTS and self.subprotocol != SUBPROTOCOL:
            wrong.append(f"the server cannot be told that all requests are sent, but by subprotocol: {SUBPROTOCOL}")
        if self.subprotocol == SUBPROTOCOL and self.format == "text":
            wrong.append(f"the envelopes of {SUBPROTOCOL} hold JSON, protobuf or bytes, not text")
        if contract is not None and contract.many != many:
            wrong.append(f"{contract.name} streams otherwise: stream must be {_NAMES[contract.many]}, or be left out")
        return tuple(wrong)


class Config(PeerConfig):
    """Call a WebSocket server. No redirect is followed, nothing is tried again, no proxy of the environment is used."""

    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = {"call": CallTo}

    kind: Literal["websocket"]
    url: Annotated[str, AfterValidator(located("ws"))] = Field(examples=["ws://chat:8081", "wss://feeds.example.com/v2"])
    """Where the server is, with the path that every call starts with."""
    headers: FixedHeaders = Field(default={}, examples=[{"authorization": "Bearer ${CHAT_TOKEN}"}])
    """Sent with every handshake."""
    connect_timeout: float = Field(default=5.0, gt=0, le=60)
    """Seconds to connect and to open the WebSocket."""
    timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds to the first reply, for a call that has no deadline of its own."""
    close_timeout: float = Field(default=5.0, gt=0, le=60)
    """Seconds that the server may take to close its side."""
    linger: float = Field(default=2.0, gt=0, le=3600)
    """Where the caller has ended and frames are bare: seconds of silence after which the server has ended too, for it cannot be
    told."""
    connections: int = Field(default=1000, ge=1, le=100_000)
    """The most that are open at once. One more is refused as overloaded."""
    max_message: ByteSize = Field(default=ByteSize(4 << 20), gt=0, le=1 << 30)
    """The most bytes of a message from the server."""
    max_queue: int = Field(default=4, ge=1, le=1024)
    """How many frames of one connection may wait before its socket is no longer read."""
    write_limit: ByteSize = Field(default=ByteSize(32 << 10), gt=0, le=1 << 24)
    """How much may wait for a slow server before its caller waits."""
    ping_interval: float = Field(default=20.0, gt=0, le=3600)
    """Seconds between two pings."""
    ping_timeout: float = Field(default=20.0, gt=0, le=3600)
    """Seconds without an answer to a ping until the connection is given up."""
    tls: Tls | None = None
    """For wss; the system's certificates unless told."""

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if self.tls is not None and not self.url.startswith("wss:"):
            raise ValueError("tls needs a wss url")
        return self

    def connecting(self) -> WebSocket:
        return WebSocket(self)


class WebSocket:
    """The backend: as many connections as there are exchanges."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._url = URL(config.url)
        self._ssl: ssl.SSLContext | None = None
        self._tasks = Tasks()
        self._open = 0
        # The library tells of every connection; its errors are of interest.
        wire_log.setLevel(logging.WARNING)

    async def __aenter__(self) -> Self:
        if self._url.scheme == "wss":
            self._ssl = (self.config.tls or Tls()).context()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.__aexit__(*error)

    def handler(self, target: Target) -> Handler:
        spec = target.spec
        if isinstance(spec, CallTo):
            return _Calling(self, self._url, target, spec).run
        raise AssertionError(f"websocket has no verb {spec.verb}: refused when the config is loaded")

    async def check(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._url.host or "", self._url.port or 0
        try:
            async with asyncio.timeout(CHECK_S):
                transport, _ = await loop.create_connection(asyncio.Protocol, host, port, ssl=self._ssl)
        except OSError as error:
            raise BackendError(Reason.UNREACHABLE, "the backend cannot be reached") from error
        transport.abort()

    async def opened(self, url: URL, headers: Sequence[tuple[str, str]], subprotocol: str, due: float) -> Link:
        """A connection of one exchange's own. Raises BackendError, or what `unopened` explains: nothing was asked yet."""
        config = self.config
        if self._open >= config.connections:
            raise BackendError(Reason.OVERLOADED, "too many connections to the backend are open")
        left = due - asyncio.get_running_loop().time()
        if left <= 0:
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the call could be sent")
        self._open += 1
        try:
            link = await Opening(
                str(url),
                subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                compression=None,
                additional_headers=headers,
                user_agent_header="polygate",
                proxy=None,
                open_timeout=min(left, config.connect_timeout),
                ping_interval=config.ping_interval,
                ping_timeout=config.ping_timeout,
                close_timeout=config.close_timeout,
                max_size=int(config.max_message),
                max_queue=config.max_queue,
                write_limit=int(config.write_limit),
                logger=wire_log,
                create_connection=Link,
                ssl=self._ssl,
            )
        except BaseException:
            self._open -= 1
            raise
        assert isinstance(link, Link)  # noqa: S101  made by create_connection
        return link

    def let_go(self, link: Link, *, orderly: bool) -> None:
        """Close it: with a closing handshake, for which nobody waits, or at once."""
        self._open -= 1
        if orderly:
            self._tasks.spawn(link.close(), "closing a WebSocket")
        else:
            link.transport.abort()


class _Calling:
    """The handler of one target."""

    def __init__(self, backend: WebSocket, url: URL, target: Target, spec: CallTo) -> None:
        config = backend.config
        self._backend = backend
        self._target = target
        self._subprotocol = spec.subprotocol
        self._enveloped = spec.subprotocol == SUBPROTOCOL
        self._back = frozenset(spec.reply_headers)
        # Its method is that of every handshake.
        forward = () if self._enveloped else spec.forward
        self._outgoing = Outgoing(url, f"GET {spec.call}", spec.query, (dict(config.headers), spec.headers), forward)
        self._names = {name for text in spec.templates() for name in Template(text).names}
        self._manner = Manner(target.content_type, spec.many(target.contract), target.safe, config.linger)
        # Whoever sends one message is asked for it first: what it says may be wrong, and then nobody need be called.
        self._first = not self._manner.many & Many.REQUESTS

    async def run(self, exchange: Exchange) -> None:
        """See `Backend.handler`."""
        call = exchange.call
        first: Message | None = None
        if self._first or not self._names.issubset(call.params):
            first = await exchange.receive()
            exchange = _Begun(exchange, first)
        due = call.due(self._backend.config.timeout)
        fields = opener(self._target.fields, first or Message(b"{}"))
        headers = list(self._outgoing.headers(call, fields).items())
        try:
            link = await self._backend.opened(self._outgoing.url(call, fields), headers, self._subprotocol, due)
        except (OSError, InvalidHandshake) as error:
            raise unopened(error, self._back) from error
        orderly = False
        try:
            if self._subprotocol and link.subprotocol != self._subprotocol:
                raise GatewayError(Reason.REFUSED, f"the backend does not speak {self._subprotocol}")
            await self._talk(exchange, link, due).run(due if self._first else call.expires)
            orderly = True
        finally:
            self._backend.let_go(link, orderly=orderly)

    def _talk(self, exchange: Exchange, link: Link, due: float) -> Talk:
        if not self._enveloped:
            return Bare(link, exchange, self._manner, self._back)
        call = exchange.call
        headers = forwarded(call.headers).plus((REQUEST_ID, call.id))
        # A stream lasts as long as it likes, unless its caller has said otherwise.
        until = due if self._manner.many is Many.NEITHER else call.expires
        if until is not None:
            headers = headers.plus((NAME, timeout_of(until - asyncio.get_running_loop().time())))
        return Enveloped(link, exchange, self._manner, headers)


class _Begun(Wrapper):
    """An exchange whose first message was read already."""

    __slots__ = ("_message",)

    def __init__(self, inner: Exchange, message: Message) -> None:
        super().__init__(inner)
        self._message: Message | None = message

    async def receive(self) -> Message:
        if self._message is not None:
            message, self._message = self._message, None
            return message
        return await self.inner.receive()
