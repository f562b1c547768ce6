"""Every HTTP/1.1 row of what bad input gets, by bytes on a raw socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from gateway.admission import Admission
from gateway.errors import CallerError, Reason
from gateway.listener import View
from gateway.message import JSON, Message
from gateway.pipeline import answerable
from gateway.route import Endpoint
from gateway.table import Table
from tests.adapters.ingress.rest_driver import listening
from tests.contract.driver import PATIENCE_S

HOST = b"Host: shop.test\r\n"
MARK = "x-mark-7f3a"


@dataclass
class Seen:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool

    @property
    def reason(self):
        return json.loads(self.body)["reason"] if self.body else ""


class Shop:
    """A listener with a few routes, and what its handler was given."""

    def __init__(self):
        self.bodies: list[bytes] = []
        self.deny = False
        table = Table(lambda _protocol, error: Endpoint("-", answerable(self._refusing(error))))
        endpoint = Endpoint("echo", answerable(self._echo))
        for method, path in [
            ("GET", "/items/{id}"),
            ("POST", "/items"),
            ("GET", "/"),
            ("GET", "/files/**"),
            ("DELETE", "/items"),
        ]:
            table.add("rest", method, path, endpoint)
        self.view = View(find=table.find, refuse=table.refuse)

    def _refusing(self, error):
        async def refuse(_exchange):
            raise error

        return refuse

    async def _echo(self, exchange):
        if self.deny:
            raise CallerError(Reason.UNAUTHENTICATED, "who are you?")
        message = await exchange.receive()
        if exchange.call.target.startswith("POST"):
            self.bodies.append(message.body)
        await exchange.send(Message(message.body or b'"empty"', JSON))


@asynccontextmanager
async def shop(**settings):
    made = Shop()
    async with listening(made.view, **settings) as address:
        made.port = address.port
        yield made


async def read_answer(reader) -> Seen:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields if field)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(int(line.split()[1]), headers, body, closed=False)


async def exchange(made, raw: bytes, *, half_close: bool = False) -> Seen:
    """Send bytes, read one answer, and see whether the connection closes after it."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        try:
            writer.write(raw)
            if half_close:
                writer.write_eof()
            seen = await read_answer(reader)
            if not half_close:
                # A connection that lives answers another request; a closed one ends.
                try:
                    writer.write(b"GET /items/alive HTTP/1.1\r\n" + HOST + b"\r\n")
                    seen.closed = not await reader.read(1)
                except ConnectionError:
                    seen.closed = True
            return seen
        finally:
            writer.close()


