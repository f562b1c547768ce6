"""The backend `http`: one exchange is one HTTP/1.1 request; its answer is the reply or, as SSE or NDJSON, the replies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal, Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from pydantic import AfterValidator, Field, field_validator, model_validator
from yarl import URL

from adapters.backend.http.answer import Reading
from adapters.backend.http.call import STREAMS, Calling, Manner, Pool, Request
from adapters.http.request import (
    BACK,
    BODILESS,
    CALL,
    FORWARD,
    SAFE,
    HeaderName,
    Outgoing,
    Path,
    TemplateText,
    path_templates,
)
from adapters.http.server import FixedHeaders, located
from adapters.http.tls import Tls
from gateway.codec import Contract
from gateway.errors import BackendError, Reason
from gateway.exchange import Handler
from gateway.message import JSON, PROTOBUF, Many
from gateway.part import Written
from gateway.peer import PeerConfig
from gateway.signature import HEADERS, Sign
from gateway.target import Target, TargetConfig

CHECK_S = 2.0
# How a reply type's message with nothing set is written, for a 204 to a caller who must have one.
_EMPTY = {JSON: b"{}", PROTOBUF: b""}


class CallTo(TargetConfig):
    """Send each message as one HTTP request, and answer with what the server answers."""

    verb: ClassVar[str] = "call"
    foreign: ClassVar[bool] = True

    call: str = Field(examples=["POST /items/{sku}", "GET /files/{path=**}"])
    """Method and path. `{name}` is a path variable or a top-level field of the message, percent-encoded; `{name=**}` may
    hold slashes."""
    query: Mapping[str, TemplateText] = Field(default={}, examples=[{"limit": "{limit}"}])
    """Query parameters, templates too. One that is a single variable is left out where the message lacks it."""
    headers: Mapping[HeaderName, TemplateText] = Field(default={}, examples=[{"x-tenant": "{tenant}"}])
    """Request headers, templates too."""
    forward: tuple[HeaderName, ...] = FORWARD
    """The caller's headers that go on to the server; with `stream: sse` its last-event-id too."""
    reply_headers: tuple[HeaderName, ...] = BACK
    """The server's headers that go back to the caller."""
    sign: Sign | None = None
    """Sign each request (Standard Webhooks), so that the server can tell who sent it, and which of them are one and the same."""
    reply: Literal["body", "none"] = "body"
    """What is answered: what the server answers, or nothing. Then any 2xx is a success, whatever its body: for webhooks."""
    stream: Literal["none", "sse", "ndjson"] = "none"
    """How a reply of many messages is written: an event each, or a line each."""
    stream_requests: bool = False
    """Send the caller's messages as the lines of one request body (NDJSON, chunked), while it still speaks."""

    @field_validator("call")
    @classmethod
    def _call(cls, value: str) -> str:
        if not CALL.fullmatch(value):
            raise ValueError("must be a method and a path, as in POST /items/{sku}")
        if "?" in value or "#" in value:
            raise ValueError("what follows a ? belongs under query")
        Path(value.partition(" ")[2])
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.reply == "none" and self.stream != "none":
            raise ValueError("a stream is its replies: reply: none or stream, not both")
        if self.sign is not None and self.stream_requests:
            raise ValueError("a body that is sent piece by piece cannot be signed: sign or stream_requests, not both")
        if self.sign is not None and (taken := HEADERS.intersection((*self.headers, *self.forward))):
            raise ValueError(f"sign sets {', '.join(sorted(taken))} itself")
        return self

    @property
    def http_method(self) -> str:
        """GET, POST, ..."""
        return self.call.partition(" ")[0]

    def many(self, contract: Contract | None) -> Many:
        """What the settings say; `refusals` compares it with the contract."""
        del contract
        return (Many.NEITHER if self.stream == "none" else Many.REPLIES) | (
            Many.REQUESTS if self.stream_requests else Many.NEITHER
        )

    def templates(self) -> Sequence[str]:
        return (*path_templates(self.call), *self.query.values(), *self.headers.values())

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        wrong = []
        if self.stream_requests and self.http_method in BODILESS:
            wrong.append(f"a {self.http_method} request has no body: stream_requests needs POST, PUT or PATCH")
        if (self.stream != "none" or self.stream_requests) and self.format not in {"json", "text"}:
            wrong.append(f"a stream over HTTP is of JSON or text, not of {self.format}")
        if contract is not None and contract.many != self.many(None):
            wrong.append(f"{contract.name} streams otherwise: set stream (for replies) and stream_requests as its method says")
        return tuple(wrong)


