"""The backend http, against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from adapters.backend.http import CallTo, Config
from gateway.errors import Reason
from gateway.message import JSON, Message
from gateway.port import Target
from tests.contract.backend import CallContract, Rig

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class TestContract(CallContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        arrived, left = asyncio.Event(), asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/echo":
                return web.Response(body=await request.read(), content_type=JSON)
            if request.path == "/html":
                return web.Response(text="<p>hello</p>", content_type="text/html")
            if request.path == "/missing":
                return web.json_response({"why": "no such thing"}, status=404)
            if request.path == "/stream":
                return web.Response(text="data: 1\n\ndata: 2\n\ndata: 3\n\n", content_type="text/event-stream")
            if request.path == "/talk":
                response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
                await response.prepare(request)
                async for line in request.content:
                    await response.write(line)
                return response
            arrived.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()
            raise AssertionError("an event that nobody sets")

        async with serving(answer) as url:
            yield Rig(
                backend=Config(kind="http", url=url),
                answers=target("POST /echo"),
                request=Message(b'{"text":"hi"}', JSON),
                reply=Message(b'{"text":"hi"}', JSON),
                fails=target("POST /missing"),
                fails_as=Reason.BACKEND_NOT_FOUND,
                hangs=target("POST /hang"),
                arrived=arrived,
                left=left,
                nonsense=target("POST /html"),
                streams=target("POST /stream", stream="sse"),
                stream=tuple(Message(body, JSON) for body in (b"1", b"2", b"3")),
                talks=target("POST /talk", stream="ndjson", stream_requests=True),
                away=Config(kind="http", url=unused_url()),
            )
