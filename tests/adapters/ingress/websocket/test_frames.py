"""Bad input to the WebSocket listener, by raw sockets: each row of it closes with its code, and memory stays flat."""

from __future__ import annotations

import asyncio
import zlib

import psutil
import pytest

from adapters.ingress.websocket import Config
from gateway.exchange import EndOfMessages
from tests.adapters.ingress.raw_websocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, frame, request
from tests.adapters.ingress.websocket_driver import WebSocketDriver
from tests.contract.driver import PATIENCE_S, serving

MIB = 1 << 20


async def echo(exchange):
    try:
        while True:
            await exchange.send(await exchange.receive())
    except EndOfMessages:
        pass


async def deaf(exchange):
    await exchange.accept()
    await asyncio.get_running_loop().create_future()


def rss() -> int:
    return psutil.Process().memory_info().rss


@pytest.fixture
async def address():
    async with WebSocketDriver().listening(serving(echo)) as address:
        yield address


@pytest.fixture
async def small():
    """A listener with a message limit of 1,000 bytes."""
    async with WebSocketDriver(max_message=1000).listening(serving(echo)) as address:
        yield address


@pytest.fixture
async def handler_that_never_receives():
    async with WebSocketDriver().listening(serving(deaf)) as address:
        yield address


@pytest.fixture(params=[echo, deaf], ids=["receiving", "deaf"])
async def either(request):
    """A listener whose handler receives, and one whose handler does not: bad input is seen by both."""
    async with WebSocketDriver().listening(serving(request.param)) as address:
        yield address


async def closes_with(address: str, *data: bytes, **changes: str | None) -> int:
    raw = await Raw.open(address, **changes)
    await raw.flood(b"".join(data))
    code = await raw.code()
    await raw.close()
    return code


async def answer_to(address: str, data: bytes):
    raw = await Raw.connect(address)
    raw.send(data)
    answer = await raw.http()
    await raw.close()
    return answer


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(TEXT, b"{}", mask=False), id="unmasked"),
        pytest.param(frame(TEXT, b"{}", rsv=4), id="rsv1 without an extension"),
        pytest.param(frame(TEXT, b"{}", rsv=2), id="rsv2"),
        pytest.param(frame(TEXT, b"{}", rsv=1), id="rsv3"),
        pytest.param(frame(0x3), id="unknown data opcode"),
        pytest.param(frame(0xB), id="unknown control opcode"),
        pytest.param(frame(PING, bytes(126)), id="ping over 125 bytes"),
        pytest.param(frame(PING, fin=False), id="fragmented ping"),
        pytest.param(frame(CONT, b"{}"), id="continuation without start"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), id="start within a message"),
        pytest.param(frame(CLOSE, b"\x03"), id="close with 1 byte"),
        pytest.param(frame(CLOSE, (999).to_bytes(2, "big")), id="close 999"),
        pytest.param(frame(CLOSE, (1005).to_bytes(2, "big")), id="close 1005"),
        pytest.param(frame(CLOSE, (5000).to_bytes(2, "big")), id="close 5000"),
    ],
)
async def test_a_broken_frame_closes_with_1002(bad, either):
    assert await closes_with(either, bad) == 1002


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(TEXT, b'"\xff"'), id="whole"),
        pytest.param(frame(TEXT, b'"\xc3', fin=False) + frame(CONT, b'("'), id="in fragments"),
        pytest.param(frame(TEXT, b'"\xed\xa0\x80"'), id="a surrogate"),
        pytest.param(frame(CLOSE, b"\x03\xe8\xff"), id="in a close reason"),
    ],
)
async def test_text_that_is_not_utf8_closes_with_1007(bad, either):
    assert await closes_with(either, bad) == 1007


async def test_text_cut_within_a_character_is_one_message(address):
    raw = await Raw.open(address)
    raw.send(frame(TEXT, b'"\xc3', fin=False) + frame(CONT, b'\xa9"'))
    assert (TEXT, '"é"'.encode()) == await raw.frame()
    await raw.close()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(BINARY, bytes(1001)), id="one frame"),
        pytest.param(frame(BINARY, bytes(600), fin=False) + frame(CONT, bytes(401)), id="the sum of fragments"),
        pytest.param(frame(BINARY, length=1 << 62), id="a length of 2^62"),
        pytest.param(frame(BINARY, length=(1 << 64) - 1), id="a length of 2^64 - 1"),
    ],
)
async def test_a_message_over_the_limit_closes_with_1009(bad, small):
    assert await closes_with(small, bad) == 1009


