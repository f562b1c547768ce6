"""The listener `rest`: HTTP/1.1, one message in, one message or a stream out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import ClassVar, Literal

from aiohttp.http import HttpRequestParser
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.web import BaseRequest, StreamResponse
from pydantic import ByteSize, Field

from adapters.ingress.rest.answer import Answer, error_answer
from adapters.ingress.rest.asked import Asked, Limits
from adapters.ingress.rest.connect import ConnectGet, ConnectStream, ConnectUnary
from adapters.ingress.rest.connection import Connection, Listening
from adapters.ingress.rest.exchange import HttpExchange, RestExchange
from adapters.ingress.rest.grpc_web import GrpcWeb
from adapters.ingress.rest.outflow import Outflow
from adapters.ingress.rest.plain import Plain
from adapters.ingress.rest.preflight import Preflight
from adapters.ingress.rest.protocol import HttpProtocol
from adapters.ingress.rest.request import METHODS, check_head, check_method, headers_of
from gateway.bind import Address, Bind
from gateway.codec import Contract, HttpBinding, Rule
from gateway.errors import GatewayError, Reason, resumable, stopping
from gateway.exchange import Call, new_id
from gateway.listener import ListenerConfig, View
from gateway.message import Many
from gateway.query import pairs_of
from gateway.route import Endpoint
from gateway.task import spread
from gateway.tls import ListenerTls
from gateway.wire import Wire, method_wire

# OPTIONS is answered for every path; "*" is any method (google.api.http, custom patterns).
_ROUTED = METHODS - {"OPTIONS"} | {"*"}
LULL_S = 1.0
"""How long a connection of a listener that stops may be idle: who has just connected asks before, and who is between two requests
may learn by `Connection: close` that there is no third.
"""
LAST_S = 0.5
"""What a last answer gets to leave, where the drain's time is over."""
_BODYLESS = frozenset({"GET", "HEAD", "DELETE"})


class Config(ListenerConfig):
    """REST over HTTP/1.1, with NDJSON and JSON array in, and SSE, NDJSON and JSON array out."""

    protocol: ClassVar[str] = "rest"
    wire: ClassVar[Many] = Many.BOTH
    # One JSON object is one message, answered by one response, though NDJSON could hold many.
    each: ClassVar[bool] = False
    inherits: ClassVar[bool] = True

    kind: Literal["rest"]
    bind: Bind
    """host:port to listen on."""
    tls: ListenerTls | None = None
    """Serve HTTPS."""
    max_body: ByteSize = Field(default=ByteSize(1 << 20), gt=0)
    """The largest request body, and the largest message of a stream, after decompression."""
    compress_from: ByteSize = Field(default=ByteSize(1 << 10), ge=0)
    """Replies so large are compressed (gzip) where the caller takes that: whole ones, and messages of Connect and gRPC-Web."""
    max_field: ByteSize = Field(default=ByteSize(8 << 10), ge=256)
    """The largest request line, and the largest header field."""
    max_fields: int = Field(default=100, ge=8)
    """How many header fields a request may have."""
    head_seconds: float = Field(default=10.0, gt=0)
    """Within which a request's head must come."""
    body_seconds: float = Field(default=30.0, gt=0)
    """Within which its body must come, and each message of a stream."""
    write_seconds: float = Field(default=30.0, gt=0)
    """A caller that takes nothing of an answer for so long is cut off. For one that follows a topic the route's `slow` counts."""
    heartbeat_seconds: float = Field(default=15.0, gt=0, le=3600)
    """After so much silence an event stream gets a comment, and a stream of lines white space: proxies keep it open, and a caller
    that is gone is found out.
    """
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
        if method not in _ROUTED or not path:
            raise ValueError(f"{when!r}: a REST call is written METHOD /path, for example GET /stock/{{sku}}")
        return method, path

    @classmethod
    def calls(cls, contract: Contract) -> Sequence[HttpBinding]:
        own, unknown = "OPTIONS is answered for every path", "a request with this method is answered 501 before it is routed"
        return [
            one if one.wrong or one.method in _ROUTED else replace(one, wrong=own if one.method == "OPTIONS" else unknown)
            for one in contract.http
        ]

    @classmethod
    def rule(cls, method: str) -> Rule:
        return Rule(body="" if method in _BODYLESS else "*", patch=method == "PATCH")

    @classmethod
    def wires(cls) -> Mapping[str, tuple[Wire, ...]]:
        return {**super().wires(), "grpc": (method_wire("grpc_web"), method_wire("connect"))}

    def build(self, name: str, view: View) -> Rest:
        return Rest(self, name, view)


