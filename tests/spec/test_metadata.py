"""The spec's lines on metadata, deadlines and compression, over real wires against a real gRPC server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import zlib

import aiohttp
import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.exposition import metrics
from tests.spec.callers import CALLERS, REST, Enveloped, Grpc, WebSocket
from tests.spec.talk import VIAS, Line, Peer, lines, say, served, served_via

PATIENCE_S = 10
ONE_REST = REST[0]
BIN = base64.b64encode(bytes(range(5))).decode()
CARRIED = ("x-a", "k-bin", "x-first", "x-last", "l-bin")

every_caller = pytest.mark.parametrize("caller", CALLERS, ids=repr)
one_of_each = pytest.mark.parametrize("caller", [ONE_REST, Grpc(), WebSocket(), Enveloped()], ids=repr)


@pytest.fixture
async def peer():
    return Peer()


@pytest.fixture(params=VIAS)
async def via(request):
    return request.param


def carrying(config):
    """An HTTP backend forwards what its route names."""
    for route in config["routes"]:
        if str(route["to"]["call"]).startswith("POST "):
            route["to"] |= {"forward": list(CARRIED), "reply_headers": list(CARRIED)}


@pytest.fixture
async def anyhow(via, peer):
    async with served_via(via, peer, carrying) as gateway:
        yield gateway


@pytest.fixture
async def gateway(peer):
    async with served(peer) as gateway:
        yield gateway


def seen(peer: Peer, *names: str) -> list[tuple[str, str | bytes]]:
    """What the server was sent under these names, with its last call."""
    return [pair for pair in peer.metadata[-1] if pair[0] in names]


async def raw(gateway, head: bytes, body: bytes = b"{}") -> bytes:
    """The answer to a request written by hand."""
    address = gateway.addresses["rest"]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
        + head
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )
    answer = await reader.read()
    writer.close()
    return answer


# To the backend


@every_caller
async def test_a_callers_metadata_reaches_the_backend_in_order(anyhow, peer, caller):
    binary = base64.b64decode(BIN) if caller.name == "grpc" else BIN
    async with (
        asyncio.timeout(PATIENCE_S),
        caller.calling(anyhow, "Both", [("x-a", "1"), ("k-bin", binary), ("x-a", "2"), ("x-a", "1")]) as talk,
    ):
        await talk.send("a")
        await talk.receive()
        await talk.finish()
    assert [("x-a", "1"), ("x-a", "2"), ("x-a", "1")] == seen(peer, "x-a")
    assert [("k-bin", bytes(range(5)))] == seen(peer, "k-bin")


@pytest.mark.parametrize(
    ("head", "names", "found"),
    [
        (b"X-Upper: 1\r\n", ("x-upper",), [("x-upper", "1")]),
        (b"K-Bin: AAE=\r\n", ("k-bin",), [("k-bin", b"\0\1")]),
        (b"K-Bin: AAE\r\n", ("k-bin",), [("k-bin", b"\0\1")]),
        (b"K-Bin: AAE, Ag==\r\nk-bin: Aw\r\n", ("k-bin",), [("k-bin", b"\0\1"), ("k-bin", b"\2"), ("k-bin", b"\3")]),
        (b"K-Bin: !\r\n", ("k-bin",), []),
        (b"Keep-Alive: 5\r\nProxy-Authorization: x\r\nTE: trailers\r\nUpgrade: h2c\r\n", ("keep-alive", "upgrade"), []),
        (b"Proxy-Authorization: x\r\n", ("proxy-authorization",), []),
        (b"Connection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n", ("x-hop", "x-kept"), [("x-kept", "2")]),
        (b"grpc-status: 5\r\ngrpc-foo: 1\r\nGrpc-Message: no\r\n", ("grpc-status", "grpc-foo", "grpc-message"), []),
        (b"X-Latin: caf\xe9\r\nX-Kept: 2\r\n", ("x-latin", "x-kept"), [("x-kept", "2")]),
        (b"Cookie: a=b\r\nAccept-Language: de\r\nIf-Match: x\r\n", ("cookie", "accept-language", "if-match"), []),
    ],
)
async def test_header_names_are_lower_case_and_what_belongs_to_the_hop_or_to_grpc_stays(gateway, peer, head, names, found):
    assert (await raw(gateway, head)).startswith(b"HTTP/1.1 200 ")
    assert found == seen(peer, *names)


async def test_what_is_not_ascii_is_dropped_and_counted(gateway, peer):
    def dropped(protocol: str) -> float:
        found = re.search(rf'polygate_header_values_dropped_total{{protocol="{protocol}"}} (\S+)'.encode(), metrics())
        return float(found[1]) if found else 0.0

    before = dropped("rest"), dropped("websocket")
    await raw(gateway, b"X-Latin: caf\xe9\r\nX-Utf8: \xc3\xa9\r\n")
    address = gateway.addresses["websocket"]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        b"GET /both HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Latin: caf\xe9\r\n\r\n"
    )
    await reader.readline()
    writer.close()
    assert (before[0] + 2, before[1] + 1) == (dropped("rest"), dropped("websocket"))
    assert [] == seen(peer, "x-latin", "x-utf8")


async def test_te_trailers_is_always_sent_upstream_whatever_the_caller_says():
    # grpcio writes a header block without Huffman codes: a name and a value, each behind its length.
    wanted, found = b"\x02te\x08trailers", asyncio.Event()

    async def listen(reader, writer):
        writer.write(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # SETTINGS
        seen = b""
        while wanted not in seen and (chunk := await reader.read(4096)):
            seen += chunk
        if wanted in seen:
            found.set()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def elsewhere(config):
        config["backends"]["peer"]["address"] = f"127.0.0.1:{port}"

    async with server, served(Peer(), elsewhere) as gateway, asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(raw(gateway, b"TE: gzip;q=0.5\r\n"))
        await found.wait()


# And back


async def marked(context):
    async for _ in lines(context):
        pass
    await context.send_initial_metadata((("x-first", "1"), ("x-first", "2"), ("k-bin", b"\0\1")))
    await say(context, "a")
    context.set_trailing_metadata((("x-last", "3"), ("l-bin", b"\2")))


@pytest.mark.parametrize("caller", [one for one in CALLERS if one.half_closes], ids=repr)
@pytest.mark.parametrize("method", ["Requests", "Both"])
async def test_a_backends_metadata_comes_back_under_its_own_names(anyhow, peer, caller, method, via):
    peer.methods[method] = marked
    answer = await caller.ask(anyhow, method, ("a", 1), headers=[("te", "trailers")] if caller in REST else [])
    assert [("a", 0)] == answer.said
    headers, trailers = answer.headers, answer.trailers
    assert ("1", "2") == headers.all("x-first")
    binary = headers.get("k-bin")
    assert b"\0\1" == (binary if isinstance(binary, bytes) else base64.b64decode(binary))
    if caller in REST and method == "Requests":
        assert "3" == headers.get("x-last"), "one answer has one head"
    elif caller not in REST and via != "http":
        assert "3" == trailers.get("x-last")


async def test_the_trailing_metadata_of_a_stream_is_in_the_trailers_of_a_caller_who_takes_them(gateway, peer):
    peer.methods["Both"] = marked
    address = gateway.addresses["rest"]
    for takes in (b"TE: trailers\r\n", b""):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head = b"POST /both HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n"
        writer.write(head + takes + b"Content-Type: application/json\r\n\r\n[]")
        answer = await reader.read()
        writer.close()
        assert answer.endswith(b"0\r\nx-last: 3\r\nl-bin: Ag==\r\n\r\n" if takes else b"\r\n0\r\n\r\n")


# Deadlines


@one_of_each
@pytest.mark.parametrize("method", ["Both", "Replies"])
async def test_a_callers_timeout_becomes_the_backends_less_what_was_spent(anyhow, peer, caller, method, via):
    left = asyncio.get_running_loop().create_future()

    async def tell(context):
        left.set_result(context.time_remaining())
        await say(context, "a")

    peer.methods[method] = tell
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, method, [("grpc-timeout", "5S")]) as talk:
        await talk.send("a")
        await talk.finish()
        assert ("a", 0) == await talk.receive()
    remaining = left.result()
    if via == "http":
        # HTTP has no header for it: the gateway itself keeps the time.
        assert remaining is None
    else:
        assert 0 < remaining < 5


@pytest.mark.slow
@one_of_each
async def test_a_timeout_that_passes_is_told_so_before_the_first_reply_and_after_it(anyhow, peer, caller):
    for said in (0, 1):

        async def wait(context, said=said):
            await context.read()
            for number in range(said):
                await say(context, "a", number)
            await asyncio.get_running_loop().create_future()

        peer.methods["Both"] = wait
        async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Both", [("grpc-timeout", "1S")]) as talk:
            await talk.send("a")
            answer = await talk.rest()
        assert ([("a", 0)] * said, "DEADLINE_EXCEEDED") == (answer.said, answer.end.code)
        if said == 0 and caller in REST:
            assert 504 == answer.end.status
        async with asyncio.timeout(PATIENCE_S):
            await peer.cancelled.wait()
        peer.cancelled.clear()


@pytest.mark.parametrize("text", ["", "5", "S", "5s", "123456789S", "-5S", "5.0S", "5 S"])
async def test_a_malformed_timeout_is_400_or_internal(gateway, text):
    answer = await raw(gateway, f"grpc-timeout: {text}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "INTERNAL" == json.loads(answer.partition(b"\r\n\r\n")[2])["code"]
    if True:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://{gateway.addresses['websocket']}/both", additional_headers={"grpc-timeout": text}, proxy=None)
        assert 400 == caught.value.response.status_code
        async with Enveloped().calling(gateway, "Both", [("grpc-timeout", text)]) as talk:
            assert "INTERNAL" == (await talk.rest()).end.code


@pytest.mark.parametrize("text", ["1H", "2M", "3S", "4000m", "5000000u", "99999999n", "00000003S"])
async def test_every_unit_of_a_timeout_is_read(gateway, peer, text):
    left = asyncio.get_running_loop().create_future()

    async def tell(context):
        left.set_result(context.time_remaining())
        await context.write(await context.read())

    peer.methods["One"] = tell
    answer = await raw(gateway, f"grpc-timeout: {text}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    seconds = int(text[:-1]) * {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[text[-1]]
    # The route's own deadline is 30 s.
    assert 0 < left.result() <= min(seconds, 30)


# Errors in words and in bytes


WORDS = "nö such skü: 100% ☃\n"


@every_caller
async def test_a_message_in_any_language_survives(anyhow, peer, caller, via):
    async def fail(context):
        await context.read()
        await context.abort(grpc.StatusCode.NOT_FOUND, WORDS)

    peer.methods["Both"] = fail
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Both") as talk:
        await talk.send("a")
        answer = await talk.rest()
    assert "NOT_FOUND" == answer.end.code
    if via != "http":
        assert WORDS == answer.end.detail


@pytest.mark.parametrize("via", ["grpc", "websocket"])
@pytest.mark.parametrize("caller", [Grpc(), Enveloped()], ids=repr)
async def test_the_details_of_a_status_survive_though_nobody_knows_their_type(peer, caller, via):
    status = status_pb2.Status(code=5, message="no")
    status.details.add(type_url="type.googleapis.com/nobody.Knows", value=b"\x01\xff")

    async def fail(context):
        await context.read()
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")

    peer.methods["Both"] = fail
    async with asyncio.timeout(PATIENCE_S), served_via(via, peer) as gateway, caller.calling(gateway, "Both") as talk:
        await talk.send("a")
        answer = await talk.rest()
    details = answer.trailers.get("grpc-status-details-bin")
    found = details if isinstance(details, bytes) else base64.b64decode(details)
    assert status == status_pb2.Status.FromString(found)


# Compression


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
@pytest.mark.parametrize("path", ["/one", "/requests"])
async def test_a_body_may_be_compressed_as_a_whole(gateway, encoding, pack, path):
    async with aiohttp.ClientSession() as session:
        headers = {"content-type": "application/json", "content-encoding": encoding}
        url = f"http://{gateway.addresses['rest']}{path}"
        async with session.post(url, data=pack(b'{"text":"a","number":1}'), headers=headers) as answer:
            assert {"text": "a", "number": "1"} == await answer.json()
        async with session.post(url, data=b"{}", headers={**headers, "content-encoding": "br"}) as answer:
            assert (415, "unsupported_encoding") == (answer.status, (await answer.json(content_type=None))["reason"])


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression])
async def test_each_message_of_grpc_may_be_compressed(gateway, kind):
    async with grpc.aio.insecure_channel(str(gateway.addresses["grpc"]), compression=kind) as channel:
        rpc = channel.stream_stream(
            "/spec.v1.Talk/Both", request_serializer=Line.SerializeToString, response_deserializer=Line.FromString
        )()
        for text in ("a" * 5000, "b"):
            await rpc.write(Line(text=text))
            assert text == (await rpc.read()).text
        await rpc.done_writing()
        assert grpc.StatusCode.OK is await rpc.code()
