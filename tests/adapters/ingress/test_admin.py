"""The operators' pages, over a real connection."""

from __future__ import annotations

import asyncio
import gzip
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest

from adapters.ingress.admin import Config
from gateway.codec import Contracts
from gateway.errors import BackendError, Reason
from gateway.listener import Document, Reloaded, View


class Backend:
    """Ready, or not with a reason, or silent."""

    def __init__(self, answer=None):
        self.answer = answer

    async def check(self):
        if self.answer == "silent":
            await asyncio.Event().wait()
        if self.answer is not None:
            raise self.answer


@asynccontextmanager
async def asking(view=None, **settings):
    """A client of a listener on a free port: ask(method, path) gives status, headers and JSON."""
    view = view or View(find=lambda *_asked: None)
    ingress = Config(kind="admin", bind="127.0.0.1:0", **settings).build("admin", view)
    async with ingress.serving() as address, aiohttp.ClientSession(f"http://{address}") as session:

        async def ask(path, method="GET", **headers):
            async with session.request(method, path, headers=headers) as answer:
                json = answer.content_type == "application/json" and method != "HEAD"
                return answer.status, answer.headers, await answer.json() if json else await answer.read()

        yield ask


def view(**backends):
    return View(find=lambda *_asked: None, backends=backends, routes=[{"route": "stock"}])


async def test_alive_asks_nothing_so_that_an_outage_restarts_nobody():
    async with asking(view(a=Backend("silent"))) as ask:
        status, headers, body = await ask("/livez")
    assert (200, {"status": "alive"}) == (status, body)
    assert ("polygate", "no-store") == (headers["Server"], headers["Cache-Control"])


async def test_ready_tells_each_backend_with_its_reason():
    away = BackendError(Reason.UNREACHABLE, "the broker does not answer")
    async with asking(view(good=Backend(), bad=Backend(away)), check_seconds=5) as ask:
        status, _, body = await ask("/readyz")
    assert 503 == status
    backends = {"good": {"ready": True}, "bad": {"ready": False, "reason": "the broker does not answer"}}
    assert {"ready": False, "backends": backends} == body


async def test_ready_is_200_when_all_are():
    async with asking(view(good=Backend())) as ask:
        assert (200, {"ready": True, "backends": {"good": {"ready": True}}}) == (await ask("/readyz"))[::2]


async def test_a_backend_that_says_nothing_is_not_ready():
    async with asking(view(slow=Backend("silent"), good=Backend()), check_seconds=0.05) as ask:
        status, _, body = await ask("/readyz")
    assert (503, "no answer within 0.05 s") == (status, body["backends"]["slow"]["reason"])
    assert {"ready": True} == body["backends"]["good"]


async def test_a_gateway_that_stops_is_not_ready_but_alive():
    seen = view(good=Backend())
    async with asking(seen) as ask:
        seen.ready = False
        status, _, body = await ask("/readyz")
        assert (503, False, "the gateway is stopping") == (status, body["ready"], body["reason"])
        assert 200 == (await ask("/livez"))[0]


async def test_metrics_are_in_prometheus_s_format():
    async with asking() as ask:
        status, headers, body = await ask("/metrics")
    assert 200 == status
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert b"process_resident_memory_bytes" in body


async def test_routes_are_those_of_the_view():
    async with asking(view()) as ask:
        assert {"routes": [{"route": "stock"}]} == (await ask("/routes"))[2]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/routes"])
async def test_head_is_answered_without_a_body_and_anything_else_is_405(path):
    async with asking() as ask:
        assert (200, b"") == (await ask(path, "HEAD"))[::2]
        status, headers, _ = await ask(path, "POST")
        assert (405, "GET, HEAD") == (status, headers["Allow"])


@pytest.mark.parametrize("path", ["/", "/livez/", "/secret-page", "/%2e%2e/etc"])
async def test_there_is_no_other_page(path):
    async with asking() as ask:
        status, _, body = await ask(path)
    assert (404, ["/contracts", "/docs", "/livez", "/metrics", "/readyz", "/reload", "/routes"]) == (status, body["pages"])


async def test_a_query_is_ignored():
    async with asking() as ask:
        assert 200 == (await ask("/livez?verbose=1"))[0]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"BREW /<script> HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_without_an_echo_or_a_library_s_name(sent):
    seen = View(find=lambda *_asked: None)
    async with Config(kind="admin", bind="127.0.0.1:0").build("admin", seen).serving() as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(sent)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            answer += await reader.read(2000)
        writer.close()
        await writer.wait_closed()
    assert answer.split()[1].startswith(b"4")
    for word in (b"aiohttp", b"Python", b"script", b"nonsense", b"Traceback", b"yyyy"):
        assert word not in answer


async def test_contracts_are_told_by_what_their_files_come_to():
    known = view()
    known.contracts = Contracts({}, digests={"shop/v1/shop.proto": "0123456789abcdef"})
    async with asking(known) as ask:
        status, _, body = await ask("/contracts")
    assert (200, {"contracts": {"shop/v1/shop.proto": "0123456789abcdef"}}) == (status, body)


def documented():
    document = Document("application/json", lambda: b'{"openapi": "3.1.1"}')
    return View(find=lambda *_asked: None, documents={"/openapi.json": document}, servers=lambda: ("http://127.0.0.1:8080",))


