"""A real WebSocket server that does what the path says, in bare frames and in envelopes of polygate.v1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adapters.backend.websocket import CallTo, Config
from adapters.websocket.envelope import END, SUBPROTOCOL, Envelope, read, write
from gateway.codec import Contract
from gateway.message import JSON, Headers, Many
from gateway.target import Target

Behaviour = Callable[["Peer", ServerConnection], Awaitable[None]]


class Peer:
    """The server, and what it has seen."""

    def __init__(self, **behaviours: Behaviour) -> None:
        self.behaviours = {**BARE, **behaviours}
        self.requests: list[Request] = []
        self.headers: list[Headers] = []
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()
        self.address = ""
        self.refusals: dict[str, tuple[int, bytes, list[tuple[str, str]]]] = {}

    @asynccontextmanager
    async def serving(self, **settings: object) -> AsyncIterator[Peer]:
        def refused(connection: ServerConnection, request: Request) -> Response | None:
            self.requests.append(request)
            found = self.refusals.get(request.path)
            if found is None:
                return None
            status, body, headers = found
            response = connection.respond(status, body.decode())
            for name, value in headers:
                response.headers[name] = value
            return response

        async def handle(connection: ServerConnection) -> None:
            name = connection.request.path.partition("?")[0].strip("/").partition("/")[0]
            await self.behaviours[name](self, connection)

        def spoken(_connection: ServerConnection, offered: list[str]) -> str | None:
            return next((name for name in (SUBPROTOCOL, "chat") if name in offered), None)

        known = [SUBPROTOCOL, "chat"]
        wanted = {"subprotocols": known, "select_subprotocol": spoken, "compression": None, "close_timeout": 1, **settings}
        async with serve(handle, "127.0.0.1", 0, process_request=refused, **wanted) as server:
            self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    def config(self, **settings: object) -> Config:
        return Config.model_validate({"kind": "websocket", "url": self.address, **settings})


def target(call: str, many: Many = Many.NEITHER, *, content_type: str = JSON, **settings: object) -> Target:
    """A route's target, bound as the gateway would."""
    spec = CallTo.model_validate({"backend": "peer", "call": call, **settings})
    return Target("route", spec, Contract("test.v1.Test/Run", None, None, many), content_type, json.loads)


# Bare frames


async def echo(_peer: Peer, socket: ServerConnection) -> None:
    async for frame in socket:
        await socket.send(frame)


async def three(_peer: Peer, socket: ServerConnection) -> None:
    await socket.recv()
    for number in range(3):
        await socket.send(str(number))


async def fail(_peer: Peer, socket: ServerConnection) -> None:
    await socket.recv()
    await socket.close(3003, "not you")


async def hang(peer: Peer, socket: ServerConnection) -> None:
    await socket.recv()
    peer.arrived.set()
    await socket.wait_closed()
    peer.left.set()


async def nonsense(_peer: Peer, socket: ServerConnection) -> None:
    """A binary frame where text is wanted."""
    await socket.recv()
    await socket.send(b"\xff")


BARE: dict[str, Behaviour] = {"echo": echo, "three": three, "fail": fail, "hang": hang, "nonsense": nonsense}


# Envelopes


class Envelopes:
    """The peer's end of polygate.v1, in the kind of frame that the caller began with."""

    def __init__(self, peer: Peer, socket: ServerConnection) -> None:
        self._peer = peer
        self._socket = socket
        self.text = True

    async def begin(self) -> Headers:
        """The call's headers."""
        first = await self.hear()
        assert "headers" == first.kind
        self._peer.headers.append(first.headers)
        return first.headers

    async def hear(self) -> Envelope:
        frame = await self._socket.recv()
        self.text = isinstance(frame, str)
        return read(frame.encode() if isinstance(frame, str) else frame, text=self.text)

    async def messages(self) -> AsyncIterator[bytes]:
        while (envelope := await self.hear()).kind == "message":
            yield envelope.body
        assert END == envelope

    async def say(self, *envelopes: Envelope) -> None:
        for envelope in envelopes:
            await self._socket.send(write(envelope, text=self.text), text=self.text)


def enveloped(behaviour: Callable[[Peer, Envelopes], Awaitable[None]]) -> Behaviour:
    """A behaviour in envelopes, as one of frames."""

    async def behave(peer: Peer, socket: ServerConnection) -> None:
        assert SUBPROTOCOL == socket.subprotocol
        talk = Envelopes(peer, socket)
        await talk.begin()
        try:
            await behaviour(peer, talk)
        except ConnectionClosed:
            peer.left.set()

    return behave


@enveloped
async def echo2(_peer: Peer, talk: Envelopes) -> None:
    await talk.say(Envelope("headers"))
    async for body in talk.messages():
        await talk.say(Envelope("message", body))
    await talk.say(Envelope("trailers"))


@enveloped
async def three2(_peer: Peer, talk: Envelopes) -> None:
    async for _ in talk.messages():
        pass
    await talk.say(Envelope("headers"), *(Envelope("message", b"%d" % number) for number in range(3)), Envelope("trailers"))


@enveloped
async def count2(_peer: Peer, talk: Envelopes) -> None:
    bodies = [body async for body in talk.messages()]
    await talk.say(Envelope("message", b"%d" % len(bodies)), Envelope("trailers"))


@enveloped
async def fail2(_peer: Peer, talk: Envelopes) -> None:
    await talk.hear()
    await talk.say(Envelope("error", problem={"code": "NOT_FOUND", "detail": "no such sku", "outcome": "failed"}))


@enveloped
async def hang2(peer: Peer, talk: Envelopes) -> None:
    await talk.hear()
    peer.arrived.set()
    while True:
        await talk.hear()


@enveloped
async def nonsense2(_peer: Peer, talk: Envelopes) -> None:
    await talk.hear()
    await talk._socket.send("hello")


ENVELOPED = {"echo": echo2, "three": three2, "count": count2, "fail": fail2, "hang": hang2, "nonsense": nonsense2}
