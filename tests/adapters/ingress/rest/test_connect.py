"""The Connect protocol over loopback (connectrpc.com/docs/protocol)."""

from __future__ import annotations

import asyncio
import base64
import gzip
from urllib.parse import quote

import aiohttp
import pytest
from google.rpc import error_details_pb2, status_pb2

from adapters.ingress.rest import rpc
from gateway.errors import AnswerHeaders, BackendError, CallerError, Reason, RpcStatus
from gateway.exchange import EndOfMessages
from gateway.message import JSON, PROTOBUF, Headers, Many, Message
from tests.adapters.ingress.rest_driver import listening
from tests.adapters.ingress.rpc_client import METHOD, Client, calling, framed, view
from tests.contract.ingress import everything

PATH = f"/{METHOD}"


async def echo(exchange):
    """Everything that comes, back."""
    try:
        while True:
            await exchange.send(await exchange.receive())
    except EndOfMessages:
        return


async def collect(exchange):
    """One reply, of all that came."""
    bodies = []
    try:
        while True:
            bodies.append((await exchange.receive()).body)
    except EndOfMessages:
        await exchange.send(Message(b"+".join(bodies), exchange.call.accepts))


def seen():
    """A handler that keeps the call and the first message."""
    calls = []

    async def handler(exchange):
        calls.append((exchange.call, await exchange.receive()))
        await exchange.send(calls[-1][1])

    return calls, handler


@pytest.mark.parametrize(("kind", "codec"), [("application/json", JSON), ("application/proto", PROTOBUF)])
async def test_a_unary_call_is_one_message_each_way_in_the_callers_codec(kind, codec):
    calls, handler = seen()
    async with calling(handler) as client:
        reply = await client.unary(b"tea", content_type=kind)
    call, message = calls[0]
    assert (200, b"tea", kind) == (reply.status, reply.raw, reply.headers["content-type"])
    assert ("connect", PATH, codec, codec) == (call.protocol, call.target, call.accepts, message.content_type)


async def test_without_the_versions_header_it_is_a_rest_call_and_has_no_route():
    async with calling(echo) as client:
        reply = await client.ask(b"{}", content_type="application/json")
    assert (404, "application/problem+json") == (reply.status, reply.headers["content-type"])


@pytest.mark.parametrize("kind", ["image/jpeg", "application/xml"])
async def test_a_method_called_in_no_protocols_media_type_is_415_and_told_which_there_are(kind):
    async with calling(echo) as client:
        reply = await client.ask(b"x", content_type=kind)
    assert 415 == reply.status
    assert "application/connect+proto" in reply.headers["accept"]


async def test_another_version_is_invalid():
    async with calling(echo) as client:
        reply = await client.unary(connect_protocol_version="2")
    assert (400, "invalid_argument") == (reply.status, reply.json["code"])


async def test_metadata_is_headers_and_trailing_metadata_has_its_prefix():
    async def handler(exchange):
        await exchange.receive()
        await exchange.accept(Headers((("x-shelf", "3"), ("x-shelf", "4"), ("x-key-bin", "dGVh"))))
        await exchange.send(Message(b"{}", JSON))
        exchange.conclude(Headers((("x-left", "1"), ("x-left", "2"))))

    async with calling(handler) as client:
        reply = await client.unary()
    assert ["3", "4"] == reply.lists["x-shelf"]
    assert "dGVh" == reply.headers["x-key-bin"]
    assert ["1", "2"] == reply.lists["trailer-x-left"]


async def test_what_belongs_to_the_protocol_is_not_the_calls_metadata():
    calls, handler = seen()
    async with calling(handler) as client:
        await client.unary(x_shop="tea", connect_timeout_ms="5000", grpc_status="9")
    names = {name for name, _ in calls[0][0].headers}
    assert "x-shop" in names
    assert not any(name.startswith(("connect-", "grpc-")) for name in names)


