"""gRPC-Web over loopback (grpc/doc/PROTOCOL-WEB.md)."""

from __future__ import annotations

import asyncio
import base64
import gzip

import pytest
from google.rpc import status_pb2

from gateway.errors import BackendError, CallerError, Reason, RpcStatus
from gateway.exchange import EndOfMessages
from gateway.message import JSON, PROTOBUF, Headers, Many, Message
from tests.adapters.ingress.rpc_client import calling, framed


async def echo(exchange):
    """Everything that comes, back."""
    try:
        while True:
            await exchange.send(await exchange.receive())
    except EndOfMessages:
        return


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("application/grpc-web", PROTOBUF),
        ("application/grpc-web+proto", PROTOBUF),
        ("application/grpc-web+json", JSON),
        ("application/grpc-web-text", PROTOBUF),
        ("application/grpc-web-text+proto", PROTOBUF),
        ("application/grpc-web-text+json", JSON),
    ],
)
@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES, Many.BOTH])
async def test_a_call_is_framed_messages_and_a_frame_of_trailers(kind, codec, many):
    calls = []

    async def handler(exchange):
        message = await exchange.receive()
        calls.append((exchange.call, message))
        await exchange.accept(Headers((("x-shelf", "3"),)))
        await exchange.send(message)
        exchange.conclude(Headers((("x-left", "1"), ("x-key-bin", "dGVhcw=="))))

    async with calling(handler, many) as client:
        reply = await client.web(framed(b"tea"), content_type=kind)
    call, message = calls[0]
    assert (200, kind, "3") == (reply.status, reply.headers["content-type"], reply.headers["x-shelf"])
    assert [b"tea"] == reply.messages
    assert {"grpc-status": "0", "x-left": "1", "x-key-bin": "dGVhcw"} == reply.trailers
    assert ("grpc_web", codec, codec) == (call.protocol, call.accepts, message.content_type)
    assert not any(name.startswith(("grpc-", "x-grpc")) for name, _ in call.headers)


async def test_an_error_has_code_message_details_and_its_backends_trailers():
    details = status_pb2.Status(code=5, message="kein Tee \u2615").SerializeToString()

    async def handler(_exchange):
        said = RpcStatus("kein Tee \u2615 100%\n", details, Headers((("x-left", "0"),)))
        raise BackendError(Reason.BACKEND_NOT_FOUND, "no tea", details=(said,))

    async with calling(handler) as client:
        reply = await client.web(framed(b"{}"))
    assert 200 == reply.status
    assert ("5", "kein Tee %E2%98%95 100%25%0A") == (reply.trailers["grpc-status"], reply.trailers["grpc-message"])
    assert base64.b64encode(details).decode().rstrip("=") == reply.trailers["grpc-status-details-bin"]
    assert "0" == reply.trailers["x-left"]


async def test_an_error_after_messages_is_in_the_trailers():
    async def handler(exchange):
        await exchange.send(await exchange.receive())
        raise CallerError(Reason.UNAUTHENTICATED, "who are you")

    async with calling(handler, Many.REPLIES) as client:
        reply = await client.web(framed(b"1"))
    assert [b"1"] == reply.messages
    assert "16" == reply.trailers["grpc-status"]


@pytest.mark.parametrize(("text", "seconds"), [("5S", 5.0), ("250m", 0.25), ("1H", 3600.0), ("99999999n", 0.099999999)])
async def test_a_grpc_timeout_is_the_calls_deadline(text, seconds):
    calls = []

    async def handler(exchange):
        calls.append((exchange.call, asyncio.get_running_loop().time()))
        await exchange.send(await exchange.receive())

    async with calling(handler) as client:
        await client.web(framed(b"{}"), grpc_timeout=text)
    call, now = calls[0]
    assert 0 < call.expires - now <= seconds


@pytest.mark.parametrize("text", ["", "5", "S", "123456789S", "-1S", "1.5S", "5s"])
async def test_a_malformed_grpc_timeout_is_internal(text):
    async with calling(echo) as client:
        reply = await client.web(framed(b"{}"), grpc_timeout=text)
    assert (200, "13", "protocol") == (reply.status, reply.trailers["grpc-status"], reply.trailers["x-reason"])


async def test_messages_are_compressed_one_by_one():
    async with calling(echo, Many.BOTH, compress_from=100) as client:
        body = framed(b"small") + framed(gzip.compress(b"x" * 500), flags=1)
        reply = await client.web(body, grpc_encoding="gzip", grpc_accept_encoding="identity,gzip")
    assert ("gzip", "identity,gzip") == (reply.headers["grpc-encoding"], reply.headers["grpc-accept-encoding"])
    assert [b"small", b"x" * 500] == reply.messages


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, "12"),
        (framed(b"{}", b"{}"), {}, "12"),
        (framed(b"{}"), {"grpc_encoding": "br"}, "12"),
        (framed(b"{}", flags=1), {"grpc_encoding": "identity"}, "13"),
        (framed(b"x", flags=1), {"grpc_encoding": "gzip"}, "3"),
        (framed(b"x" * 2000), {}, "8"),
        (b"\x00\x00\x00\x00\x05te", {}, "3"),
    ],
)
async def test_a_unary_call_has_exactly_one_message_that_can_be_read(body, headers, status):
    async with calling(echo, max_body=1000) as client:
        reply = await client.web(body, **headers)
    assert (200, status) == (reply.status, reply.trailers["grpc-status"])


async def test_text_that_is_no_base64_is_invalid():
    async with calling(echo) as client:
        reply = await client.ask(b"****", content_type="application/grpc-web-text")
    reply.raw = base64.b64decode(reply.raw)
    assert "3" == reply.trailers["grpc-status"]


async def test_another_codec_or_http_method_is_plain_http():
    async with calling(echo) as client:
        codec = await client.ask(framed(b"{}"), content_type="application/grpc-web+thrift")
        method = await client.ask(framed(b"{}"), content_type="application/grpc-web", method="PUT")
    assert (415, 405) == (codec.status, method.status)
    assert "application/grpc-web-text+proto" in codec.headers["accept"]
    assert "POST" == method.headers["allow"]


async def test_a_method_without_a_route_is_unimplemented():
    async with calling(echo) as client:
        reply = await client.web(framed(b"{}"), path="/shop.v1.Stock/No")
    assert (200, "12", "no_method") == (reply.status, reply.trailers["grpc-status"], reply.trailers["x-reason"])


async def test_a_client_stream_is_answered_once():
    async def handler(exchange):
        bodies = []
        try:
            while True:
                bodies.append((await exchange.receive()).body)
        except EndOfMessages:
            await exchange.send(Message(b"+".join(bodies), JSON))

    async with calling(handler, Many.REQUESTS) as client:
        reply = await client.web(framed(b"1", b"2", b"3"))
    assert [b"1+2+3"] == reply.messages
