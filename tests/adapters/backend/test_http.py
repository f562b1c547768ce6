"""The backend http: its promises, its config, its check and TLS, against real servers on loopback."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from pydantic import ValidationError

from adapters.backend.http import CallTo, Config
from gateway.codec import Contract
from gateway.errors import BackendError, Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Many, Message
from gateway.signature import HEADERS, Sign
from gateway.status import outcome_of
from gateway.target import Target
from tests.adapters.backend.http_server import asking, refused, saying, serving, target, unused_url
from tests.contract.backend import CallContract, Rig
from tests.gateway.test_signature import SECRET, verified


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


class TestSigning:
    async def test_a_request_is_signed_as_it_is_sent_by_the_record_that_it_is_of(self) -> None:
        seen: list[tuple[CIMultiDictProxy[str], bytes]] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append((request.headers, await request.read()))
            return web.json_response({})

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            handler = backend.handler(target("POST /", sign={"secret": SECRET}))
            for record in ("orders/0/7", "orders/0/7", ""):
                exchange = asking(b'{"sku":"tea"}')
                exchange.call = replace(exchange.call, record=record)
                await handler(exchange)
            await backend.handler(target("POST /"))(asking())
        ids = [verified(headers.items(), body, SECRET) for headers, body in seen[:3]]
        assert ["orders/0/7", "orders/0/7", exchange.call.id] == ids
        assert not HEADERS & {name.lower() for name in seen[3][0]}


class TestCheck:
    @pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (302, False), (404, False), (503, False)])
    async def test_health_is_what_its_path_answers(self, status: int, *, well: bool) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=status if request.path == "/healthz" else 500)

        async with serving(answer) as url, Config(kind="http", url=url + "/v2", health="/healthz").build() as backend:
            if well:
                await backend.check()
            else:
                with pytest.raises(BackendError):
                    await backend.check()

    @pytest.mark.parametrize("answer", [b"", b"nonsense"])
    async def test_health_that_makes_no_sense_is_none(self, answer: bytes) -> None:
        async with saying(answer) as raw, Config(kind="http", url=raw.url, health="/").build() as backend:
            with pytest.raises(BackendError):
                await backend.check()

    async def test_a_server_that_hangs_is_not_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("adapters.backend.http.CHECK_S", 0.2)
        async with saying(b"", then_close=False) as raw, Config(kind="http", url=raw.url, health="/").build() as backend:
            with pytest.raises(BackendError):
                await backend.check()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    command = ("openssl", "req", "-x509", *kind, *names, "-out", str(cert), "-keyout", str(key))
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
async def secure_url(certificate: tuple[Path, Path]) -> AsyncIterator[str]:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


class TestTls:
    async def test_a_server_is_known_by_its_authority(self, secure_url: str, certificate: tuple[Path, Path]) -> None:
        config = Config.model_validate({"kind": "http", "url": secure_url, "tls": {"ca": certificate[0]}})
        async with config.build() as backend:
            memory = asking()
            await backend.handler(target("GET /"))(memory)
            await backend.check()
        assert [Message(b"{}", JSON)] == memory.replies

    async def test_an_unknown_server_is_unreachable_and_sees_nothing(self, secure_url: str) -> None:
        async with Config(kind="http", url=secure_url).build() as backend:
            error = await refused(backend, target("POST /"), asking())
            assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))
            with pytest.raises(BackendError):
                await backend.check()

    async def test_a_test_may_take_any_server(self, secure_url: str) -> None:
        async with Config.model_validate({"kind": "http", "url": secure_url, "tls": {"verify": False}}).build() as backend:
            await backend.check()


class TestConfig:
    @pytest.mark.parametrize(
        ("field", "value", "why"),
        [
            ("url", "erp:8000", "must start with http"),
            ("url", "ftp://erp", "must start with http"),
            ("url", "http://", "must start with http"),
            ("url", "http://ada:secret@erp", "credentials belong under headers"),
            ("url", "http://erp/?a=1", "holds a host and a path only"),
            ("headers", {"Host": "x"}, "never set by hand"),
            ("headers", {"a b": "x"}, "no header name"),
            ("headers", {"x-key": "a\r\nb"}, "control character"),
            ("tls", {"verify": False}, "needs an https url"),
        ],
    )
    def test_what_cannot_work_is_refused_with_the_reason(self, field: str, value: object, why: str) -> None:
        with pytest.raises(ValidationError, match=why):
            Config.model_validate({"kind": "http", "url": "http://erp", field: value})

    def test_a_key_needs_its_certificate_and_a_certificate_must_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "x.pem").write_text("nothing")
        for tls in ({"key": tmp_path / "x.pem"}, {"ca": tmp_path / "x.pem"}, {"certificate": tmp_path / "x.pem"}):
            with pytest.raises(ValidationError, match=r"go together|cannot be used"):
                Config.model_validate({"kind": "http", "url": "https://erp", "tls": tls})

    @pytest.mark.parametrize(
        ("field", "value", "why"),
        [
            ("call", "/items", "a method and a path"),
            ("call", "TRACE /items", "a method and a path"),
            ("call", "GET items", "a method and a path"),
            ("call", "GET /items?limit=1", "belongs under query"),
            ("call", "GET /{a b}", "a method and a path"),
            ("call", "GET /{a", "a variable is written"),
            ("query", {"limit": "{limit"}, "a variable is written"),
            ("headers", {"x-a": "}"}, "a variable is written"),
            ("headers", {"Connection": "close"}, "never set by hand"),
            ("forward", ["Transfer-Encoding"], "never set by hand"),
            ("sign", {"secret": "abc"}, "must be"),
        ],
    )
    def test_a_target_that_cannot_work_is_refused_with_the_reason(self, field: str, value: object, why: str) -> None:
        with pytest.raises(ValidationError, match=why):
            CallTo.model_validate({"backend": "erp", "call": "GET /", field: value})

    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({"stream_requests": True}, "piece by piece"),
            ({"reply": "none", "stream": "sse"}, "not both"),
            ({"headers": {"Webhook-Id": "1"}}, "sign sets webhook-id itself"),
            ({"forward": ["webhook-signature"]}, "sign sets webhook-signature itself"),
        ],
    )
    def test_what_is_signed_is_whole_and_has_its_own_headers(self, settings: dict[str, object], why: str) -> None:
        with pytest.raises(ValidationError, match=why):
            CallTo.model_validate({"backend": "erp", "call": "POST /", "sign": {"secret": SECRET}, **settings})

    @pytest.mark.parametrize(
        ("settings", "many"),
        [
            ({}, Many.NEITHER),
            ({"stream": "sse"}, Many.REPLIES),
            ({"stream_requests": True}, Many.REQUESTS),
            ({"stream": "ndjson", "stream_requests": True}, Many.BOTH),
        ],
    )
    def test_the_settings_say_which_sides_stream(self, settings: dict[str, object], many: Many) -> None:
        to = CallTo.model_validate({"backend": "erp", "call": "POST /", **settings})
        assert (many, ()) == (to.many(None), to.refusals(None))

    def test_every_template_is_shown_for_its_variables_to_be_checked(self) -> None:
        to = CallTo.model_validate(
            {"backend": "erp", "call": "GET /a/{b}/{c=**}", "query": {"d": "{e}"}, "headers": {"f": "{g}"}}
        )
        assert ("{b}", "{c}", "{e}", "{g}") == to.templates()

    @pytest.mark.parametrize(
        ("settings", "many", "why"),
        [
            ({"call": "GET /", "stream_requests": True}, None, "has no body"),
            ({"call": "GET /", "stream": "sse", "format": "protobuf"}, None, "JSON or text"),
            ({"call": "GET /"}, Many.REPLIES, "streams otherwise"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, settings: dict[str, object], many: Many | None, why: str) -> None:
        contract = None if many is None else Contract("shop.Items/Get", request=None, reply=None, many=many)  # type: ignore[arg-type]
        (refusal,) = CallTo.model_validate({"backend": "erp", **settings}).refusals(contract)
        assert why in refusal


async def test_what_is_posted_goes_below_its_url_as_it_is_and_signed():
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, request.content_type, await request.read(), request.headers))
        return web.Response(status=204)

    async with serving(answer) as url:
        config = Config(kind="http", url=f"{url}/in")
        base, spec = config.posting("hooks", Sign(secret=SECRET))
        assert f"{url}/in/" == base
        async with config.build("hooks") as backend:
            call = Call("1", "callback", "POST /a", params={"path": "a/b c"}, record="msg_1")
            await backend.handler(Target("r", spec))(Memory(Message(b"{}", JSON), call=call))
    ((method, path, kind, body, headers),) = seen
    assert ("POST", "/in/a/b%20c", JSON, b"{}") == (method, path, kind, body)
    assert "msg_1" == verified({name.lower(): value for name, value in headers.items()}, body, SECRET)
