"""One caller for each wire that carries streams, all with the same few words, so that a test runs on every one of them."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import grpc.aio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adapters.websocket.envelope import END, SUBPROTOCOL, Envelope, read, write
from gateway.framing import NDJSON, SSE, Elements, Events, Lines
from gateway.message import JSON, Headers
from gateway.server import Gateway
from tests.spec.talk import Line

PATIENCE_S = 10
ONE = "application/json; charset=utf-8"
"""One message, where JSON would be an array of many."""
Said = tuple[str, int]
"""What a line says: text and number."""
Pairs = Sequence[tuple[str, str]]


@dataclass
class EndedError(Exception):
    """The answer is over. `code` is "OK", a name of google/rpc/code.proto, or BROKEN where the wire just breaks off."""

    code: str = "OK"
    detail: str = ""
    status: int | None = None
    """The HTTP status, where there was no other answer."""


@dataclass
class Answer:
    """All of an answer."""

    said: list[Said]
    end: EndedError
    headers: Headers
    trailers: Headers = field(default_factory=Headers)


class Talk(ABC):
    """The caller's end of one call."""

    headers = Headers()
    trailers = Headers()

    @abstractmethod
    async def send(self, text: str = "", number: int = 0) -> None:
        """One line. Waits while the gateway is slow."""

    @abstractmethod
    async def finish(self) -> None:
        """There are no more."""

    @abstractmethod
    async def receive(self) -> Said:
        """The next line. Raises EndedError."""

    @abstractmethod
    async def leave(self) -> None:
        """Be gone without a word."""

    async def rest(self) -> Answer:
        """Everything that is still to come."""
        said = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    said.append(await self.receive())
        except EndedError as end:
            return Answer(said, end, self.headers, self.trailers)


class Caller(ABC):
    """One wire."""

    name: str
    half_closes = True
    """It can say that it has finished, and listen on."""

    @abstractmethod
    def calling(self, gateway: Gateway, method: str, headers: Pairs = ()) -> Any:
        """Open a call: an asynchronous context with its Talk."""

    async def ask(self, gateway: Gateway, method: str, *lines: Said, headers: Pairs = ()) -> Answer:
        """Say these lines, no more, and hear everything."""
        async with asyncio.timeout(PATIENCE_S), self.calling(gateway, method, headers) as talk:
            for line in lines:
                await talk.send(*line)
            await talk.finish()
            return await talk.rest()

    def __repr__(self) -> str:
        return self.name


def said_of(value: Any) -> Said:
    return value.get("text", ""), int(value.get("number", 0))


def said_in(text: str, number: int) -> dict[str, object]:
    return {**({"text": text} if text else {}), **({"number": str(number)} if number else {})}


def problem_end(problem: Any, status: int | None = None) -> EndedError:
    return EndedError(problem["code"], problem["detail"], status)