async def test_a_message_at_the_limit_is_answered(small):
    raw = await Raw.open(small)
    raw.send(frame(BINARY, bytes(400), fin=False) + frame(CONT, bytes(600)))
    assert (BINARY, bytes(1000)) == await raw.frame()
    await raw.close()


async def test_a_flood_of_empty_fragments_closes_with_1009_and_memory_stays_flat(either):
    flood = frame(TEXT, fin=False) + frame(CONT, fin=False) * 100_000
    raw = await Raw.open(either)
    before = rss()
    await raw.flood(flood)
    assert await raw.code() == 1009
    await raw.close()
    assert 16 * MIB > rss() - before


@pytest.mark.slow
async def test_a_flood_of_tiny_messages_that_nobody_receives_is_left_in_the_socket(handler_that_never_receives):
    flood = frame(TEXT, b"1") * 1_000_000
    raws = [await Raw.open(handler_that_never_receives) for _ in range(20)]
    before = rss()
    for raw in raws:
        raw.send(flood[:MIB])
    # Whoever is served after them shows that they were read as far as they will be.
    assert await closes_with(handler_that_never_receives, frame(CONT)) == 1002
    assert 20 * MIB * 2 > rss() - before
    for raw in raws:
        raw.writer.transport.abort()


@pytest.mark.slow
async def test_pings_of_a_caller_that_does_not_read_pile_up_no_pongs(address):
    raw = await Raw.open(address)
    before = rss()
    chunk = frame(PING, bytes(125)) * 8000
    sent = 0
    raw.reader._transport.pause_reading()
    for _ in range(65):
        raw.send(chunk)
        await raw.writer.drain()
        sent += len(chunk)
    assert sent > 64 * MIB
    assert 32 * MIB > rss() - before
    raw.writer.transport.abort()


async def test_a_ping_is_answered_by_its_pong_within_a_fragmented_message(address):
    raw = await Raw.open(address)
    raw.send(frame(TEXT, b"{", fin=False) + frame(PING, b"tea") + frame(CONT, b"}"))
    assert (PONG, b"tea") == await raw.frame()
    assert (TEXT, b"{}") == await raw.frame()
    await raw.close()


# Compression

DEFLATE = "permessage-deflate; client_max_window_bits"


async def test_compression_is_off_unless_asked_for(address):
    raw = await Raw.connect(address)
    raw.send(request(sec_websocket_extensions=DEFLATE))
    assert "sec-websocket-extensions" not in (await raw.http()).headers
    await raw.close()


