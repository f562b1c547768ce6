"""Servers for the tests of the backend http: a real one, and one that says whatever it is told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from adapters.backend.http import CallTo
from gateway.errors import GatewayError
from gateway.exchange import Call, Memory, new_id
from gateway.message import JSON, Headers, Message
from gateway.port import Backend
from gateway.target import Target

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
WHOLE = b"content-length: 2\r\n\r\n{}"


def target(call: str, **settings: object) -> Target:
    """A JSON target, as a config would bind it."""
    return Target("test", CallTo.model_validate({"backend": "erp", "call": call, **settings}), fields=json.loads)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A real server; its URL."""
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def unused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def asking(
    body: bytes = b"{}", kind: str = JSON, *, seconds: float = 20.0, headers: dict[str, str] | None = None, **params: str
) -> Memory:
    """An exchange of one request, with a deadline."""
    deadline = asyncio.get_running_loop().time() + seconds
    call = Call(new_id(), "memory", "test", Headers((headers or {}).items()), params, deadline=deadline)
    return Memory(Message(body, kind), call=call)


@dataclass
class Raw:
    """A server that answers every request with the same bytes, and counts."""

    url: str
    answer: bytes
    then_close: bool = True
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    late: bytes = b""
    """Sent once `again` is set, when the answer has long been read."""
    again: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def saying(answer: bytes, *, then_close: bool = True, late: bytes = b"") -> AsyncIterator[Raw]:
    """Speak anything, in a real socket."""
    raw = Raw("", answer, then_close, late=late)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                    )
                    raw.requests.append(head + await reader.readexactly(length))
                    writer.write(raw.answer)
                    await writer.drain()
                    if raw.late:
                        await raw.again.wait()
                        writer.write(raw.late)
                        await writer.drain()
                        raw.late = b""
                        raw.said.set()
                    if raw.then_close:
                        break
            finally:
                writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24) as server:
        host, port = server.sockets[0].getsockname()
        raw.url = f"http://{host}:{port}"
        try:
            yield raw
        finally:
            server.close()


async def refused(backend: Backend, to: Target, memory: Memory) -> GatewayError:
    """The error of a call that must fail, with nothing said to the caller."""
    with pytest.raises(GatewayError) as caught:
        await backend.handler(to)(memory)
    assert (None, []) == (memory.headers, memory.replies)
    return caught.value