class _HttpTalk(Talk):
    def __init__(self, session: aiohttp.ClientSession, url: str, accept: str, kind: str, headers: Pairs) -> None:
        self._session = session
        self._url = url
        self._accept = accept
        self._kind = kind
        self._pairs = headers
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._sent = 0
        self._asking: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._ready: list[Said] = []
        self._end: EndedError | None = None
        self._lines, self._events, self._elements = Lines(1 << 24), Events(1 << 24), Elements(1 << 24)

    async def _body(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            yield piece

    def begin(self) -> None:
        headers = [("Accept", self._accept), ("Content-Type", self._kind), *self._pairs]
        asking = self._session.post(self._url, data=self._body(), headers=headers)
        self._asking = asyncio.get_running_loop().create_task(asking._coro)

    async def _put(self, piece: bytes | None) -> None:
        putting = asyncio.get_running_loop().create_task(self._queue.put(piece))
        # Whoever has the whole answer already takes no more.
        await asyncio.wait([putting])

    async def send(self, text: str = "", number: int = 0) -> None:
        body = json.dumps(said_in(text, number)).encode()
        self._sent += 1
        if self._kind == NDJSON:
            await self._put(body + b"\n")
        elif self._kind == ONE:
            await self._put(body)
        else:
            await self._put((b"[" if self._sent == 1 else b",") + body)

    async def finish(self) -> None:
        if self._kind == JSON:
            await self._put(b"]" if self._sent else b"[]")
        await self._put(None)

    async def receive(self) -> Said:
        response = await self._response()
        while not self._ready:
            if self._end is not None:
                raise self._end
            await self._read(response)
        return self._ready.pop(0)

    async def _response(self) -> aiohttp.ClientResponse:
        assert self._asking is not None
        try:
            response = await asyncio.shield(self._asking)
        except aiohttp.ClientError as error:
            raise EndedError("BROKEN", str(error)) from error
        self.headers = Headers((name.lower(), value) for name, value in response.headers.items())
        return response

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        try:
            if response.content_type not in {NDJSON, SSE} and (response.status != 200 or "Content-Length" in response.headers):
                await self._whole(response)
                return
            chunk = await response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            self._end = EndedError("BROKEN", str(error))
            return
        if not chunk:
            if response.content_type == JSON:
                self._elements.end()
            self._end = EndedError()
        elif response.content_type == JSON:
            self._ready += [said_of(json.loads(element)) for element in self._elements.feed(chunk)]
        elif response.content_type == SSE:
            for event in self._events.feed(chunk):
                self._take(json.loads(event.data), failed=event.name == "error")
        else:
            for line in self._lines.feed(chunk):
                value = json.loads(line)
                self._take(value.get("error", value), failed="error" in value)

    def _take(self, value: Any, *, failed: bool) -> None:
        if failed:
            self._end = problem_end(value)
        else:
            self._ready.append(said_of(value))

    async def _whole(self, response: aiohttp.ClientResponse) -> None:
        value = await response.json(content_type=None)
        if response.status >= 400:
            self._end = problem_end(value, response.status)
        else:
            self._ready.append(said_of(value))
            self._end = EndedError()

    async def leave(self) -> None:
        assert self._asking is not None
        for connections in self._session.connector._acquired.copy():
            connections.transport.abort()
        self._asking.cancel()

    async def close(self) -> None:
        assert self._asking is not None
        self._asking.cancel()
        await asyncio.wait([self._asking])
        if not self._asking.cancelled() and self._asking.exception() is None:
            self._asking.result().close()


class Http(Caller):
    """REST: a body of many messages, and an answer of many."""

    def __init__(self, accept: str, kind: str) -> None:
        self.name = f"rest-{kind.rpartition('/')[2]}-{accept.rpartition('/')[2]}"
        self._accept = accept
        self._kind = kind

    @asynccontextmanager
    async def calling(self, gateway: Gateway, method: str, headers: Pairs = ()) -> AsyncIterator[Talk]:
        url = f"http://{gateway.addresses['rest']}/{method.lower()}"
        connector = aiohttp.TCPConnector(limit=1)
        # What takes one message has it as it is, and what gives one gives it as it is.
        kind = self._kind if method in {"Requests", "Both"} else ONE
        accept = self._accept if method in {"Replies", "Both"} else JSON
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 12, auto_decompress=False) as session:
            talk = _HttpTalk(session, url, accept, kind, headers)
            talk.begin()
            try:
                yield talk
            finally:
                await talk.close()


class _GrpcTalk(Talk):
    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, text: str = "", number: int = 0) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
            await self._call.write(Line(text=text, number=number))

    async def finish(self) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self._call.done_writing()

    async def receive(self) -> Said:
        try:
            line = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self._note(error.initial_metadata(), error.trailing_metadata())
            raise EndedError(error.code().name, error.details() or "") from error
        if line is not grpc.aio.EOF:
            return line.text, line.number
        code = await self._call.code()
        self._note(await self._call.initial_metadata(), await self._call.trailing_metadata())
        raise EndedError(code.name, await self._call.details() or "")

    def _note(self, initial: Any, trailing: Any) -> None:
        self.headers, self.trailers = Headers(tuple(initial or ())), Headers(tuple(trailing or ()))

    async def leave(self) -> None:
        self._call.cancel()


class Grpc(Caller):
    """gRPC, every kind of method as a stream both ways: on the wire they are the same."""

    name = "grpc"

    @asynccontextmanager
    async def calling(
        self, gateway: Gateway, method: str, headers: Pairs = (), seconds: float | None = None
    ) -> AsyncIterator[Talk]:
        async with grpc.aio.insecure_channel(str(gateway.addresses["grpc"])) as channel:
            rpc = channel.stream_stream(
                f"/spec.v1.Talk/{method}", request_serializer=Line.SerializeToString, response_deserializer=Line.FromString
            )
            timeout = next((float(value[:-1]) for name, value in headers if name == "grpc-timeout"), seconds)
            yield _GrpcTalk(rpc(metadata=[pair for pair in headers if pair[0] != "grpc-timeout"], timeout=timeout))


