"""What the backend http makes of an answer."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from adapters.backend.http import Config
from gateway.errors import GatewayError, HttpAnswer, Outcome, Reason, RetryAfter
from gateway.exchange import Memory
from gateway.message import BYTES, JSON, NO_HEADERS, Headers, Message
from gateway.status import outcome_of
from gateway.target import Target
from tests.adapters.backend.http_server import OK, WHOLE, asking, refused, saying, serving, target


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

    @pytest.mark.parametrize("status", [200, 202, 204])
    async def test_where_nothing_is_answered_any_success_is_one(self, status: int) -> None:
        body = None if status == 204 else "<p>thank you</p>"
        memory = await answered(web.Response(text=body, status=status, content_type="text/html"), target("POST /", reply="none"))
        assert [] == memory.replies
        assert memory.headers is not None

    async def test_where_nothing_is_answered_a_refusal_is_one_still(self) -> None:
        error = await failed(web.Response(text="gone", status=410), target("POST /", reply="none"))
        assert Reason.BACKEND_FAILED_PRECONDITION == error.reason

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

    @pytest.mark.parametrize(
        ("after", "seconds"),
        [
            ("0", 0),
            ("120", 120),
            (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", None),
            ("9999999", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("9" * 5000, None),
        ],
    )
    async def test_an_error_says_when_to_come_again_if_the_server_does(self, after: str, seconds: int | None) -> None:
        error = await failed(web.json_response({}, status=503, headers={"retry-after": after}), target("POST /"))
        told = [detail.seconds for detail in error.details if isinstance(detail, RetryAfter)]
        assert ([] if seconds is None else [pytest.approx(seconds, abs=600)]) == told

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
