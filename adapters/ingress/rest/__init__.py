"""The listener `rest`: HTTP/1.1, one message in, one message or a stream out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from aiohttp.http import HttpRequestParser
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.web import BaseRequest, StreamResponse
from pydantic import ByteSize, Field

from adapters.ingress.rest.answer import Answer, error_answer
from adapters.ingress.rest.connection import Connection, Listening
from adapters.ingress.rest.exchange import OptionsExchange, RestExchange, StreamAnswer, StreamExchange
from adapters.ingress.rest.request import METHODS, check_head, check_method, choose, headers_of, query_of
from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import Call, new_id
from gateway.message import JSON, Headers, Many
from gateway.port import Address, Bind, ListenerConfig, View, limit_unsent, split_bind
from gateway.route import Endpoint
from gateway.status import allowed
from gateway.tls import ListenerTls


class Config(ListenerConfig):
    """REST over HTTP/1.1, with SSE, NDJSON and JSON array out."""

    protocol: ClassVar[str] = "rest"
    wire: ClassVar[Many] = Many.REPLIES

    kind: Literal["rest"]
    bind: Bind
    """host:port to listen on."""
    tls: ListenerTls | None = None
    """Serve HTTPS."""
    max_body: ByteSize = Field(default=ByteSize(1 << 20), gt=0)
    """The largest request body, after decompression."""
    max_field: ByteSize = Field(default=ByteSize(8 << 10), ge=256)
    """The largest request line, and the largest header field."""
    max_fields: int = Field(default=100, ge=8)
    """How many header fields a request may have."""
    head_seconds: float = Field(default=10.0, gt=0)
    """Within which a request's head must come."""
    body_seconds: float = Field(default=30.0, gt=0)
    """Within which its body must come."""
    keep_alive_seconds: float = Field(default=75.0, gt=0)
    """How long a connection may be idle."""
    max_connections: int = Field(default=10_000, gt=0)
    """Further ones are answered 503 and closed."""
    backlog: int = Field(default=1024, gt=0)
    """Connections that the kernel holds while we are busy."""

    def limit(self) -> int:
        return int(self.max_body)

    @classmethod
    def pattern(cls, when: str) -> tuple[str, str]:
        method, _, path = when.partition(" ")
        if method not in METHODS - {"HEAD", "OPTIONS"} or not path:
            raise ValueError(f"{when!r}: a REST call is written METHOD /path, for example GET /stock/{{sku}}")
        return method, path.strip()

    def build(self, name: str, view: View) -> Rest:
        del name
        return Rest(self, view)


@dataclass(slots=True)
class _Head:
    """What a request's head has said so far."""

    target: str
    headers: Headers
    params: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    many: Many = Many.NEITHER
    accepts: str = ""
    methods: tuple[str, ...] | None = None
    """The methods to tell, where that is all that was asked (OPTIONS)."""