def get(target: bytes, *fields: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(body: bytes, *fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    lines = (b"POST /items " + version, b"Host: shop.test", b"Content-Type: application/json", *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def assert_says_nothing(seen: Seen):
    """No echo of what was sent, no library's name, no version."""
    told = (str(seen.headers) + seen.body.decode("utf-8", "replace")).lower()
    assert MARK not in told
    assert not [word for word in ("aiohttp", "python", "traceback", "exception", "llhttp", "0.1.0") if word in told]
    assert seen.headers["x-request-id"]


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 2"),
        (b"Content-Length: 2", b"Content-Length: 3"),
        (b"Content-Length: 2, 2",),
        (b"Content-Length: +2",),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x2",),
        (b"Content-Length: 1_0",),
        (b"Content-Length: 18446744073709551617",),
        (b"Transfer-Encoding: chunked, chunked",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding : chunked",),
    ],
)
async def test_a_body_whose_end_is_not_sure_is_refused_and_the_connection_closed(fields):
    async with shop() as made:
        seen = await exchange(made, post(b"2\r\n{}\r\n0\r\n\r\n", *fields))
    assert (400, "malformed", True) == (seen.status, seen.reason, seen.closed)
    assert [] == made.bodies
    assert_says_nothing(seen)


async def test_a_transfer_coding_on_http_1_0_is_refused():
    async with shop() as made:
        seen = await exchange(made, post(b"2\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", version=b"HTTP/1.0"))
    assert (400, True) == (seen.status, seen.closed)
    assert [] == made.bodies


async def test_a_transfer_coding_that_is_not_served_is_501():
    async with shop() as made:
        seen = await exchange(made, post(b"2\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"))
    assert (501, True) == (seen.status, seen.closed)
    assert [] == made.bodies


@pytest.mark.parametrize(
    "field", [b"X-A: one\r\n two", b"X-A: a\rb", b"X-A: a\0b", b"X-A\0: a", b": nameless", b"X A: a"], ids=repr
)
async def test_a_field_that_two_readers_would_read_differently_is_refused(field):
    async with shop() as made:
        seen = await exchange(made, get(b"/items/1", field))
    assert (400, True) == (seen.status, seen.closed)
    assert_says_nothing(seen)


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n{}\r\n", b"0x2\r\n{}\r\n", b"fffffffffffffffff\r\n{}\r\n", b"2\r\n{}XX0\r\n\r\n"], ids=repr
)
async def test_a_chunk_that_is_none_is_refused_and_its_body_goes_nowhere(chunk):
    async with shop() as made:
        seen = await exchange(made, post(chunk, b"Transfer-Encoding: chunked"))
    assert (400, True) == (seen.status, seen.closed)
    assert [] == made.bodies


async def test_an_idempotency_key_that_is_not_ascii_is_refused_and_not_passed_over():
    async with shop() as made:
        seen = await exchange(made, post(b"{}", "Idempotency-Key: é".encode(), b"Content-Length: 2"))
    assert (400, []) == (seen.status, made.bodies)


@pytest.mark.parametrize(
    "hosts",
    [b"", b"Host: a\r\nHost: a\r\n", b"Host: a@b\r\n", b"Host: a b\r\n", b"Host: a/b\r\n", b"Host: a:99999999\r\n"],
    ids=repr,
)
async def test_a_request_names_one_host(hosts):
    async with shop() as made:
        seen = await exchange(made, b"GET /items/1 HTTP/1.1\r\n" + hosts + b"\r\n")
    assert 400 == seen.status
    assert_says_nothing(seen)


async def test_an_absolute_target_must_name_the_host_that_host_names():
    async with shop() as made:
        other = await exchange(made, get(b"http://elsewhere.test/items/1"))
        own = await exchange(made, get(b"http://shop.test/items/1"))
    assert (400, 200) == (other.status, own.status)


@pytest.mark.parametrize(
    "line", [b"GET /items/1\r\n\r\n", b"GET /items/1 HTTP/0.9\r\n\r\n", b"GET /items/1 HTTP/2.0\r\n" + HOST + b"\r\n"]
)
async def test_another_http_is_refused(line):
    async with shop() as made:
        seen = await exchange(made, line)
    assert seen.status in {400, 505}
    assert seen.closed


async def test_a_request_line_over_8_kib_is_414():
    async with shop() as made:
        seen = await exchange(made, get(b"/items/" + MARK.encode() + b"a" * 8192))
    assert (414, "uri_too_long", True) == (seen.status, seen.reason, seen.closed)
    assert_says_nothing(seen)


async def test_a_field_over_8_kib_is_431():
    async with shop() as made:
        seen = await exchange(made, get(b"/items/1", b"X-A: " + MARK.encode() + b"a" * 8193))
    assert (431, "headers_too_large", True) == (seen.status, seen.reason, seen.closed)
    assert_says_nothing(seen)


async def test_a_field_of_8_kib_and_100_fields_are_taken():
    async with shop() as made:
        long = await exchange(made, get(b"/items/1", b"X-A: " + b"a" * 8000))
        many = await exchange(made, get(b"/items/1", *(b"X-%d: a" % number for number in range(99))))
    assert (200, 200) == (long.status, many.status)


@pytest.mark.parametrize("count", [100, 5000])
async def test_over_100_fields_are_431(count):
    async with shop() as made:
        seen = await exchange(made, get(b"/items/1", *(b"X-%d: a" % number for number in range(count))))
    assert (431, "headers_too_large", True) == (seen.status, seen.reason, seen.closed)


@pytest.mark.parametrize(
    ("method", "status"),
    [(b"TRACE", 405), (b"QUERY", 405), (b"CONNECT", 400), (b"BREW", 501), (b"get", 501), (b"PROPFIND", 501), (b"PUT", 405)],
)
async def test_a_method_that_is_not_served_says_so(method, status):
    target = b"shop.test:80" if method == b"CONNECT" else b"/items"
    async with shop() as made:
        seen = await exchange(made, get(target, method=method))
    assert status == seen.status
    assert (status == 405) == ("allow" in seen.headers)
    assert_says_nothing(seen)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/../../etc", 404),
        (b"/items/..", 404),
        (b"/%2e%2e/", 404),
        (b"/files/%2E%2e/x", 404),
        (b"/files/./x", 404),
        (b"//", 404),
        (b"/items//", 404),
        (b"/items/%00", 400),
        (b"/items/%", 400),
        (b"/items/%zz", 400),
        (b"/items/%ff", 400),
        (b"/items/1?a=%", 400),
        (b"/items/1?a=%ff", 400),
        (b"/nowhere", 404),
        (b"/", 200),
        (b"/items/a%2Fb", 200),
    ],
)
async def test_a_path_is_never_more_than_the_route_says(target, status):
    async with shop() as made:
        seen = await exchange(made, get(target))
    assert status == seen.status