async def test_a_document_is_served_as_it_is_made():
    async with asking(documented()) as ask:
        status, headers, body = await ask("/openapi.json")
        assert (200, {"openapi": "3.1.1"}) == (status, body)
        assert "no-store" == headers["Cache-Control"]
        assert 405 == (await ask("/openapi.json", "POST"))[0]
        assert 404 == (await ask("/asyncapi.json"))[0]
        assert {"/docs", "/openapi.json", "/routes"} < set((await ask("/"))[2]["pages"])


async def test_the_page_may_load_from_its_own_host_alone_and_ask_the_listeners_that_it_shows():
    async with asking(documented()) as ask:
        status, headers, body = await ask("/docs")
    assert 200 == status
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert "'none'" == policy["default-src"]
    assert "'self'" == policy["script-src"] == policy["style-src"]
    assert "'self' http://127.0.0.1:8080" == policy["connect-src"]
    assert b"<script>" not in body
    assert b"style=" not in body
    assert b"//" not in body.replace(b"<!doctype html>", b"")


async def test_every_file_of_the_page_is_served_with_its_type():
    async with asking(documented()) as ask:
        _, _, page = await ask("/docs")
        for name in re.findall(rb'(?:src|href)="(docs/[^"]+)"', page):
            status, headers, body = await ask(f"/{name.decode()}")
            assert 200 == status
            assert body
            assert ("text/css" if name.endswith(b".css") else "text/javascript") in headers["Content-Type"]
        assert 404 == (await ask("/docs/nothing.js"))[0]


async def test_the_viewer_is_sent_compressed_to_who_takes_that_and_plain_to_who_does_not():
    ingress = Config(kind="admin", bind="127.0.0.1:0").build("admin", documented())
    async with ingress.serving() as address, aiohttp.ClientSession(f"http://{address}", auto_decompress=False) as session:
        bodies = {}
        for coding in ("gzip", "identity"):
            async with session.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": coding}) as answer:
                bodies[coding] = await answer.read()
                assert (coding == "gzip") == ("Content-Encoding" in answer.headers)
    assert bodies["identity"] == gzip.decompress(bodies["gzip"])
    assert b"SwaggerUIBundle" in bodies["identity"]


CHANGES = {"routes": {"added": ["a"], "changed": [], "removed": [], "unchanged": ["b"]}}
PROBLEM = {"file": "gateway.yaml", "line": 3, "path": "routes[0].to", "text": "is missing"}


@pytest.mark.parametrize(
    ("told", "status", "body"),
    [
        (Reloaded("changed", CHANGES), 200, {"outcome": "changed", **CHANGES}),
        (Reloaded("unchanged", CHANGES), 200, {"outcome": "unchanged", **CHANGES}),
        (Reloaded("refused", problems=[PROBLEM]), 422, {"outcome": "refused", "problems": [PROBLEM]}),
        (Reloaded("busy"), 409, {"outcome": "busy"}),
        (Reloaded("stopping"), 503, {"outcome": "stopping"}),
    ],
)
async def test_the_config_is_loaded_anew_and_what_came_of_it_is_told(told, status, body):
    seen = view()
    seen.reload = lambda: asyncio.sleep(0, told)
    async with asking(seen) as ask:
        assert (status, body) == (await ask("/reload", "POST"))[::2]


@pytest.mark.parametrize("header", ["Origin", "Referer", "Sec-Fetch-Site"])
async def test_a_page_in_a_browser_cannot_have_the_config_loaded(header):
    seen = view()
    seen.reload = lambda: pytest.fail("it was loaded")
    async with asking(seen) as ask:
        assert 403 == (await ask("/reload", "POST", **{header: "http://127.0.0.1"}))[0]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
async def test_the_config_is_loaded_by_post_alone(method):
    seen = view()
    seen.reload = lambda: pytest.fail("it was loaded")
    async with asking(seen) as ask:
        status, headers, _ = await ask("/reload", method)
    assert (405, "POST") == (status, headers["Allow"])


async def test_a_gateway_without_a_file_has_nothing_to_load():
    async with asking(view()) as ask:
        assert 404 == (await ask("/reload", "POST"))[0]


class Everybody:
    """Several processes, of which one speaks; or none can be asked."""

    def __init__(self, error=None):
        self._error = error

    async def _told(self, told):
        if self._error is not None:
            raise self._error
        return told

    async def metrics(self):
        return await self._told(b"calls_total 7.0\n")

    async def readiness(self, seconds):
        return await self._told({"ready": False, "backends": {}, "reason": f"asked for {seconds} s"})

    async def reload(self):
        return await self._told(Reloaded("unchanged"))


async def test_of_several_processes_the_one_that_is_asked_answers_for_all():
    seen = view(good=Backend())
    seen.everybody = Everybody()
    seen.reload = lambda: pytest.fail("it was loaded by one alone")
    async with asking(seen, check_seconds=3) as ask:
        assert (200, b"calls_total 7.0\n") == (await ask("/metrics"))[::2]
        assert (503, {"ready": False, "backends": {}, "reason": "asked for 3.0 s"}) == (await ask("/readyz"))[::2]
        assert (200, {"outcome": "unchanged"}) == (await ask("/reload", "POST"))[::2]
        assert (200, {"status": "alive"}) == (await ask("/livez"))[::2]


async def test_where_the_others_cannot_be_asked_nothing_is_told_that_may_be_wrong():
    seen = view(good=Backend())
    seen.everybody = Everybody(BackendError(Reason.UNREACHABLE, "the other workers cannot be asked"))
    async with asking(seen) as ask:
        for path, method in (("/metrics", "GET"), ("/readyz", "GET"), ("/reload", "POST")):
            assert (503, {"error": "the other workers cannot be asked"}) == (await ask(path, method))[::2]