async def test_a_timeout_is_the_calls_deadline():
    calls, handler = seen()
    async with calling(handler) as client:
        await client.unary(connect_timeout_ms="5000")
        left = calls[0][0].expires - asyncio.get_running_loop().time()
        await client.unary()
    assert 0 < left <= 5
    assert calls[1][0].expires is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "5s", "12345678901"])
async def test_a_malformed_timeout_is_invalid(text):
    async with calling(echo) as client:
        reply = await client.unary(connect_timeout_ms=text)
    assert (400, "invalid_argument") == (reply.status, reply.json["code"])


async def test_an_error_is_json_with_details_by_their_bytes_and_for_humans():
    detail = error_details_pb2.ErrorInfo(reason="no_tea", domain="shop")
    status = status_pb2.Status(code=5, message="no tea")
    status.details.add().Pack(detail)

    async def handler(_exchange):
        told = ({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "no_tea", "domain": "shop"},)
        said = RpcStatus("no tea", status.SerializeToString(), Headers((("x-left", "0"),)), told)
        marks = AnswerHeaders(Headers((("x-shelf", "3"),)))
        raise BackendError(Reason.BACKEND_NOT_FOUND, "no tea", details=(said, marks))

    async with calling(handler) as client:
        reply = await client.unary()
    shown = reply.json["details"][0]
    assert (404, "application/json") == (reply.status, reply.headers["content-type"])
    assert {"code": "not_found", "message": "no tea"}.items() <= reply.json.items()
    assert {"type": "google.rpc.ErrorInfo", "debug": {"reason": "no_tea", "domain": "shop"}}.items() <= shown.items()
    assert "=" not in shown["value"]
    assert detail == error_details_pb2.ErrorInfo.FromString(base64.b64decode(shown["value"] + "=="))
    assert ("3", "0") == (reply.headers["x-shelf"], reply.headers["trailer-x-left"])


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        (Reason.BACKEND_CANCELLED, "canceled", 499),
        (Reason.BACKEND_UNKNOWN, "unknown", 500),
        (Reason.BACKEND_FAILED_PRECONDITION, "failed_precondition", 400),
        (Reason.BACKEND_UNIMPLEMENTED, "unimplemented", 501),
        (Reason.RATE_LIMITED, "resource_exhausted", 429),
        (Reason.OVERLOADED, "unavailable", 503),
    ],
)
async def test_a_reason_has_connects_code_and_its_status(reason, code, status):
    async def handler(_exchange):
        raise CallerError(reason, "no")

    async with calling(handler) as client:
        reply = await client.unary()
    assert (status, code) == (reply.status, reply.json["code"])


async def test_a_detail_that_nobody_can_read_does_not_ruin_the_error():
    async def handler(_exchange):
        raise BackendError(Reason.BACKEND_ABORTED, "no", details=(RpcStatus("no", b"\xff\xff"),))

    async with calling(handler) as client:
        reply = await client.unary()
    assert (409, {"code": "aborted", "message": "no"}) == (reply.status, reply.json)


async def test_bodies_are_compressed_where_both_sides_want_it():
    calls, handler = seen()
    async with calling(handler, compress_from=10) as client:
        reply = await client.unary(gzip.compress(b"tea " * 100), content_encoding="gzip", accept_encoding="br, gzip")
        small = await client.unary(b"tea", accept_encoding="gzip")
        unwanted = await client.unary(b"tea " * 100, accept_encoding="gzip;q=0")
    assert b"tea " * 100 == calls[0][1].body
    assert ("gzip", b"tea " * 100) == (reply.headers["content-encoding"], gzip.decompress(reply.raw))
    assert b"tea" == small.raw
    assert b"tea " * 100 == unwanted.raw


async def test_an_unknown_encoding_is_unimplemented():
    async with calling(echo) as client:
        unary = await client.unary(b"x", content_encoding="br")
    async with calling(echo, Many.REPLIES) as client:
        stream = await client.stream(framed(b"{}"), connect_content_encoding="br")
    assert "unimplemented" == unary.json["code"]
    assert (200, "unimplemented") == (stream.status, stream.end["error"]["code"])


