"""The backend http, against real servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.backend.http import Config
from gateway.errors import CallerError, GatewayError, HttpAnswer, Outcome, Reason, RetryAfter
from gateway.exchange import Memory
from gateway.message import BYTES, JSON, NO_HEADERS, Headers, Message
from gateway.port import Backend, Target
from gateway.status import outcome_of
from tests.adapters.backend.http_server import asking, saying, serving, target, unused_url
from tests.contract.backend import CallContract, Rig

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


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


async def refused(backend: Backend, to: Target, memory: Memory) -> GatewayError:
    """The error of a call that must fail, with nothing said to the caller."""
    with pytest.raises(GatewayError) as caught:
        await backend.handler(to)(memory)
    assert (None, []) == (memory.headers, memory.replies)
    return caught.value


@pytest.fixture
async def seen() -> AsyncIterator[list[web.Request]]:
    return []


@pytest.fixture
async def backend(seen: list[web.Request]) -> AsyncIterator[Backend]:
    """One whose server notes every request, and answers with its body."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        return web.json_response({})

    async with serving(answer) as url, Config(kind="http", url=url, headers={"X-Key": "k"}).build() as backend:
        yield backend


class TestRequest:
    async def test_a_variable_is_one_segment_whatever_it_holds(self, backend: Backend, seen: list[web.Request]) -> None:
        await backend.handler(target("POST /items/{sku}/stock"))(asking(sku="a/b?c#d e%2F\u00e9"))
        assert "/items/a%2Fb%3Fc%23d%20e%252F%C3%A9/stock" == seen[0].raw_path

    async def test_a_variable_that_the_path_lacks_is_a_field_of_the_message(
        self, backend: Backend, seen: list[web.Request]
    ) -> None:
        await backend.handler(target("GET /items/{sku}/{quantity}"))(asking(b'{"sku": "tea", "quantity": 2}'))
        assert "/items/tea/2" == seen[0].raw_path

    async def test_a_rest_variable_keeps_its_slashes_and_the_ones_that_were_escaped(
        self, backend: Backend, seen: list[web.Request]
    ) -> None:
        await backend.handler(target("GET /files/{path=**}"))(asking(path="a b/c%2Fd"))
        assert "/files/a%20b/c%2Fd" == seen[0].raw_path

    @pytest.mark.parametrize("value", ["", ".", ".."])
    async def test_a_variable_cannot_change_which_resource_is_named(
        self, backend: Backend, seen: list[web.Request], value: str
    ) -> None:
        error = await refused(backend, target("DELETE /items/{sku}"), asking(sku=value))
        assert (Reason.MALFORMED, []) == (error.reason, seen)
        assert isinstance(error, CallerError)

    async def test_a_rest_variable_cannot_climb(self, backend: Backend, seen: list[web.Request]) -> None:
        error = await refused(backend, target("GET /files/{path=**}"), asking(path="a/../../etc"))
        assert (Reason.MALFORMED, []) == (error.reason, seen)

    async def test_a_field_that_is_missing_is_the_callers_fault(self, backend: Backend) -> None:
        error = await refused(backend, target("GET /items/{sku}"), asking(b"{}"))
        assert Reason.MALFORMED == error.reason

    async def test_a_query_leaves_out_what_is_absent_and_repeats_a_list(self, backend: Backend, seen: list[web.Request]) -> None:
        query = {"limit": "{limit}", "tag": "{tags}", "by": "x-{sku}", "after": "{after}"}
        await backend.handler(target("GET /items", query=query))(asking(b'{"tags": ["a&b", "c"], "after": 0}', sku="\u00e9"))
        assert "/items?tag=a%26b&tag=c&by=x-%C3%A9&after=0" == seen[0].raw_path

    async def test_the_base_path_comes_first(self, seen: list[web.Request]) -> None:
        async def answer(request: web.Request) -> web.Response:
            seen.append(request)
            return web.json_response({})

        async with serving(answer) as url, Config(kind="http", url=url + "/v2/").build() as backend:
            await backend.handler(target("GET /items", query={"a": "1"}))(asking())
            await backend.handler(target("GET /items"))(asking())
        assert ["/v2/items?a=1", "/v2/items"] == [request.raw_path for request in seen]

    async def test_only_listed_headers_of_the_caller_go_on(self, backend: Backend, seen: list[web.Request]) -> None:
        caller = {
            "accept-language": "de",
            "traceparent": "00-1",
            "authorization": "Bearer secret",
            "cookie": "a=b",
            "host": "evil",
            "user-agent": "curl",
            "x-request-id": "theirs",
        }
        memory = asking(headers=caller)
        await backend.handler(target("POST /items"))(memory)
        headers = seen[0].headers
        assert ("de", "00-1", "k", memory.call.id, "polygate") == (
            headers["accept-language"],
            headers["traceparent"],
            headers["x-key"],
            headers["x-request-id"],
            headers["user-agent"],
        )
        assert {"authorization", "cookie"}.isdisjoint(name.lower() for name in headers)
        assert "evil" != headers["host"]

    async def test_a_header_goes_on_where_the_route_lists_it(self, backend: Backend, seen: list[web.Request]) -> None:
        to = target("GET /items", forward=["Authorization", "user-agent"], headers={"X-Tenant": "t-{tenant}"})
        await backend.handler(to)(asking(headers={"authorization": "Bearer secret", "user-agent": "curl"}, tenant="ada"))
        headers = seen[0].headers
        assert ("Bearer secret", "curl", "t-ada") == (headers["authorization"], headers["user-agent"], headers["x-tenant"])

    async def test_a_header_cannot_be_broken_out_of(self, backend: Backend, seen: list[web.Request]) -> None:
        error = await refused(backend, target("GET /items", headers={"x-tenant": "{t}"}), asking(t="a\r\nx-admin: 1"))
        assert (Reason.MALFORMED, []) == (error.reason, seen)

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_method_without_a_body_sends_none(self, backend: Backend, seen: list[web.Request], method: str) -> None:
        await backend.handler(target(f"{method} /items"))(asking(b'{"a": 1}'))
        assert (b"", None) == (await seen[0].read(), seen[0].headers.get("content-type"))

    async def test_a_body_goes_with_the_targets_type(self, backend: Backend, seen: list[web.Request]) -> None:
        await backend.handler(target("PUT /items"))(asking(b'{"a": 1}'))
        assert (b'{"a": 1}', JSON) == (await seen[0].read(), seen[0].headers["content-type"])

    async def test_opaque_bytes_keep_the_callers_type(self, backend: Backend, seen: list[web.Request]) -> None:
        to = replace(target("POST /items", format="bytes"), content_type=BYTES)
        await backend.handler(to)(asking(b"\0\1", "image/png"))
        assert (b"\0\1", "image/png") == (await seen[0].read(), seen[0].headers["content-type"])