class Rest:
    """See `Ingress`."""

    def __init__(self, config: Config, name: str, view: View) -> None:
        if HttpRequestParser is HttpRequestParserPy:
            raise RuntimeError("aiohttp lacks its C parser here, and the other one is too lenient; install a wheel of it")
        self._config = config
        self._name = name
        self._view = view
        self._limits = Limits(int(config.max_body), config.body_seconds, int(config.compress_from), config.heartbeat_seconds)
        # In this order: the first that a request looks like is what it speaks.
        self._protocols: tuple[HttpProtocol, ...] = (
            Preflight(view),
            GrpcWeb(view),
            ConnectStream(view),
            ConnectGet(view),
            ConnectUnary(view),
            Plain(view),
        )
        self._running: dict[asyncio.Task[object], HttpExchange] = {}
        self._ended: set[asyncio.Task[object]] = set()
        """By us: their callers are told so."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        config = self._config
        server = Listening(
            self._handle,
            lambda error: error_answer(error, new_id()),
            self._view.admission,
            max_connections=config.max_connections,
            head_seconds=config.head_seconds,
            write_seconds=config.write_seconds,
            keepalive_timeout=config.keep_alive_seconds,
            access_log=None,
            auto_decompress=False,
            lingering_time=2.0,
            # Two limits that differ, since the parser says only which was passed.
            max_line_size=int(config.max_field) - 1,
            max_field_size=int(config.max_field),
            max_headers=max(config.max_fields, 128),
        )
        loop = asyncio.get_running_loop()
        context = config.tls.context() if config.tls is not None else None
        sockets = self._view.listen(self._name, config.bind, config.backlog)
        bound = sockets[0].getsockname()
        listening = [await loop.create_server(server, sock=one, ssl=context, backlog=config.backlog) for one in sockets]
        try:
            yield Address(bound[0], bound[1])
        finally:
            for one in listening:
                one.close()
            await self._drain(server)

    async def _drain(self, server: Listening) -> None:
        """A request that comes on an open connection still is answered, as its last. Connections that stay idle are closed soon;
        streams of replies are ended one by one over the first half of the time that is left, and streams of requests, which may
        yet end by themselves, in its last quarter; whatever is left at its end is told that its outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        until = self._view.drain_until or loop.time()
        # Not `pre_shutdown`: it leaves connections open that wait for a request, and takes none from them.
        left = max(0.0, until - loop.time())
        loop.call_later(min(LULL_S, left / 4), server.close_idle)
        spread([task for task, exchange in self._running.items() if exchange.streams], left / 2, self._end)
        for task, exchange in self._running.items():
            if exchange.uploads and not exchange.streams:
                loop.call_later(left * 3 / 4, self._end, task)
        if server.open:
            server.emptied.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await server.emptied.wait()
        for task in list(self._running):
            self._end(task)
        await server.shutdown(LAST_S)

    def _end(self, task: asyncio.Task[object]) -> None:
        if task in self._running and task not in self._ended:
            self._ended.add(task)
            task.cancel(Reason.OVERLOADED)

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        """One request. Raises nothing but cancellation and a lost connection."""
        exchange, endpoint = self._open(request)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  aiohttp runs each connection in a task
        self._running[task] = exchange
        answer: Answer | Outflow
        try:
            await endpoint.handler(exchange)
            answer = await exchange.finish() if exchange.streams else exchange.answer()
        except GatewayError as error:
            answer = exchange.failure(resumable(error, exchange.cursor))
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            answer = exchange.failure(resumable(stopping(), exchange.cursor))
        finally:
            exchange.close()
            del self._running[task]
            self._ended.discard(task)
        if not self._view.ready:
            answer.force_close()
        return answer.response

    def _open(self, request: BaseRequest) -> tuple[HttpExchange, Endpoint]:
        """The exchange of a request, and what will answer it: its route, or a refusal of our own, observed like the rest."""
        headers = headers_of(request)
        connection = request.protocol
        peer = connection.peer if isinstance(connection, Connection) else ""
        try:
            path, _, text = check_head(request, headers, self._config.max_fields).partition("?")
            check_method(request.method)
            query = pairs_of(text.partition("#")[0]) if text else ()
            kind = (headers.get("content-type") or "").lower()
            asked = Asked(request, headers, path, query, peer, self._limits, kind)
            for protocol in self._protocols:
                if protocol.matches(asked):
                    return protocol.open(asked)
            raise AssertionError("Plain has what no other has")
        except GatewayError as error:
            target = f"{request.method} {request.raw_path.partition('?')[0]}"
            call = Call(new_id(), "rest", target, headers, peer=peer)
            return RestExchange(call, request, self._limits), self._view.refuse("rest", error)