async def test_get_calls_a_method_that_changes_nothing():
    calls, handler = seen()
    message = quote('{"sku":"grüner tee"}')
    packed = base64.urlsafe_b64encode(gzip.compress(b"\x0a\x03tea")).decode().rstrip("=")
    async with calling(handler, safe=True) as client:
        text = await client.ask(method="GET", path=f"{PATH}?connect=v1&encoding=json&message={message}")
        binary = await client.ask(
            method="GET", path=f"{PATH}?connect=v1&encoding=proto&base64=1&compression=gzip&message={packed}"
        )
    assert (200, '{"sku":"grüner tee"}'.encode()) == (text.status, text.raw)
    assert ("application/proto", b"\x0a\x03tea") == (binary.headers["content-type"], binary.raw)
    assert [JSON, PROTOBUF] == [message.content_type for _, message in calls]


async def test_get_of_a_method_that_may_change_something_is_405():
    async with calling(echo) as client:
        reply = await client.ask(method="GET", path=f"{PATH}?connect=v1&encoding=json&message=%7B%7D")
    assert (405, "POST") == (reply.status, reply.headers["allow"])


@pytest.mark.parametrize("query", ["", "&base64=1&message=***", "&compression=gzip&message=x", "&compression=br&message=x"])
async def test_a_get_without_a_message_that_can_be_read_is_invalid(query):
    async with calling(echo, safe=True) as client:
        reply = await client.ask(method="GET", path=f"{PATH}?connect=v1&encoding=json{query}")
    refused = (415, "unimplemented") if "br" in query else (400, "invalid_argument")
    assert refused == (reply.status, reply.json["code"])


async def test_another_http_method_is_405():
    async with calling(echo, safe=True) as client:
        reply = await client.unary(method="DELETE")
    assert (405, "GET, POST") == (reply.status, reply.headers["allow"])


async def test_a_stream_of_replies_ends_with_its_metadata():
    async def handler(exchange):
        await exchange.receive()
        await exchange.accept(Headers((("x-shelf", "3"),)))
        for body in (b"1", b"2", b"3"):
            await exchange.send(Message(body, JSON))
        exchange.conclude(Headers((("x-left", "1"), ("x-left", "2"))))

    async with calling(handler, Many.REPLIES) as client:
        reply = await client.stream(framed(b"{}"))
    assert (200, "application/connect+json", "3") == (reply.status, reply.headers["content-type"], reply.headers["x-shelf"])
    assert [b"1", b"2", b"3"] == reply.messages
    assert {"metadata": {"x-left": ["1", "2"]}} == reply.end


async def test_an_error_in_a_stream_is_in_its_last_frame_whenever_it_comes():
    async def handler(exchange):
        if (await exchange.receive()).body == b"late":
            await exchange.send(Message(b"1", JSON))
        raise CallerError(Reason.NOT_FOUND, "no tea")

    async with calling(handler, Many.REPLIES) as client:
        early, late = await client.stream(framed(b"early")), await client.stream(framed(b"late"))
    assert (200, []) == (early.status, early.messages)
    assert "not_found" == early.end["error"]["code"]
    assert [b"1"] == late.messages
    assert "not_found" == late.end["error"]["code"]


async def test_messages_of_a_stream_are_compressed_one_by_one():
    async with calling(echo, Many.BOTH, compress_from=100) as client:
        body = framed(b"small") + framed(gzip.compress(b"x" * 500), flags=1)
        reply = await client.stream(body, connect_content_encoding="gzip", connect_accept_encoding="gzip")
    assert "gzip" == reply.headers["connect-content-encoding"]
    assert [0, 1, 2] == [flags for flags, _ in reply.frames]
    assert [b"small", b"x" * 500] == reply.messages


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "unimplemented"),
        (framed(b"{}", b"{}"), "unimplemented"),
        (framed(b"{}", flags=1), "internal"),
        (framed(b"{}", flags=4), "invalid_argument"),
        (framed(b"{}")[:-1], "invalid_argument"),
        (framed(b"x" * 2000), "resource_exhausted"),
    ],
)
async def test_a_method_takes_exactly_one_message_that_can_be_read(body, code):
    async with calling(echo, Many.REPLIES, max_body=1000) as client:
        reply = await client.stream(body)
    assert (200, code) == (reply.status, reply.end["error"]["code"])
    assert "details" not in reply.end["error"] or code == "invalid_argument"