@pytest.mark.slow
async def test_a_body_that_is_declared_too_large_is_refused_before_it_is_sent():
    async with shop() as made:
        seen = await exchange(made, post(b"", b"Content-Length: 1048577"))
    assert (413, "too_large", True) == (seen.status, seen.reason, seen.closed)
    assert "1048576" in seen.body.decode()


async def test_a_body_of_exactly_the_limit_is_taken():
    async with shop() as made:
        seen = await exchange(made, post(b"1" * 1048576, b"Content-Length: 1048576"))
    assert 200 == seen.status
    assert 1048576 == len(made.bodies[0])


@pytest.mark.slow
async def test_a_chunked_body_over_the_limit_is_refused_once_it_is_over():
    chunk = b"10000\r\n" + b"1" * 65536 + b"\r\n"
    async with shop() as made:
        seen = await exchange(made, post(chunk * 17, b"Transfer-Encoding: chunked"))
    assert (413, True) == (seen.status, seen.closed)
    assert [] == made.bodies


@pytest.mark.parametrize(("name", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
async def test_a_bomb_is_refused_and_a_small_body_taken(name, pack):
    async with shop() as made:
        bomb, small = pack(b"1" * (64 << 20)), pack(b'{"n":1}')
        seen = await exchange(made, post(bomb, b"Content-Encoding: " + name, b"Content-Length: %d" % len(bomb)))
        taken = await exchange(made, post(small, b"Content-Encoding: " + name, b"Content-Length: %d" % len(small)))
    assert (413, 200) == (seen.status, taken.status)
    assert [b'{"n":1}'] == made.bodies


@pytest.mark.slow
async def test_no_100_is_said_to_a_caller_who_is_refused():
    async with shop() as made:
        made.deny = True
        denied = await exchange(made, post(b"", b"Content-Length: 2", b"Expect: 100-continue"))
        made.deny = False
        large = await exchange(made, post(b"", b"Content-Length: 2000000", b"Expect: 100-continue"))
    assert (401, 413) == (denied.status, large.status)
    assert "www-authenticate" in denied.headers


async def test_100_is_said_once_the_body_is_wanted():
    async with shop() as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(post(b"", b"Content-Length: 2", b"Expect: 100-continue"))
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"{}")
        seen = await read_answer(reader)
        writer.close()
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == first
    assert (200, [b"{}"]) == (seen.status, made.bodies)


async def test_a_dripped_head_is_408_at_its_deadline():
    async with shop(head_seconds=0.2) as made:
        seen = await exchange(made, b"GET /items/1 HTTP/1.1\r\nHost: a\r\nX-", half_close=False)
    assert (408, "slow_request", True) == (seen.status, seen.reason, seen.closed)
    assert_says_nothing(seen)


async def test_a_second_head_on_a_connection_has_its_deadline_too():
    async with shop(head_seconds=0.2) as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(get(b"/items/1"))
        first = await read_answer(reader)
        writer.write(b"GET /items/2 HT")
        second = await read_answer(reader)
        closed = not await reader.read()
        writer.close()
    assert (200, 408, True) == (first.status, second.status, closed)


async def test_a_stalled_body_is_408_at_its_deadline():
    async with shop(body_seconds=0.2) as made:
        seen = await exchange(made, post(b"{", b"Content-Length: 2"))
    assert (408, "slow_request", True) == (seen.status, seen.reason, seen.closed)
    assert [] == made.bodies


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"Content-Encoding: gzip", 400),
        (b"Content-Encoding: br", 415),
        (b"Content-Encoding: gzip, gzip", 415),
        (b"Content-Encoding: gzip\r\nContent-Encoding: gzip", 415),
        (b"Content-Type: application/json; charset=utf-7", 415),
    ],
)
async def test_an_encoding_that_cannot_be_read_is_refused(field, status):
    lines = (b"POST /items HTTP/1.1", b"Host: shop.test", b"Content-Length: 2", field)
    async with shop() as made:
        seen = await exchange(made, b"\r\n".join(lines) + b"\r\n\r\n{}")
    assert status == seen.status
    assert [] == made.bodies


