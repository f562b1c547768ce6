"""The contract suite's view of the WebSocket listener: the library's own client over loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adapters.ingress.websocket import Config
from adapters.websocket.envelope import END, SUBPROTOCOL, Envelope, read, write
from gateway.errors import Reason
from gateway.listener import View
from gateway.message import JSON, Headers, Many
from gateway.status import TABLE
from tests.contract.driver import SENT, Answer, Conversation, Driver, EndedError

PATH = "/shop/talk"


def headers_of(pairs) -> Headers:
    return Headers((name.lower(), value) for name, value in pairs)


def problem_of(body: str | bytes) -> dict[str, object]:
    """The problem object, or {} for any other message."""
    with suppress(ValueError):
        value = json.loads(body)
        if isinstance(value, dict) and str(value.get("type", "")).startswith("urn:polygate:reason:"):
            return value
    return {}


class WebSocketConversation(Conversation):
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._problem = ""

    async def send(self, body: bytes) -> None:
        with suppress(ConnectionClosed):
            await self._socket.send(body.decode())

    async def finish(self) -> None:
        """There is no half-close."""

    async def receive(self) -> bytes:
        try:
            body = await self._socket.recv(decode=False)
        except ConnectionClosed:
            raise EndedError(self._answer()) from None
        if problem_of(body):
            self._problem = body.decode()
            return await self.receive()
        return body

    async def leave(self) -> None:
        self._socket.transport.abort()

    def _answer(self) -> Answer:
        response = self._socket.response
        headers = headers_of(response.headers.raw_items())
        return Answer(
            clean=self._socket.close_code == 1000 and not self._problem,
            reason=str(problem_of(self._problem).get("reason", "")),
            id=headers.get("x-request-id") or "",
            text=f"{self._problem} {self._socket.close_reason}",
            headers=headers,
        )


class Refused(Conversation):
    """The handshake was answered otherwise than by 101."""

    def __init__(self, error: InvalidStatus) -> None:
        response = error.response
        headers = headers_of(response.headers.raw_items())
        self._answer = Answer(
            clean=False,
            status=response.status_code,
            reason=str(problem_of(bytes(response.body)).get("reason", "")),
            id=headers.get("x-request-id") or "",
            text=f"{headers} {response.body.decode()}",
            headers=headers,
        )

    async def send(self, body: bytes) -> None:
        del body

    async def finish(self) -> None:
        pass

    async def receive(self) -> bytes:
        raise EndedError(self._answer)

    async def leave(self) -> None:
        pass


class WebSocketDriver(Driver):
    protocol: ClassVar[str] = "websocket"
    target: ClassVar[str] = PATH
    wire: ClassVar[Many] = Many.BOTH
    least: ClassVar[Many] = Many.BOTH
    half_close: ClassVar[bool] = False
    content_type: ClassVar[str] = JSON

    def __init__(self, **settings: object) -> None:
        self.config = Config.model_validate({"kind": "websocket", "bind": "127.0.0.1:0", **settings})
        self.address = ""

    @asynccontextmanager
    async def listening(self, view: View) -> AsyncIterator[str]:
        async with self.config.build("live", view).serving() as address:
            self.address = str(address)
            yield self.address

    @asynccontextmanager
    async def conversing(self) -> AsyncIterator[Conversation]:
        try:
            socket = await connect(
                f"ws://{self.address}{PATH}",
                additional_headers=[SENT],
                compression=None,
                proxy=None,
                max_queue=1,
                close_timeout=1,
            )
        except InvalidStatus as error:
            yield Refused(error)
            return
        try:
            yield WebSocketConversation(socket)
        finally:
            await socket.close()

    def status(self, reason: Reason) -> int:
        return TABLE[reason].http


class EnvelopedConversation(Conversation):
    """The caller's end under polygate.v1: what the bare wire cannot say is said."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._headers = headers_of([])
        self._problem: dict[str, object] = {}
        self._trailers = False

    async def say(self, envelope: Envelope) -> None:
        with suppress(ConnectionClosed):
            await self._socket.send(write(envelope, text=True).decode())

    async def send(self, body: bytes) -> None:
        await self.say(Envelope("message", body))

    async def finish(self) -> None:
        await self.say(END)

    async def receive(self) -> bytes:
        while True:
            try:
                envelope = read(await self._socket.recv(decode=False), text=True)
            except ConnectionClosed:
                raise EndedError(self._answer()) from None
            if envelope.kind == "message":
                return envelope.body
            if envelope.kind == "headers":
                self._headers = envelope.headers
            elif envelope.kind == "trailers":
                self._trailers = True
            else:
                self._problem = dict(envelope.problem or {})

    async def leave(self) -> None:
        self._socket.transport.abort()

    def _answer(self) -> Answer:
        problem = self._problem
        return Answer(
            clean=self._socket.close_code == 1000 and self._trailers and not problem,
            status=problem.get("status"),
            reason=str(problem.get("reason", "")),
            id=str(problem.get("id", self._headers.get("x-request-id") or "")),
            text=f"{problem} {self._socket.close_reason} {self._headers}",
            headers=self._headers,
        )


class EnvelopedDriver(WebSocketDriver):
    least: ClassVar[Many] = Many.NEITHER
    half_close: ClassVar[bool] = True

    @asynccontextmanager
    async def conversing(self) -> AsyncIterator[Conversation]:
        try:
            socket = await connect(
                f"ws://{self.address}{PATH}",
                additional_headers=[SENT],
                subprotocols=[SUBPROTOCOL],
                compression=None,
                proxy=None,
                max_queue=1,
                close_timeout=1,
            )
        except InvalidStatus as error:
            yield Refused(error)
            return
        try:
            talk = EnvelopedConversation(socket)
            await talk.say(Envelope("headers"))
            yield talk
        finally:
            await socket.close()