async def test_a_message_that_unpacks_to_more_than_the_limit_is_refused():
    async with calling(collect, Many.REQUESTS, max_body=1000) as client:
        reply = await client.stream(framed(gzip.compress(b"x" * 10_000_000), flags=1), connect_content_encoding="gzip")
    assert "resource_exhausted" == reply.end["error"]["code"]


async def test_requests_are_read_as_they_come():
    arrived, go = asyncio.Queue(), asyncio.Event()

    async def handler(exchange):
        arrived.put_nowait((await exchange.receive()).body)
        await collect(exchange)

    async def body():
        yield framed(b"1")
        await go.wait()
        yield framed(b"2", b"3")[:7]
        yield framed(b"2", b"3")[7:]

    async with calling(handler, Many.REQUESTS) as client, asyncio.timeout(20):
        asking = asyncio.get_running_loop().create_task(client.stream(body()))
        assert b"1" == await arrived.get()
        go.set()
        reply = await asking
    assert [b"2+3"] == reply.messages


async def test_replies_that_come_before_the_end_of_the_requests_are_held():
    replied = asyncio.Event()

    async def handler(exchange):
        await exchange.accept(Headers((("x-shelf", "3"),)))
        await exchange.send(await exchange.receive())
        replied.set()
        await echo(exchange)

    async def body():
        yield framed(b"1")
        await replied.wait()
        yield framed(b"2")

    async with calling(handler, Many.BOTH) as client, asyncio.timeout(20):
        reply = await client.stream(body())
    assert [b"1", b"2"] == reply.messages
    assert "3" == reply.headers["x-shelf"]
    assert {} == reply.end


async def test_full_duplex_is_refused():
    async def body():
        yield framed(b"1")
        await asyncio.Event().wait()

    async with calling(echo, Many.BOTH, body_seconds=0.2) as client, asyncio.timeout(20):
        reply = await client.stream(body())
    assert "unimplemented" == reply.end["error"]["code"]
    assert [b"1"] == reply.messages


async def test_more_replies_than_are_held_before_the_end_of_the_requests_are_refused():
    async def handler(exchange):
        await exchange.receive()
        while True:
            await exchange.send(Message(b"x" * 100_000, JSON))

    async def body():
        yield framed(b"1")
        await asyncio.Event().wait()

    async with calling(handler, Many.BOTH) as client, asyncio.timeout(20):
        reply = await client.stream(body())
    assert "unimplemented" == reply.end["error"]["code"]


