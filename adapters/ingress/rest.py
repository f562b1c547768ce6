"""The listener `rest`: HTTP/1.1, one message in, one message or a stream out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import ClassVar, Literal

from aiohttp.http import HttpRequestParser
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.web import BaseRequest, Response, StreamResponse
from pydantic import ByteSize, Field, FilePath

from adapters.ingress._rest_connection import Connection, Listening
from adapters.ingress._rest_exchange import RestExchange, StreamExchange, error_response, response
from adapters.ingress._rest_request import METHODS, check_head, check_method, choose, headers_of, query_of
from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import Call, new_id
from gateway.message import NO_HEADERS, Headers, Many
from gateway.part import Part
from gateway.port import Address, Bind, ListenerConfig, View, split_bind
from gateway.route import Endpoint, Found
from gateway.status import allowed


class Tls(Part):
    """The certificate that callers see."""

    cert: FilePath
    """PEM, with the chain."""
    key: FilePath
    """PEM, its private key."""


class Config(ListenerConfig):
    """REST over HTTP/1.1, with SSE, NDJSON and JSON array out."""

    protocol: ClassVar[str] = "rest"
    wire: ClassVar[Many] = Many.REPLIES

    kind: Literal["rest"]
    bind: Bind
    """host:port to listen on."""
    tls: Tls | None = None
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
            lambda _request, error: error_response(error, new_id()),
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
        context = None
        if config.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(config.tls.cert, config.tls.key)
        listening = await loop.create_server(server, host or None, port, ssl=context, backlog=config.backlog)
        try:
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
                return await self._stream(exchange, endpoint)
            await endpoint.handler(exchange)
            answer = await exchange.finish()
        except GatewayError as error:
            answer = await exchange.fail(error)
        if not self._view.ready:
            answer.force_close()
        return answer

    async def _stream(self, exchange: StreamExchange, endpoint: Endpoint) -> StreamResponse:
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
        """The exchange of a request, and what will answer it: its route, or a refusal."""
        config = self._config
        found: Found | None = None
        refusal: GatewayError | None = None
        method, path, accepts = request.method, "/", ""
        query: tuple[tuple[str, str], ...] = ()
        headers: Headers = NO_HEADERS
        streams = False
        try:
            target = check_head(request, config.max_fields)
            check_method(method)
            path, _, text = target.partition("?")
            query = query_of(text.partition("#")[0])
            headers = headers_of(request)
            found = self._view.find("rest", f"{method} {path}")
            streams = bool(found.endpoint.many & Many.REPLIES)
            if found.error is None:
                accept = ", ".join(headers.all("accept"))
                accepts = choose(accept, found.endpoint.offers, streams=streams)
        except GatewayError as error:
            refusal, streams = error, False
        connection = request.protocol
        call = Call(
            id=new_id(),
            protocol="rest",
            target=f"{method} {path}",
            headers=headers,
            params=found.params if found else {},
            query=query,
            many=Many.REPLIES if streams else Many.NEITHER,
            peer=connection.peer if isinstance(connection, Connection) else "",
            accepts=accepts,
            snapshot=streams and accepts == "application/json",
        )
        kind = StreamExchange if streams else RestExchange
        exchange = kind(call, request, int(config.max_body), config.body_seconds)
        if refusal is None and found is not None:
            if method == "OPTIONS" and found.error is not None and found.error.reason is Reason.WRONG_METHOD:
                return _Options(call, request, allowed(found.error)), Endpoint(found.endpoint.route, _nothing)
            return exchange, found.endpoint
        assert refusal is not None  # noqa: S101  without a refusal there is a Found
        return exchange, self._view.refuse("rest", refusal)


async def _nothing(_exchange: object) -> None:
    """OPTIONS asks for nothing but its head."""


class _Options(RestExchange):
    """204, and which methods the path has (RFC 9110 9.3.7)."""

    def __init__(self, call: Call, request: BaseRequest, methods: tuple[str, ...]) -> None:
        super().__init__(call, request, 0, 0)
        self._methods = methods

    async def finish(self) -> Response:
        return response(HTTPStatus.NO_CONTENT, b"", "", self.call.id, Headers((("allow", ", ".join(self._methods)),)))