async def answered(answer: web.Response, to: Target) -> Memory:
    """What a caller gets of one answer."""

    async def give(_request: web.Request) -> web.Response:
        return answer

    async with serving(give) as url, Config(kind="http", url=url).build() as backend:
        memory = asking()
        await backend.handler(to)(memory)
        return memory


async def failed(answer: web.Response, to: Target) -> GatewayError:
    """How a caller is refused for one answer."""

    async def give(_request: web.Request) -> web.Response:
        return answer

    async with serving(give) as url, Config(kind="http", url=url).build() as backend:
        return await refused(backend, to, asking())


class TestAnswer:
    async def test_a_success_keeps_its_status_and_the_headers_worth_passing(self) -> None:
        headers = {"location": "/items/7", "set-cookie": "a=b", "x-internal": "1", "etag": '"1"'}
        memory = await answered(web.json_response({"id": 7}, status=201, headers=headers), target("POST /items"))
        assert {("location", "/items/7"), ("etag", '"1"'), (":status", "201")} == set(memory.headers or ())
        assert [Message(b'{"id": 7}', JSON)] == memory.replies

    async def test_no_content_is_a_success_without_a_reply(self) -> None:
        memory = await answered(web.Response(status=204), target("DELETE /items/7"))
        assert (Headers(((":status", "204"),)), []) == (memory.headers, memory.replies)

    async def test_an_empty_success_needs_no_type(self) -> None:
        memory = await answered(web.Response(status=202, headers={"location": "/jobs/1"}), target("POST /jobs"))
        assert (Headers((("location", "/jobs/1"), (":status", "202"))), []) == (memory.headers, memory.replies)

    async def test_a_head_has_no_reply(self) -> None:
        memory = await answered(web.json_response({"a": 1}), target("HEAD /items"))
        assert (NO_HEADERS, []) == (memory.headers, memory.replies)

    @pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/hal+json", "Application/JSON"])
    async def test_json_has_many_names(self, kind: str) -> None:
        memory = await answered(web.Response(body=b"{}", headers={"content-type": kind}), target("GET /"))
        assert [Message(b"{}", JSON)] == memory.replies

    @pytest.mark.parametrize("kind", ["text/html", "application/json; charset=latin-1", "application/octet-stream"])
    async def test_another_format_is_a_bad_answer(self, kind: str) -> None:
        error = await failed(web.Response(body=b"{}", headers={"content-type": kind}), target("POST /"))
        assert (Reason.BAD_ANSWER, Outcome.UNKNOWN) == (error.reason, outcome_of(error))

    async def test_opaque_bytes_come_with_their_type(self) -> None:
        to = replace(target("GET /", format="bytes"), content_type=BYTES)
        memory = await answered(web.Response(body=b"\0\1", content_type="image/png"), to)
        assert [Message(b"\0\1", "image/png")] == memory.replies

    async def test_an_error_comes_with_the_answer_as_it_was(self) -> None:
        answer = web.json_response({"why": "sold out"}, status=409, headers={"retry-after": "7", "set-cookie": "a=b"})
        error = await failed(answer, target("POST /orders"))
        passed = Headers((("retry-after", "7"), ("content-type", "application/json; charset=utf-8")))
        assert (Reason.BACKEND_ABORTED, (HttpAnswer(409, b'{"why": "sold out"}', passed), RetryAfter(7.0))) == (
            error.reason,
            error.details,
        )

    @pytest.mark.parametrize(("call", "outcome"), [("POST /", Outcome.UNKNOWN), ("GET /", Outcome.FAILED)])
    async def test_a_server_error_leaves_nothing_unknown_where_nothing_is_changed(self, call: str, outcome: Outcome) -> None:
        error = await failed(web.json_response({}, status=500), target(call))
        assert (Reason.BACKEND_INTERNAL, outcome) == (error.reason, outcome_of(error))

    async def test_a_redirect_is_an_answer_and_not_followed(self) -> None:
        error = await failed(web.Response(status=302, headers={"location": "http://elsewhere/"}), target("GET /"))
        assert (HttpAnswer(302, b"", Headers((("location", "http://elsewhere/"),))),) == error.details

    async def test_no_cookie_is_kept(self) -> None:
        sent = []

        async def answer(request: web.Request) -> web.Response:
            sent.append(request.headers.get("cookie"))
            return web.json_response({}, headers={"set-cookie": "session=1"})

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            for _ in range(2):
                await backend.handler(target("GET /"))(asking())
        assert [None, None] == sent

    async def test_a_packed_answer_is_unpacked_within_the_limit(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            body = b'"' + b"a" * (100 if request.path == "/small" else 50_000_000) + b'"'
            return web.Response(body=gzip.compress(body), content_type=JSON, headers={"content-encoding": "gzip"})

        async with serving(answer) as url, Config(kind="http", url=url, max_answer=1 << 20).build() as backend:
            memory = asking()
            await backend.handler(target("GET /small"))(memory)
            assert [Message(b'"' + b"a" * 100 + b'"', JSON)] == memory.replies
            assert Reason.BAD_ANSWER == (await refused(backend, target("GET /bomb"), asking())).reason

    @pytest.mark.parametrize("declared", [True, False])
    async def test_an_answer_over_the_limit_is_a_bad_one(self, *, declared: bool) -> None:
        head = OK + (b"content-length: 3000\r\n\r\n" if declared else b"transfer-encoding: chunked\r\n\r\n")
        body = b"1" * 3000 if declared else b"bb8\r\n" + b"1" * 3000 + b"\r\n0\r\n\r\n"
        async with saying(head + body) as raw, Config(kind="http", url=raw.url, max_answer=2000).build() as backend:
            assert Reason.BAD_ANSWER == (await refused(backend, target("GET /"), asking())).reason


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = b"content-length: 2\r\n\r\n{}"
NONSENSE = {
    "nothing": b"",
    "HTTP/0.9": b"{}",
    "bytes": bytes(range(256)),
    "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "version 9.9": b"HTTP/9.9 200 OK\r\n" + WHOLE,
    "status 99": b"HTTP/1.1 99 X\r\n" + WHOLE,
    "status 600": b"HTTP/1.1 600 X\r\n" + WHOLE,
    "status 2000": b"HTTP/1.1 2000 X\r\n" + WHOLE,
    "101 that nobody asked for": b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n{}",
    "body too short": OK + b"content-length: 10\r\n\r\n{}",
    "body too long": OK + WHOLE + b"{}",
    "two lengths": OK + b"content-length: 3\r\n" + WHOLE,
    "a list of lengths": OK + b"content-length: 2, 2\r\n\r\n{}",
    "length -2": OK + b"content-length: -2\r\n\r\n{}",
    "length +2": OK + b"content-length: +2\r\n\r\n{}",
    "length 2^64+1": OK + b"content-length: 18446744073709551617\r\n\r\n{}",
    "length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"transfer-encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "xchunked": OK + b"transfer-encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunk of size zz": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "huge chunk": CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "chunk without its end": CHUNKED + b"2\r\n{}XX0\r\n\r\n",
    "chunks without their end": CHUNKED + b"2\r\n{}\r\n",
    "NUL in a header": OK + b"x: a\0b\r\n" + WHOLE,
    "bare CR in a header": OK + b"x: a\rb\r\n" + WHOLE,
    "long header": OK + b"x: " + b"a" * 20_000 + b"\r\n" + WHOLE,
    "many headers": OK + b"x: a\r\n" * 200 + WHOLE,
    "endless headers": OK + b"x: aaaaaaaa\r\n" * 800_000,
    "long reason": b"HTTP/1.1 200 " + b"a" * 20_000 + b"\r\n" + WHOLE,
    "broken gzip": OK + b"content-encoding: gzip\r\n" + WHOLE,
    "unknown encoding": OK + b"content-encoding: rot13\r\n" + WHOLE,
}


class TestNonsense:
    @pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
    @pytest.mark.parametrize(("call", "outcome"), [("POST /", Outcome.UNKNOWN), ("GET /", Outcome.FAILED)])
    async def test_it_is_a_bad_answer_of_which_nothing_is_forwarded(self, answer: bytes, call: str, outcome: Outcome) -> None:
        async with saying(answer) as raw, Config(kind="http", url=raw.url).build() as backend:
            error = await refused(backend, target(call), asking())
        assert (Reason.BAD_ANSWER, outcome, 1) == (error.reason, outcome_of(error), len(raw.requests))

    @pytest.mark.parametrize("call", ["PUT /", "DELETE /", "GET /"])
    async def test_a_request_that_may_have_left_is_never_sent_twice(self, call: str) -> None:
        async with saying(b"") as raw, Config(kind="http", url=raw.url).build() as backend:
            await refused(backend, target(call), asking())
        assert (1, 1) == (raw.connections, len(raw.requests))

    async def test_bytes_that_nobody_asked_for_answer_nobody(self) -> None:
        theirs = OK + b'content-length: 8\r\n\r\n"theirs"'
        async with saying(OK + WHOLE, then_close=False, late=theirs) as raw, Config(kind="http", url=raw.url).build() as backend:
            first, second = asking(), asking()
            await backend.handler(target("POST /"))(first)
            raw.again.set()
            await raw.said.wait()
            # Once round the loop for the bytes to be read by us.
            await backend.check()
            await backend.handler(target("POST /"))(second)
        assert [b"{}", b"{}"] == [first.replies[0].body, second.replies[0].body]

    async def test_a_connection_that_its_server_closed_is_not_the_callers_trouble(self) -> None:
        async with saying(OK + WHOLE) as raw, Config(kind="http", url=raw.url, keep_alive=60).build() as backend:
            memories = [asking() for _ in range(20)]
            for memory in memories:
                await backend.handler(target("POST /"))(memory)
        assert [[Message(b"{}", JSON)]] * 20 == [memory.replies for memory in memories]