async def test_what_is_held_for_all_callers_together_is_bounded_and_let_go_with_each(monkeypatch):
    monkeypatch.setattr(rpc, "HOLD_ALL_BYTES", 250_000)

    async def handler(exchange):
        await exchange.receive()
        for _ in range(2):
            await exchange.send(Message(b"x" * 100_000, JSON))
        await everything(exchange)

    ended = asyncio.Event()

    async def body():
        yield framed(b"1")
        await ended.wait()

    async with (
        calling(handler, Many.BOTH) as client,
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
    ):
        asked = [group.create_task(client.stream(body())) for _ in range(2)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        ended.set()
        replies = [await one for one in asked]
        assert [None, "unavailable"] == sorted((one.end.get("error", {}).get("code") for one in replies), key=str)
        assert {} == (await client.stream(body())).end
    assert 0 == rpc.EnvelopedExchange.held_for_all


async def test_a_request_that_stalls_is_told_so():
    async def body():
        yield framed(b"tea")[:-1]
        await asyncio.Event().wait()

    async with calling(collect, Many.REQUESTS, body_seconds=0.2) as client, asyncio.timeout(20):
        reply = await client.stream(body())
    assert "deadline_exceeded" == reply.end["error"]["code"]


async def test_a_caller_who_leaves_cancels_the_handler():
    begun, gone = asyncio.Event(), asyncio.Event()

    async def handler(exchange):
        await exchange.accept()
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with calling(handler, Many.REPLIES) as client, asyncio.timeout(20):
        asking = asyncio.get_running_loop().create_task(client.stream(framed(b"{}")))
        await begun.wait()
        asking.cancel()
        await gone.wait()


async def test_a_slow_reader_slows_the_handler():
    sent = 0

    async def handler(exchange):
        nonlocal sent
        await exchange.receive()
        for _ in range(1000):
            await exchange.send(Message(b"x" * 100_000, JSON))
            sent += 1

    async with calling(handler, Many.REPLIES) as client:
        headers = {"content-type": "application/connect+json"}
        async with client.session.post(f"{client.url}{PATH}", data=framed(b"{}"), headers=headers) as response:
            await response.content.readexactly(5)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 500
            response.close()


async def test_unary_and_streams_have_media_types_of_their_own():
    async with calling(echo, Many.REPLIES) as client:
        unary = await client.unary()
    async with calling(echo) as client:
        stream = await client.stream(framed(b"{}"))
    assert (415, 415) == (unary.status, stream.status)
    assert "application/connect+json" in unary.headers["accept"]
    assert "application/json" in stream.headers["accept"]


async def test_a_method_without_a_route_is_unimplemented():
    async with calling(echo) as client:
        unary = await client.unary(path="/shop.v1.Stock/No")
        stream = await client.stream(framed(b"{}"), path="/shop.v1.Stock/No")
    assert (404, "unimplemented", "no_method") == (unary.status, unary.json["code"], unary.headers["trailer-x-reason"])
    assert (200, "unimplemented") == (stream.status, stream.end["error"]["code"])


async def test_a_drain_ends_a_stream_and_says_so():
    accepted = asyncio.Event()

    async def handler(exchange):
        await exchange.receive()
        await exchange.send(Message(b"1", JSON, cursor="0:8"))
        accepted.set()
        await asyncio.Event().wait()

    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(20), listening(view(handler, Many.REPLIES)) as address:
            client = Client(session, f"http://{address}")
            asking = asyncio.get_running_loop().create_task(client.stream(framed(b"{}")))
            await accepted.wait()
        reply = await asking
    assert [b"1"] == reply.messages
    assert "unavailable" == reply.end["error"]["code"]
    assert "0:8" in [detail["debug"].get("metadata", {}).get("cursor") for detail in reply.end["error"]["details"]]


async def test_a_caller_that_was_too_slow_is_told_so_and_its_connection_ends():
    """It may never read what was sent before."""

    async def handler(exchange):
        await exchange.receive()
        await exchange.send(Message(b"1", JSON, cursor="0:8"))
        raise CallerError(Reason.SLOW_CALLER, "too far behind")

    body = framed(b"{}")
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/connect+json\r\ncontent-length: {len(body)}\r\n\r\n"
    async with asyncio.timeout(20), listening(view(handler, Many.REPLIES)) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(head.encode() + body)
        assert b"too far behind" in await reader.read()
        writer.close()


async def test_a_drain_ends_what_is_still_sent_and_says_so():
    begun = asyncio.Event()

    async def handler(exchange):
        await exchange.receive()
        begun.set()
        await exchange.receive()

    async def body():
        yield framed(b"1")
        await asyncio.Event().wait()

    made = view(handler, Many.REQUESTS)
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(20), listening(made) as address:
            client = Client(session, f"http://{address}")
            asking = asyncio.get_running_loop().create_task(client.stream(body()))
            await begun.wait()
            made.drain_until = asyncio.get_running_loop().time() + 2
        reply = await asking
    assert "unavailable" == reply.end["error"]["code"]