class Config(PeerConfig):
    """Call an HTTP/1.1 server. No redirect is followed, no cookie kept, no request repeated, no proxy of the environment used."""

    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = {"call": CallTo}

    kind: Literal["http"]
    url: Annotated[str, AfterValidator(located("http"))] = Field(examples=["http://erp:8000", "https://api.example.com/v2"])
    """Where the server is, with the path that every call starts with."""
    headers: FixedHeaders = Field(default={}, examples=[{"authorization": "Bearer ${ERP_TOKEN}"}])
    """Sent with every request."""
    connect_timeout: float = Field(default=5.0, gt=0, le=60)
    """Seconds to find a free connection or to make one."""
    timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds to the whole answer, or to the head of a stream, for a call that has no deadline of its own."""
    connections: int = Field(default=100, ge=1, le=10_000)
    """The most connections. A stream holds one as long as it lasts."""
    waiting: int = Field(default=1000, ge=0, le=100_000)
    """The most exchanges that wait for one; the next is refused as overloaded."""
    keep_alive: float = Field(default=4.0, ge=0, le=3600)
    """Seconds that an idle connection is kept: less than the server does (5 at some), or requests meet its closing."""
    max_answer: int = Field(default=8 << 20, ge=1)
    """The most bytes of an answer, or of one message of a stream, unpacked."""
    max_header: int = Field(default=8190, ge=256, le=1 << 20)
    """The most bytes of the answer's status line, and of each header field."""
    max_headers: int = Field(default=100, ge=1, le=1000)
    """The most header fields of an answer."""
    health: Annotated[str, Written(r"^/\S*$", "a path without spaces, as in /healthz")] | None = Field(
        default=None, examples=["/healthz"]
    )
    """A path that answers 2xx when the server is well. Without one, a connection is enough."""
    tls: Tls | None = None
    """For https; the system's certificates unless told."""

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if self.tls is not None and not self.url.startswith("https:"):
            raise ValueError("tls needs an https url")
        return self

    def posting(self, backend: str, sign: Sign) -> tuple[str, TargetConfig]:
        path = CallTo(
            backend=backend, format="bytes", call="POST /{path=**}", forward=(), reply_headers=(), reply="none", sign=sign
        )
        return f"{self.url.rstrip('/')}/", path

    def connecting(self) -> Http:
        return Http(self)


class Http:
    """One pool of connections to one server."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._url = URL(config.url)
        self._stack = AsyncExitStack()
        self._session: ClientSession | None = None
        self._ssl: ssl.SSLContext | bool = True
        self._pool = Pool(config.connections, config.waiting)

    async def __aenter__(self) -> Self:
        config = self._config
        if self._url.scheme == "https":
            self._ssl = (config.tls or Tls()).context()
        connector = TCPConnector(limit=config.connections, keepalive_timeout=config.keep_alive, ssl=self._ssl)
        self._session = await self._stack.enter_async_context(
            ClientSession(
                connector=connector,
                # The whole has a deadline of its own (asyncio.timeout_at), which tells what had left when it passed.
                timeout=ClientTimeout(None, connect=config.connect_timeout, ceil_threshold=float("inf")),
                cookie_jar=DummyCookieJar(),
                request_class=Request,
                max_line_size=config.max_header,
                max_field_size=config.max_header,
                max_headers=config.max_headers,
            )
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def handler(self, target: Target) -> Handler:
        spec = target.spec
        if isinstance(spec, CallTo):
            return self._calling(target, spec).run
        raise AssertionError(f"http has no verb {spec.verb}: refused when the config is loaded")

    def _calling(self, target: Target, spec: CallTo) -> Calling:
        config = self._config
        safe = target.safe or spec.http_method in SAFE
        opaque = spec.format == "bytes"
        reading = Reading(target.content_type, opaque, safe, config.max_answer, frozenset(spec.reply_headers))
        accept = STREAMS[spec.stream] if spec.stream != "none" else "*/*" if opaque else target.content_type
        # Packing costs more than a near network, and a caller asks the listener for it, not the backend.
        fixed = {"accept": accept, "accept-encoding": "identity", "user-agent": "polygate", **config.headers}
        forward = (*spec.forward, "last-event-id") if spec.stream == "sse" else spec.forward
        outgoing = Outgoing(self._url, spec.call, spec.query, (fixed, spec.headers), forward)
        manner = Manner(
            spec.stream,
            spec.stream_requests,
            config.timeout,
            _EMPTY.get(target.content_type) if target.contract else None,
            spec.sign.signer() if spec.sign is not None else None,
            spec.reply == "none",
        )
        return Calling(self._send, self._pool, target, outgoing, reading, manner)

    async def _send(self, method: str, url: URL, **sent: Any) -> ClientResponse:
        """One request, up to the head of its answer."""
        if self._session is None:
            raise AssertionError("a backend is entered before it is called")
        return await self._session.request(method, url, allow_redirects=False, **sent)

    async def check(self) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                await (self._connected() if self._config.health is None else self._healthy(self._config.health))
        except (ClientError, OSError) as error:
            raise BackendError(Reason.UNREACHABLE, "the backend cannot be reached") from error

    async def _connected(self) -> None:
        """Reachable: of an https server, its certificate too."""
        secure = self._ssl if self._url.scheme == "https" else None
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, self._url.host or "", self._url.port or 0, ssl=secure)
        transport.abort()

    async def _healthy(self, path: str) -> None:
        if self._session is None:
            raise AssertionError("a backend is entered before it is checked")
        url = URL(str(self._url.origin()) + path, encoded=True)
        async with self._session.get(url, headers=self._config.headers, allow_redirects=False) as response:
            if not response.ok or response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise BackendError(Reason.UNREACHABLE, f"the backend's health answers {response.status}")
