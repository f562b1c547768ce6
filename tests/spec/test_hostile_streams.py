"""Callers of streams who mean harm, or who go away: by bytes on a raw socket."""

from __future__ import annotations

import asyncio
import gzip
import logging
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest

from tests.spec.talk import HttpBody, Peer, served, served_via

NDJSON = "application/x-ndjson"
PATIENCE_S = 30
CHUNKED = "transfer-encoding: chunked"


@pytest.fixture
async def peer():
    return Peer()


@asynccontextmanager
async def asking(gateway, path, kind, *fields):
    """A request whose head is out."""
    address = gateway.addresses["rest"]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = (f"POST {path} HTTP/1.1", "host: shop.test", f"content-type: {kind}", *fields)
    writer.write("\r\n".join((*head, "", "")).encode())
    try:
        yield reader, writer
    finally:
        writer.close()


def chunk(body):
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("via", ["grpc", "websocket"])
async def test_100_is_said_before_the_answer_begins_and_never_in_it(peer, via):
    fields = (CHUNKED, "expect: 100-continue", f"accept: {NDJSON}")
    async with (
        asyncio.timeout(PATIENCE_S),
        served_via(via, peer) as gateway,
        asking(gateway, "/both", NDJSON, *fields) as (reader, writer),
    ):
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        writer.write(chunk(b'{"text":"a"}\n') + b"0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert b" 100 " not in await reader.readuntil(b"0\r\n\r\n")


async def test_http_1_0_knows_no_100(peer):
    async with asyncio.timeout(PATIENCE_S), served(peer) as gateway:
        address = gateway.addresses["rest"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"POST /one HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_over_http_1_0_a_body_that_breaks_off_ends_in_a_reset(peer):
    async def fail(context):
        await context.read()
        await context.write(HttpBody(data=b"first").SerializeToString())
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")

    peer.methods["Download"] = fail
    async with asyncio.timeout(PATIENCE_S), served(peer) as gateway:
        address = gateway.addresses["rest"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /download/x HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/requests", NDJSON),
        ("/both", NDJSON),
        ("/spec.v1.Talk/Requests", "application/connect+json"),
        ("/upload/x", "image/png"),
    ],
)
async def test_a_caller_who_is_gone_in_mid_body_is_no_defect_of_ours(peer, path, kind, caplog):
    seen = asyncio.Event()

    async def hear(context):
        seen.set()
        await context.read()
        await asyncio.Event().wait()

    peer.methods |= dict.fromkeys(("Requests", "Both", "Upload"), hear)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_S), served(peer) as gateway:
            async with asking(gateway, path, kind, CHUNKED) as (_, writer):
                await seen.wait()
                writer.transport.abort()
            await peer.cancelled.wait()
    assert [] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("blank", "status"), [(b"\n", 200), (b" \r\n", 200)])
async def test_a_small_body_of_millions_of_blank_lines_keeps_nobody_waiting(peer, blank, status):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    body = gzip.compress(blank * (8 << 20))
    headers = {"content-type": NDJSON, "content-encoding": "gzip"}
    async with (
        served(peer) as gateway,
        aiohttp.ClientSession(f"http://{gateway.addresses['rest']}") as session,
        asyncio.TaskGroup() as group,
    ):
        ticking = group.create_task(others())
        async with session.post("/requests", data=body, headers=headers) as answer:
            assert status == answer.status
        ticking.cancel()
    assert turns > 100  # one for each of the pieces that it is unpacked in


@pytest.mark.slow
async def test_a_caller_who_still_sends_is_told_when_the_gateway_stops(peer):
    begun = asyncio.Event()

    async def hear(context):
        await context.read()
        begun.set()
        await context.read()

    async def body():
        yield b'{"text":"a"}\n'
        await asyncio.Event().wait()

    async def ask(url):
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body(), headers={"content-type": NDJSON}) as answer,
        ):
            return answer.status, (await answer.json(content_type=None))["reason"]

    peer.methods["Requests"] = hear
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group, served(peer) as gateway:
        asked = group.create_task(ask(f"http://{gateway.addresses['rest']}/requests"))
        await begun.wait()
    assert (503, "overloaded") == asked.result()


# What a page of another site may send without asking first (WHATWG Fetch, "CORS-safelisted request-header")


@pytest.mark.parametrize("kind", [None, "text/plain", "Text/Plain;charset=UTF-8", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/one", "/requests", "/both", "/upload/x"])
async def test_what_another_sites_page_sends_without_asking_is_refused(peer, path, kind):
    async with served(peer) as gateway, aiohttp.ClientSession(f"http://{gateway.addresses['rest']}") as session:
        for origin, taken in (("https://evil.example", False), ("null", False), (f"http://{gateway.addresses['rest']}", True)):
            headers = {"origin": origin, **({"content-type": kind} if kind else {})}
            skipped = () if kind else ("content-type",)
            async with session.post(path, data=b"{}", headers=headers, skip_auto_headers=skipped) as answer:
                assert taken == (403 != answer.status)