class Rest:
    """See `Ingress`."""

    def __init__(self, config: Config, view: View) -> None:
        if HttpRequestParser is HttpRequestParserPy:
            raise RuntimeError("aiohttp lacks its C parser here, and the other one is too lenient; install a wheel of it")
        self._config = config
        self._view = view
        self._streams: dict[asyncio.Task[object], bool] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        config = self._config
        server = Listening(
            self._handle,
            lambda error: error_answer(error, new_id()),
            max_connections=config.max_connections,
            head_seconds=config.head_seconds,
            keepalive_timeout=config.keep_alive_seconds,
            access_log=None,
            auto_decompress=False,
            lingering_time=2.0,
            # Two limits that differ, since the parser says only which was passed.
            max_line_size=int(config.max_field) - 1,
            max_field_size=int(config.max_field),
            max_headers=max(config.max_fields, 128),
        )
        host, port = split_bind(config.bind)
        loop = asyncio.get_running_loop()
        context = config.tls.context() if config.tls is not None else None
        listening = await loop.create_server(server, host or None, port, ssl=context, backlog=config.backlog)
        try:
            for one in listening.sockets:
                limit_unsent(one)
            bound = listening.sockets[0].getsockname()
            yield Address(bound[0], bound[1])
        finally:
            listening.close()
            await self._drain(server)

    async def _drain(self, server: Listening) -> None:
        """Streams are ended one by one over the first half of the time that is left; then whoever is left is cut."""
        loop = asyncio.get_running_loop()
        until = self._view.drain_until or loop.time()
        server.pre_shutdown()
        left = max(0.0, until - loop.time())
        streams = [task for task in self._streams if not task.done()]
        for number, task in enumerate(streams):
            loop.call_later(left / 2 * number / len(streams), self._end, task)
        if server.open:
            server.emptied.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await server.emptied.wait()
        await server.shutdown(0.1)

    def _end(self, task: asyncio.Task[object]) -> None:
        if task in self._streams:
            self._streams[task] = True
            task.cancel()

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        """One request. Raises nothing but cancellation and a lost connection."""
        exchange, endpoint = self._open(request)
        try:
            if isinstance(exchange, StreamExchange):
                answer = await self._stream(exchange, endpoint)
            else:
                await endpoint.handler(exchange)
                answer = await exchange.finish()
        except GatewayError as error:
            answer = await exchange.fail(error)
        if not self._view.ready:
            answer.force_close()
        return answer.response

    async def _stream(self, exchange: StreamExchange, endpoint: Endpoint) -> Answer | StreamAnswer:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  aiohttp runs each handler in a task
        self._streams[task] = False
        try:
            await endpoint.handler(exchange)
            return await exchange.finish()
        except GatewayError as error:
            return await exchange.fail(error)
        except asyncio.CancelledError:
            if not self._streams[task]:
                raise
            return await exchange.fail(CallerError(Reason.OVERLOADED, "the gateway is stopping; go on elsewhere"))
        finally:
            exchange.close()
            del self._streams[task]

    def _open(self, request: BaseRequest) -> tuple[RestExchange, Endpoint]:
        """The exchange of a request, and what will answer it: its route, or a refusal of our own, observed like the rest."""
        config = self._config
        method = request.method
        head = _Head(f"{method} /", headers_of(request))
        try:
            endpoint = self._read_head(request, head)
        except GatewayError as error:
            head.many = Many.NEITHER
            endpoint = self._view.refuse("rest", error)
        connection = request.protocol
        call = Call(
            new_id(),
            "rest",
            head.target,
            head.headers,
            head.params,
            head.query,
            head.many,
            peer=connection.peer if isinstance(connection, Connection) else "",
            accepts=head.accepts,
            snapshot=bool(head.many) and head.accepts == JSON,
        )
        if head.methods is not None:
            return OptionsExchange(call, request, head.methods), endpoint
        kind = StreamExchange if head.many else RestExchange
        return kind(call, request, int(config.max_body), config.body_seconds), endpoint

    def _read_head(self, request: BaseRequest, head: _Head) -> Endpoint:
        """Fill in what a request's head says. GatewayError where it is refused before there is a route to ask."""
        method = request.method
        path, _, text = check_head(request, head.headers, self._config.max_fields).partition("?")
        head.target = f"{method} {path}"
        check_method(method)
        head.query = query_of(text.partition("#")[0]) if text else ()
        found = self._view.find("rest", head.target)
        if found.error is not None:
            if method == "OPTIONS" and found.error.reason is Reason.WRONG_METHOD:
                head.methods = allowed(found.error)
                return Endpoint(found.endpoint.route, _nothing)
            return found.endpoint
        endpoint = found.endpoint
        head.params, head.many = found.params, endpoint.many & Many.REPLIES
        accept = ", ".join(head.headers.all("accept"))
        head.accepts = choose(accept, endpoint.offers, streams=bool(head.many))
        # A stream has no length to tell: its head says all that there is to say of it.
        return Endpoint(endpoint.route, _nothing) if head.many and method == "HEAD" else endpoint


async def _nothing(_exchange: object) -> None:
    """OPTIONS, and HEAD of a stream, ask for nothing but a head."""
