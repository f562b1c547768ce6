"""The contract suite's view of the REST listener: aiohttp's own client over loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import aiohttp

from adapters.ingress.rest import Config
from gateway.bind import Address
from gateway.errors import Reason
from gateway.framing import NDJSON, SSE, Events, Lines
from gateway.listener import View
from gateway.message import JSON, Headers, Many
from gateway.status import TABLE
from tests.contract.driver import SENT, Answer, Conversation, Driver, EndedError

PATH = "/shop/talk"


def config(**settings: object) -> Config:
    return Config.model_validate({"kind": "rest", "bind": "127.0.0.1:0", **settings})


@asynccontextmanager
async def listening(view: View, **settings: object) -> AsyncIterator[Address]:
    async with config(**settings).build("public", view).serving() as address:
        assert address is not None
        yield address


class RestConversation(Conversation):
    def __init__(self, session: aiohttp.ClientSession, url: str, accept: str) -> None:
        self._session = session
        self._url = url
        self._accept = accept
        self._body = b""
        self._response: aiohttp.ClientResponse | None = None
        self._lines = Lines(1 << 20)
        self._events = Events(1 << 20)
        self._ready: list[bytes] = []
        self._problem = ""
        self._whole = False

    async def send(self, body: bytes) -> None:
        self._body = body

    async def finish(self) -> None:
        headers = {"Accept": self._accept, "Content-Type": JSON, SENT[0]: SENT[1]}
        with suppress(aiohttp.ClientConnectionError):
            self._response = await self._session.post(self._url, data=self._body, headers=headers)

    async def receive(self) -> bytes:
        response = self._response
        if response is None:
            raise EndedError(Answer(clean=False))
        if response.content_type not in {NDJSON, SSE}:
            return await self._one(response)
        while not self._ready:
            try:
                chunk = await response.content.readany()
            except (aiohttp.ClientError, ConnectionError):
                raise EndedError(self._answer(clean=False)) from None
            if not chunk:
                raise EndedError(self._answer(clean=not self._problem))
            self._cut(chunk)
        return self._ready.pop(0)

    def _cut(self, chunk: bytes) -> None:
        if self._accept == SSE:
            for event in self._events.feed(chunk):
                if event.name == "error":
                    self._problem = event.data
                else:
                    self._ready.append(event.data.encode())
            return
        for line in self._lines.feed(chunk):
            if line.startswith(b'{"error":'):
                self._problem = json.dumps(json.loads(line)["error"])
            else:
                self._ready.append(line)

    async def _one(self, response: aiohttp.ClientResponse) -> bytes:
        if self._whole:
            raise EndedError(self._answer(clean=True))
        body = await response.read()
        if response.status >= 400:
            self._problem = body.decode()
            raise EndedError(self._answer(clean=False))
        if response.status == 204:
            raise EndedError(self._answer(clean=True))
        self._whole = True
        return body

    def _answer(self, *, clean: bool) -> Answer:
        response = self._response
        assert response is not None
        headers = Headers((name.lower(), value) for name, value in response.headers.items())
        problem = json.loads(self._problem) if self._problem else {}
        return Answer(
            clean=clean,
            status=response.status,
            reason=problem.get("reason", ""),
            id=headers.get("x-request-id") or "",
            text=f"{self._problem} {headers}",
            headers=headers,
        )

    async def leave(self) -> None:
        response = self._response
        if response is not None and response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
        await self._session.close()


class Waiting(RestConversation):
    """A request under way whose answer nobody has read yet: it is sent without waiting for its head."""

    async def finish(self) -> None:
        self._asking = self._session._loop.create_task(super().finish())

    async def receive(self) -> bytes:
        await self._asking
        return await super().receive()

    async def leave(self) -> None:
        await self.close()
        await super().leave()

    async def close(self) -> None:
        if not self._asking.done():
            self._asking.cancel()
        await asyncio.wait({self._asking})
        if self._response is not None:
            self._response.close()


class Speaking(Waiting):
    """A request whose body is lines, sent while its answer is read."""

    def __init__(self, session: aiohttp.ClientSession, url: str, accept: str) -> None:
        super().__init__(session, url, accept)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._asking = self._session._loop.create_task(self._ask())

    async def _ask(self) -> None:
        headers = {"Accept": self._accept, "Content-Type": NDJSON, SENT[0]: SENT[1]}
        with suppress(aiohttp.ClientConnectionError):
            self._response = await self._session.post(self._url, data=self._said(), headers=headers)

    async def _said(self) -> AsyncIterator[bytes]:
        while (line := await self._queue.get()) is not None:
            yield line + b"\n"

    async def send(self, body: bytes) -> None:
        await self._queue.put(body)

    async def finish(self) -> None:
        await self._queue.put(None)


class RestDriver(Driver):
    protocol: ClassVar[str] = "rest"
    target: ClassVar[str] = f"POST {PATH}"
    wire: ClassVar[Many] = Many.BOTH
    content_type: ClassVar[str] = JSON

    def __init__(self, accept: str = NDJSON) -> None:
        self._accept = accept
        self._url = ""

    @asynccontextmanager
    async def listening(self, view: View) -> AsyncIterator[Address]:
        streams = bool(view.find("rest", "").endpoint.many & Many.REPLIES)
        self._wanted = self._accept if streams else JSON
        self._talk = Speaking if view.find("rest", "").endpoint.many & Many.REQUESTS else Waiting
        async with listening(view) as address:
            self._url = f"http://{address}{PATH}"
            yield address

    @asynccontextmanager
    async def conversing(self) -> AsyncIterator[Conversation]:
        async with aiohttp.ClientSession(read_bufsize=1 << 12) as session:
            talk = self._talk(session, self._url, self._wanted)
            try:
                yield talk
            finally:
                await talk.close()

    def status(self, reason: Reason) -> int:
        return TABLE[reason].http