class _BareTalk(Talk):
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.headers = Headers((name.lower(), value) for name, value in socket.response.headers.raw_items())
        self._end: EndedError | None = None

    async def send(self, text: str = "", number: int = 0) -> None:
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps(said_in(text, number)))

    async def finish(self) -> None:
        """It cannot be said."""

    async def receive(self) -> Said:
        try:
            value = json.loads(await self._socket.recv())
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd is not None else None
            raise self._end or EndedError("OK" if code == 1000 else "BROKEN", str(code)) from error
        if str(value.get("type", "")).startswith("urn:polygate:reason:"):
            self._end = problem_end(value)
            return await self.receive()
        return said_of(value)

    async def leave(self) -> None:
        self._socket.transport.abort()


class _EnvelopedTalk(_BareTalk):
    async def say(self, envelope: Envelope) -> None:
        with suppress(ConnectionClosed):
            await self._socket.send(write(envelope, text=True).decode())

    async def send(self, text: str = "", number: int = 0) -> None:
        await self.say(Envelope("message", json.dumps(said_in(text, number)).encode()))

    async def finish(self) -> None:
        await self.say(END)

    async def receive(self) -> Said:
        while True:
            try:
                envelope = read((await self._socket.recv()).encode(), text=True)
            except ConnectionClosed as error:
                code = error.rcvd.code if error.rcvd is not None else None
                raise self._end or EndedError("OK" if code == 1000 else "BROKEN", str(code)) from error
            if envelope.kind == "message":
                return said_of(json.loads(envelope.body))
            if envelope.kind == "headers":
                self.headers = envelope.headers
            elif envelope.kind == "trailers":
                self.trailers = envelope.headers
            else:
                self._end = problem_end(envelope.problem)


class Refused(Talk):
    """The handshake was answered otherwise than by 101."""

    def __init__(self, error: InvalidStatus) -> None:
        response = error.response
        self._end = problem_end(json.loads(response.body), response.status_code)

    async def send(self, text: str = "", number: int = 0) -> None: ...
    async def finish(self) -> None: ...
    async def receive(self) -> Said:
        raise self._end

    async def leave(self) -> None: ...


class WebSocket(Caller):
    """A WebSocket: a frame is a message."""

    name = "websocket"
    half_closes = False

    @asynccontextmanager
    async def calling(self, gateway: Gateway, method: str, headers: Pairs = ()) -> AsyncIterator[Talk]:
        try:
            async with self._connect(gateway, method, headers) as socket:
                yield await self._talk(socket, headers)
        except InvalidStatus as error:
            yield Refused(error)

    def _connect(self, gateway: Gateway, method: str, headers: Pairs, **settings: Any) -> Any:
        url = f"ws://{gateway.addresses['websocket']}/{method.lower()}"
        return connect(
            url, additional_headers=headers, compression=None, proxy=None, max_queue=1, close_timeout=1, max_size=None, **settings
        )

    async def _talk(self, socket: ClientConnection, _headers: Pairs) -> Talk:
        return _BareTalk(socket)


class Enveloped(WebSocket):
    """A WebSocket under polygate.v1. The headers of the call are in its first envelope."""

    name = "polygate.v1"
    half_closes = True

    def _connect(self, gateway: Gateway, method: str, _headers: Pairs, **settings: Any) -> Any:
        return super()._connect(gateway, method, (), subprotocols=[SUBPROTOCOL], **settings)

    async def _talk(self, socket: ClientConnection, headers: Pairs) -> Talk:
        talk = _EnvelopedTalk(socket)
        await talk.say(Envelope("headers", headers=Headers(headers)))
        return talk


REST = (Http(NDJSON, NDJSON), Http(SSE, NDJSON), Http(JSON, JSON), Http(NDJSON, JSON))
CALLERS: tuple[Caller, ...] = (*REST, Grpc(), WebSocket(), Enveloped())