async def test_a_caller_who_leaves_in_mid_body_leaves_nothing_behind():
    async with shop() as made, asyncio.timeout(PATIENCE_S):
        _, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(post(b"{", b"Content-Length: 2"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        again = await exchange(made, post(b"{}", b"Content-Length: 2"))
    assert 200 == again.status
    assert [b"{}"] == made.bodies


async def test_a_caller_who_half_closes_in_mid_body_is_refused():
    async with shop() as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(post(b"{", b"Content-Length: 2"))
        writer.write_eof()
        told = await reader.read()
        writer.close()
    assert not told or told.startswith(b"HTTP/1.1 400")
    assert [] == made.bodies


async def test_more_connections_than_allowed_are_answered_503():
    async with shop(max_connections=1) as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(get(b"/items/1"))
        first = await read_answer(reader)
        second, other = await asyncio.open_connection("127.0.0.1", made.port)
        refused = await read_answer(second)
        writer.close()
        other.close()
    assert (200, 503, "1") == (first.status, refused.status, refused.headers["retry-after"])


async def test_pipelined_requests_are_answered_in_order():
    async with shop() as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"".join(post(b"%d" % number, b"Content-Length: 1") for number in range(5)))
        answers = [await read_answer(reader) for _ in range(5)]
        writer.close()
    assert [b"0", b"1", b"2", b"3", b"4"] == [answer.body for answer in answers]


async def test_an_idle_connection_is_closed_after_the_keep_alive():
    async with shop(keep_alive_seconds=0.2) as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(get(b"/items/1"))
        first = await read_answer(reader)
        ended = await reader.read()
        writer.close()
    assert (200, b"") == (first.status, ended)


async def test_head_has_the_head_of_get_and_options_tells_the_methods():
    async with shop() as made, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(get(b"/items/1", method=b"HEAD"))
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(get(b"/items", method=b"OPTIONS"))
        options = await read_answer(reader)
        writer.close()
    assert b"content-length: 7" in head.lower()
    assert (204, "DELETE, OPTIONS, POST") == (options.status, options.headers["allow"])


async def test_http_1_0_without_host_is_served_and_closed():
    async with shop() as made:
        seen = await exchange(made, b"GET /items/1 HTTP/1.0\r\n\r\n")
    assert (200, True) == (seen.status, seen.closed)


async def test_options_of_the_server_as_a_whole_tells_every_method():
    async with shop() as made:
        seen = await exchange(made, get(b"*", method=b"OPTIONS"))
        other = await exchange(made, get(b"*"))
    assert (204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT") == (seen.status, seen.headers["allow"])
    assert 400 == other.status


LARGE = b'"' + b"x" * (12 << 20) + b'"'


@asynccontextmanager
async def asking_for_much(made):
    """Somebody whose answer is more than all buffers on its way hold, with a small one at the end."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", made.port))
    reader, writer = await asyncio.open_connection(sock=end, limit=1 << 10)
    writer.write(post(LARGE, b"Content-Length: %d" % len(LARGE)))
    await writer.drain()
    yield reader
    writer.transport.abort()


async def test_a_caller_that_takes_nothing_of_its_answer_is_cut_off():
    settings = {"max_body": 16 << 20, "max_connections": 1, "write_seconds": 0.05}
    async with asyncio.timeout(PATIENCE_S), shop(**settings) as made, asking_for_much(made):
        while (await exchange(made, get(b"/items/1"))).status == 503:  # noqa: ASYNC110  only another connection tells
            await asyncio.sleep(0.05)


async def test_a_caller_that_takes_its_answer_slowly_gets_all_of_it():
    async with asyncio.timeout(PATIENCE_S), shop(max_body=16 << 20, write_seconds=2) as made, asking_for_much(made) as reader:
        seen = 0
        await reader.readuntil(b"\r\n\r\n")
        while seen < len(LARGE):
            seen += len(await reader.read(1 << 20))
            await asyncio.sleep(0.0001)


class Behind(Admission):
    """A gateway that is behind; the test says who begins."""

    def __init__(self):
        super().__init__()
        self.late = True
        self.waiting = []
        self.came = asyncio.Event()

    def wait(self, waiter):
        self.waiting.append(waiter)
        self.came.set()


async def behind(made):
    made.view.admission = Behind()
    return made.view.admission


async def test_while_the_gateway_is_behind_a_request_waits_unread_and_is_then_served():
    made = Shop()
    admission = await behind(made)
    async with asyncio.timeout(PATIENCE_S), listening(made.view) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
        writer.write(b"POST /items HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 6\r\n\r\n")
        writer.write(b'"tea"\n')
        await admission.came.wait()
        assert [] == made.bodies
        admission.late = False
        admission.waiting[0].admit()
        assert 200 == (await read_answer(reader)).status
        writer.write(get(b"/items/1"))
        assert 200 == (await read_answer(reader)).status
        writer.close()


async def test_a_request_whose_turn_does_not_come_is_503_that_says_when_to_come_again_and_nothing_is_done():
    made = Shop()
    admission = await behind(made)
    async with asyncio.timeout(PATIENCE_S), listening(made.view) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
        writer.write(b"POST /items HTTP/1.1\r\n" + HOST + b'Content-Type: application/json\r\nContent-Length: 5\r\n\r\n"tea"')
        await admission.came.wait()
        admission.waiting[0].refuse()
        seen = await read_answer(reader)
        assert (503, "overloaded") == (seen.status, seen.reason)
        assert int(seen.headers["retry-after"]) >= 1
        assert "close" == seen.headers["connection"]
        assert b"" == await reader.read()
        assert [] == made.bodies
        writer.close()


async def test_one_that_has_gone_before_its_turn_is_neither_served_nor_a_trouble():
    made = Shop()
    admission = await behind(made)
    async with asyncio.timeout(PATIENCE_S), listening(made.view) as address:
        _, writer = await asyncio.open_connection("127.0.0.1", address.port)
        writer.write(get(b"/items/1"))
        await admission.came.wait()
        writer.transport.abort()
        admission.late = False
        assert 200 == (await exchange(SimpleNamespace(port=address.port), get(b"/items/2"))).status
        for one in admission.waiting:
            one.admit()
            one.refuse()
