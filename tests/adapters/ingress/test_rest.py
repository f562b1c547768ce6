"""The REST listener: what every ingress promises, and what HTTP's own words mean here."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from gateway.framing import NDJSON, SSE, Event, Events
from gateway.message import JSON, Headers, Many, Message, Notice
from tests.adapters.ingress.rest_driver import RestDriver, listening
from tests.contract.driver import PATIENCE_S, serving
from tests.contract.ingress import IngressContract, stop


class TestContractOverNdjson(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(NDJSON)


class TestContractOverServerSentEvents(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(SSE)


async def test_a_stream_has_our_caching_headers_and_the_backends_others():
    async def handler(exchange):
        await exchange.receive()
        await exchange.accept(Headers((("cache-control", "max-age=9"), ("x-served-by", "shop"))))

    driver = RestDriver(NDJSON)
    async with driver.listening(serving(handler, Many.REPLIES)):
        answer = await driver.ask()
    assert ("no-store",) == answer.headers.all("cache-control")
    assert "shop" == answer.headers.get("x-served-by")


@pytest.mark.parametrize(("accept", "beat"), [(SSE, b":\n\n"), (NDJSON, b" ")])
async def test_a_stream_that_is_silent_shows_that_it_is_alive_by_what_says_nothing(accept, beat):
    go_on = asyncio.Event()

    async def handler(exchange):
        await exchange.accept()
        await go_on.wait()
        await exchange.send(Message(b'{"a": 1}', JSON))

    async with listening(serving(handler, Many.REPLIES), heartbeat_seconds=0.01) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"POST /shop/talk HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Length: 0\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n\r\n")
            chunks = [await chunk(reader) for _ in range(3)]
            assert [beat] * 3 == chunks
            go_on.set()
            while body := await chunk(reader):
                chunks.append(body)
        writer.close()
        await writer.wait_closed()
    whole = b"".join(chunks)
    if accept == NDJSON:
        assert [{"a": 1}] == [json.loads(line) for line in whole.splitlines()]
    else:
        assert [Event('{"a": 1}')] == list(Events().feed(whole))


async def chunk(reader):
    """The next one of a body that is sent in chunks; b"" at its end."""
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def test_a_notice_is_an_event_of_its_own_name_in_an_event_stream():
    async def handler(exchange):
        await exchange.receive()
        await exchange.send(Notice(b'{"to": "0:3"}', JSON, cursor="0:3", name="gap"))
        await exchange.send(Message(b"{}", JSON, cursor="0:4"))

    async with (
        listening(serving(handler, Many.REPLIES)) as address,
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/shop/talk", data=b"{}", headers={"Accept": SSE}) as response,
    ):
        body = await response.read()
    assert b'event: gap\nid: 0:3\ndata: {"to": "0:3"}\n\nid: 0:4\ndata: {}\n\n' == body


async def test_a_call_that_outlasts_the_drain_is_told_so_and_that_its_outcome_is_unknown():
    begun = asyncio.Event()

    async def handler(exchange):
        await exchange.receive()
        begun.set()
        await asyncio.Event().wait()

    view = serving(handler, Many.NEITHER)
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        async with listening(view) as address:
            asking = asyncio.get_running_loop().create_task(session.post(f"http://{address}/shop/talk", json={}))
            await begun.wait()
            stop(view, 0.1)
        response = await asking
        problem = await response.json()
    assert (503, "overloaded", "unknown") == (response.status, problem["reason"], problem["outcome"])
    assert "1" == response.headers["retry-after"]