@pytest.mark.slow
async def test_a_deflate_bomb_closes_with_1009_and_memory_stays_flat():
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(bytes(500 * MIB)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < MIB
    async with WebSocketDriver(compression="deflate").listening(serving(echo)) as address:
        before = rss()
        assert await closes_with(address, frame(BINARY, bomb[:-4], rsv=4), sec_websocket_extensions=DEFLATE) == 1009
    assert 16 * MIB > rss() - before


# The close


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_is_answered_by_the_same(address, code):
    assert code == await closes_with(address, frame(CLOSE, code.to_bytes(2, "big") + b"bye"))


async def test_a_close_without_a_code_is_answered_by_one_without(address):
    raw = await Raw.open(address)
    raw.send(frame(CLOSE))
    assert (CLOSE, b"") == await raw.frame()
    await raw.gone()
    await raw.close()


async def test_a_caller_that_closes_and_stays_is_let_go_at_the_close_timeout():
    gone = asyncio.Event()

    async def handler(exchange):
        try:
            await echo(exchange)
        finally:
            gone.set()

    async with WebSocketDriver(close_timeout=0.1).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        raw.send(frame(CLOSE, b"\x03\xe8"))
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        await raw.gone()
        await raw.close()


async def test_a_caller_that_never_answers_our_close_is_let_go_at_the_close_timeout():
    async def handler(exchange):
        await exchange.accept()

    async with WebSocketDriver(close_timeout=0.1).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        assert await raw.code() == 1000
        await raw.close()


# Signs of life

LIFE = {"ping_interval": 0.1, "ping_timeout": 0.1}


@pytest.fixture
def watched():
    """(handler, event set once it is cancelled)."""
    cancelled = asyncio.Event()

    async def handler(exchange):
        await exchange.accept()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    return handler, cancelled


async def test_a_peer_that_does_not_answer_pings_is_closed(watched):
    handler, cancelled = watched
    async with WebSocketDriver(**LIFE).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        assert await raw.code() == 3008
        assert PING in [opcode for opcode, _ in raw.seen]
        async with asyncio.timeout(PATIENCE_S):
            await cancelled.wait()
        await raw.close()


async def test_a_peer_that_answers_pings_stays(watched):
    handler, cancelled = watched
    async with WebSocketDriver(**LIFE).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        for _ in range(5):
            opcode, data = await raw.frame()
            assert opcode == PING
            raw.send(frame(PONG, data))
        assert not cancelled.is_set()
        await raw.close()


async def test_a_peer_that_stops_reading_is_closed_too():
    cancelled = asyncio.Event()

    async def handler(exchange):
        try:
            message = await exchange.receive()
            while True:
                await exchange.send(message)
        finally:
            cancelled.set()

    async with WebSocketDriver(**LIFE).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        raw.reader._transport.pause_reading()
        raw.send(frame(BINARY, bytes(1 << 16)))
        async with asyncio.timeout(PATIENCE_S):
            await cancelled.wait()
        await raw.close()


async def test_a_peer_whose_messages_nobody_receives_is_not_taken_for_dead(watched):
    handler, cancelled = watched
    async with WebSocketDriver(**LIFE).listening(serving(handler)) as address:
        raw = await Raw.open(address)
        raw.send(frame(TEXT, b"{}") * 1000)
        # Its pongs would stand behind what we do not read.
        for _ in range(5):
            assert PING == (await raw.frame())[0]
        assert not cancelled.is_set()
        await raw.close()


# The handshake


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        pytest.param(request(sec_websocket_key=None), 400, id="no key"),
        pytest.param(request(sec_websocket_key="c2hvcnQ="), 400, id="a short key"),
        pytest.param(request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ"), 400, id="a key that is no base64"),
        pytest.param(request(sec_websocket_key="é" * 22 + "=="), 400, id="a key that is no ascii"),
        pytest.param(request(idempotency_key="é"), 400, id="an idempotency key that is no ascii"),
        pytest.param(request(host=None), 400, id="no Host"),
        pytest.param(request(host="a@b"), 400, id="Host a@b"),
        pytest.param(request(host="a b"), 400, id="Host a b"),
        pytest.param(request()[:-2] + b"Host: shop.example\r\n\r\n", 400, id="two Hosts"),
        pytest.param(request()[:-2] + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400, id="two keys"),
        pytest.param(request(version="HTTP/1.0"), 400, id="HTTP/1.0"),
        pytest.param(request(version="HTTP/2.0"), 400, id="HTTP/2.0"),
        pytest.param(request(target="http://other.example/"), 400, id="a target that is no path"),
        pytest.param(request(target="/a?b=%zz"), 400, id="a malformed escape in the query"),
        pytest.param(request(target="/a?b=%ff"), 400, id="a query that is not UTF-8"),
        pytest.param(b"tea\r\n\r\n", 400, id="no HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n", 400, id="TLS"),
        pytest.param(request(content_length="4") + b"tea!", 400, id="a body"),
        pytest.param(request(transfer_encoding="chunked"), 400, id="chunks"),
        pytest.param(request(origin="https://evil.example"), 403, id="another origin"),
        pytest.param(request(origin="null"), 403, id="a null origin"),
        pytest.param(request(origin="https://shop.example:8443"), 403, id="another port"),
        pytest.param(request("POST"), 405, id="POST"),
        pytest.param(request("POST", content_length="4") + b"tea!", 405, id="POST with a body"),
        pytest.param(request("OPTIONS"), 405, id="OPTIONS"),
        pytest.param(request("BREW"), 501, id="an unknown method"),
        pytest.param(request(target="/" + "a" * 8192), 414, id="a long target"),
        pytest.param(request(cookie="a" * 8192), 431, id="a long header"),
        pytest.param(request(**{f"x-{n}": "1" for n in range(100)}), 431, id="many headers"),
        pytest.param(request(**{f"x-{n}": "1" for n in range(200)}), 431, id="too many headers for the library"),
        pytest.param(request(**{f"x-{n}": "a" * 8000 for n in range(20)}), 431, id="many long headers"),
        pytest.param(request(sec_websocket_version="8"), 426, id="version 8"),
        pytest.param(request(sec_websocket_version=None), 426, id="no version"),
        pytest.param(request(upgrade=None), 426, id="no Upgrade"),
        pytest.param(request(connection="keep-alive"), 426, id="no Connection: Upgrade"),
    ],
)
async def test_a_bad_handshake_is_refused_and_neither_echoed_nor_signed(bad, status, address):
    answer = await answer_to(address, bad)
    assert status == answer.status
    assert status == answer.problem["status"]
    assert "application/problem+json" == answer.headers["content-type"]
    assert answer.problem["id"] == answer.headers["x-request-id"]
    assert "server" not in answer.headers
    said = str(answer).lower()
    for word in ("evil", "a@b", "brew", "aaaa", "c2hv", "python", "websockets", "traceback"):
        assert word not in said
    if status == 405:
        assert "GET" == answer.headers["allow"]
    if status == 426:
        assert "13" == answer.headers["sec-websocket-version"]
        assert "websocket" == answer.headers["upgrade"]


@pytest.mark.parametrize(
    "origin", ["http://shop.example", "https://shop.example", "https://SHOP.example:443", None, "https://partner.example"]
)
async def test_an_origin_of_the_same_host_or_of_the_list_connects(origin):
    async with WebSocketDriver(origins=["https://partner.example"]).listening(serving(echo)) as address:
        raw = await Raw.open(address, origin=origin)
        await raw.close()


async def test_a_head_that_does_not_come_is_408():
    async with WebSocketDriver(open_timeout=0.1).listening(serving(echo)) as address:
        answer = await answer_to(address, b"GET / HTTP/1.1\r\n")
    assert 408 == answer.status
    assert "slow_request" == answer.problem["reason"]


async def test_one_connection_too_many_is_503_even_while_the_others_have_not_spoken():
    async with WebSocketDriver(max_connections=2).listening(serving(echo)) as address:
        silent = [await Raw.connect(address) for _ in range(2)]
        answer = await answer_to(address, request())
        assert 503 == answer.status
        assert "1" == answer.headers["retry-after"]
        await silent.pop().close()
        async with asyncio.timeout(PATIENCE_S):
            while (await answer_to_open(address)).status != 101:
                pass
        await silent.pop().close()


async def answer_to_open(address):
    raw = await Raw.connect(address)
    raw.send(request())
    answer = await raw.http()
    await raw.close()
    return answer


async def test_frames_sent_ahead_of_the_101_are_kept(address):
    raw = await Raw.connect(address)
    raw.send(request() + frame(TEXT, b"1") + frame(TEXT, b"2"))
    assert (await raw.http()).status == 101
    assert [(TEXT, b"1"), (TEXT, b"2")] == [await raw.frame(), await raw.frame()]
    await raw.close()


async def test_a_broken_frame_ahead_of_the_101_ends_the_connection_without_it():
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(exchange):
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with WebSocketDriver().listening(serving(slow)) as address:
        raw = await Raw.connect(address)
        raw.send(request())
        await begun.wait()
        raw.send(frame(CONT))
        assert (await raw.http()).status == 400
        await cancelled.wait()
        await raw.close()


def test_the_limits_are_on_unless_told_otherwise():
    config = Config(kind="websocket", bind="127.0.0.1:0")
    assert (MIB, 10_000, 10, 20, 20) == (
        config.limit(),
        config.max_connections,
        config.open_timeout,
        config.ping_interval,
        config.ping_timeout,
    )
    assert "none" == config.compression
