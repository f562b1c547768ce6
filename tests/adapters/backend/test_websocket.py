"""The WebSocket backend, against the library's own server over loopback: in bare frames, and in envelopes of polygate.v1."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from contextlib import suppress

import pytest
from pydantic import ValidationError

from adapters.backend.websocket import CallTo, Config
from adapters.websocket.envelope import SUBPROTOCOL, Envelope
from gateway.codec import Contract
from gateway.errors import GatewayError, HttpAnswer, Outcome, Reason, RpcStatus
from gateway.exchange import Call, Memory, new_id
from gateway.message import BYTES, JSON, NO_HEADERS, PROTOBUF, Headers, Many, Message
from gateway.status import outcome_of
from tests.adapters.backend.websocket_server import ENVELOPED, Peer, enveloped, target
from tests.contract.backend import CallContract, Rig, refusal
from tests.kafka_broker import free_port

REQUEST = Message(b'{"sku": "tea"}', JSON)


class TestBare(CallContract):
    @pytest.fixture
    async def rig(self):
        async with Peer().serving() as peer:
            yield Rig(
                backend=peer.config(linger=0.3),
                answers=target("/echo"),
                request=REQUEST,
                reply=REQUEST,
                fails=target("/fail"),
                fails_as=Reason.BACKEND_PERMISSION_DENIED,
                hangs=target("/hang"),
                arrived=peer.arrived,
                left=peer.left,
                nonsense=target("/nonsense"),
                streams=target("/three", Many.REPLIES),
                stream=tuple(Message(b"%d" % number, JSON) for number in range(3)),
                talks=target("/echo", Many.BOTH),
                away=Config.model_validate({"kind": "websocket", "url": f"ws://127.0.0.1:{free_port()}"}),
            )


class TestEnvelopes(CallContract):
    @pytest.fixture
    async def rig(self):
        def to(call, many=Many.NEITHER):
            return target(call, many, subprotocol=SUBPROTOCOL)

        async with Peer(**ENVELOPED).serving() as peer:
            yield Rig(
                backend=peer.config(),
                answers=to("/echo"),
                request=REQUEST,
                reply=REQUEST,
                fails=to("/fail"),
                hangs=to("/hang"),
                arrived=peer.arrived,
                left=peer.left,
                nonsense=to("/nonsense"),
                streams=to("/three", Many.REPLIES),
                stream=tuple(Message(b"%d" % number, JSON) for number in range(3)),
                talks=to("/echo", Many.BOTH),
                away=Config.model_validate({"kind": "websocket", "url": f"ws://127.0.0.1:{free_port()}"}),
            )


@pytest.fixture
async def peer():
    async with Peer(**ENVELOPED).serving() as peer:
        yield peer


@pytest.fixture
async def bare():
    async with Peer().serving() as peer:
        yield peer


def asked(*requests: Message, headers: Headers = NO_HEADERS, many: Many = Many.NEITHER, expires: float | None = None) -> Memory:
    call = Call(new_id(), "memory", "", headers=headers, params={"room": "a b"}, many=many, deadline=expires, expires=expires)
    return Memory(*requests, call=call)


async def answered(config: Config, to, memory: Memory) -> Memory:
    async with asyncio.timeout(20), config.build() as backend:
        await backend.handler(to)(memory)
    return memory


async def failed(config: Config, to, memory: Memory) -> GatewayError:
    async with config.build() as backend:
        return await refusal(backend, to, memory)


# What is asked


async def test_path_query_and_headers_are_templates_and_the_configs_headers_go_along(bare):
    to = target("/echo/{room}/x", query={"sku": "{sku}", "none": "{none}"}, headers={"x-sku": "{sku}"})
    sent = Headers(
        [("traceparent", "00-1"), ("cookie", "a=b"), ("x-other", "1"), ("accept-language", "de"), ("accept-language", "en")]
    )
    memory = asked(REQUEST, headers=sent)
    await answered(bare.config(headers={"authorization": "Bearer x"}), to, memory)
    [request] = bare.requests
    assert "/echo/a%20b/x?sku=tea" == request.path
    assert ("tea", "Bearer x", "00-1") == tuple(request.headers[name] for name in ("x-sku", "authorization", "traceparent"))
    assert ["de", "en"] == request.headers.get_all("accept-language")
    assert memory.call.id == request.headers["x-request-id"]
    assert "cookie" not in request.headers
    assert "x-other" not in request.headers


async def test_the_metadata_of_a_call_goes_in_an_envelope_with_the_time_that_is_left(peer):
    sent = Headers(
        [("x-a", "1"), ("x-a", "2"), ("k-bin", "AAE"), ("cookie", "a=b"), ("grpc-timeout", "9S"), ("connection", "x-hop")]
    )
    expires = asyncio.get_running_loop().time() + 5
    memory = asked(REQUEST, headers=sent.plus(("x-hop", "1")), expires=expires)
    await answered(peer.config(), target("/echo", subprotocol=SUBPROTOCOL), memory)
    [headers] = peer.headers
    assert ("1", "2") == headers.all("x-a")
    assert "AAE" == headers.get("k-bin")
    assert {"x-a", "k-bin", "x-request-id", "grpc-timeout"} == {name for name, _ in headers}
    [timeout] = headers.all("grpc-timeout")
    assert 0 < int(timeout[:-1]) * {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1}[timeout[-1]] < 5


async def test_a_stream_has_no_timeout_of_ours(peer):
    await answered(peer.config(), target("/three", Many.REPLIES, subprotocol=SUBPROTOCOL), asked(REQUEST, many=Many.REPLIES))
    assert peer.headers[0].get("grpc-timeout") is None


async def test_binary_formats_go_in_binary_frames_and_envelopes(peer, bare):
    message = Message(b"\x08\x01", PROTOBUF)
    for server, subprotocol in ((peer, SUBPROTOCOL), (bare, "")):
        to = target("/echo", content_type=PROTOBUF, format="protobuf", subprotocol=subprotocol)
        assert [message] == (await answered(server.config(), to, asked(message))).replies


async def test_bytes_come_in_any_kind_of_frame(bare):
    to = target("/nonsense", content_type=BYTES, format="bytes")
    assert [Message(b"\xff", BYTES)] == (await answered(bare.config(), to, asked(Message(b"x", BYTES)))).replies


async def test_a_client_stream_is_told_its_end(peer):
    memory = asked(REQUEST, REQUEST, REQUEST, many=Many.REQUESTS)
    await answered(peer.config(), target("/count", Many.REQUESTS, subprotocol=SUBPROTOCOL), memory)
    assert [b"3"] == [reply.body for reply in memory.replies]


# What is answered


async def test_headers_and_trailers_of_envelopes_go_back_under_their_own_names():
    @enveloped
    async def marked(_peer, talk):
        await talk.hear()
        head = Headers([("x-a", "1"), ("x-a", "2"), ("x-request-id", "theirs")])
        await talk.say(Envelope("headers", headers=head), Envelope("message", b"1"))
        await talk.say(Envelope("trailers", headers=Headers([("x-cost", "3")])))

    async with Peer(marked=marked).serving() as peer:
        memory = await answered(peer.config(), target("/marked", subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert Headers([("x-a", "1"), ("x-a", "2")]) == memory.headers
    assert Headers([("x-cost", "3")]) == memory.trailers


async def test_headers_of_a_handshake_go_back_as_the_route_says(bare):
    memory = await answered(bare.config(), target("/echo", reply_headers=["server"]), asked(REQUEST))
    assert ["server"] == [name for name, _ in memory.headers]


async def test_an_error_in_an_envelope_is_the_backends_own_with_its_details():
    @enveloped
    async def detailed(_peer, talk):
        await talk.hear()
        trailers = Headers([("grpc-status-details-bin", "AQI="), ("x-cost", "3")])
        problem = {"code": "OUT_OF_RANGE", "detail": "too far", "outcome": "unknown"}
        await talk.say(Envelope("trailers", headers=trailers), Envelope("error", problem=problem))

    async with Peer(detailed=detailed).serving() as peer:
        error = await failed(peer.config(), target("/detailed", subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert (Reason.BACKEND_OUT_OF_RANGE, "too far", Outcome.UNKNOWN) == (error.reason, error.message, outcome_of(error))
    assert (RpcStatus("too far", b"\x01\x02", Headers([("x-cost", "3")])),) == error.details


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1001, Reason.BACKEND_UNAVAILABLE),
        (1003, Reason.BACKEND_INVALID_ARGUMENT),
        (1007, Reason.BACKEND_INVALID_ARGUMENT),
        (1008, Reason.BACKEND_FAILED_PRECONDITION),
        (1009, Reason.TOO_LARGE),
        (1011, Reason.BACKEND_INTERNAL),
        (1012, Reason.BACKEND_UNAVAILABLE),
        (1013, Reason.BACKEND_UNAVAILABLE),
        (3000, Reason.BACKEND_UNAUTHENTICATED),
        (3003, Reason.BACKEND_PERMISSION_DENIED),
        (3008, Reason.BACKEND_DEADLINE_EXCEEDED),
        (4711, Reason.BACKEND_UNKNOWN),
        (1000, Reason.BAD_ANSWER),
    ],
)
async def test_a_close_code_is_a_reason(code, reason):
    async def close(_peer, socket):
        await socket.recv()
        await socket.close(code)

    async with Peer(close=close).serving() as peer:
        error = await failed(peer.config(), target("/close"), asked(REQUEST))
    assert reason == error.reason


async def test_a_stream_that_is_closed_well_has_ended_and_one_that_breaks_off_has_not():
    async def cut(_peer, socket):
        await socket.recv()
        await socket.send("1")
        socket.transport.abort()

    async with Peer(cut=cut).serving() as peer:
        memory = asked(REQUEST, many=Many.REPLIES)
        with pytest.raises(GatewayError) as caught:
            await answered(peer.config(), target("/cut", Many.REPLIES), memory)
    assert Reason.BAD_ANSWER == caught.value.reason
    assert [b"1"] == [reply.body for reply in memory.replies]


async def test_an_envelope_stream_without_its_trailers_has_not_ended():
    @enveloped
    async def short(_peer, talk):
        await talk.hear()
        await talk.say(Envelope("message", b"1"))

    async with Peer(short=short).serving() as peer:
        with pytest.raises(GatewayError) as caught:
            await answered(peer.config(), target("/short", Many.REPLIES, subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert Reason.BAD_ANSWER == caught.value.reason


async def test_more_than_the_one_reply_is_a_bad_answer():
    @enveloped
    async def two(_peer, talk):
        await talk.hear()
        await talk.say(Envelope("message", b"1"), Envelope("message", b"2"), Envelope("trailers"))

    async with Peer(two=two).serving() as peer:
        with pytest.raises(GatewayError) as caught:
            await answered(peer.config(), target("/two", subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert Reason.BAD_ANSWER == caught.value.reason


async def test_a_message_over_the_limit_is_never_held():
    async def flood(_peer, socket):
        await socket.recv()
        with suppress(Exception):
            await socket.send("x" * 2048)

    async with Peer(flood=flood).serving() as peer:
        error = await failed(peer.config(max_message=1024), target("/flood"), asked(REQUEST))
    assert Reason.BAD_ANSWER == error.reason
    assert "too large" in error.message


# The handshake


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, Reason.BACKEND_UNAUTHENTICATED), (404, Reason.BACKEND_NOT_FOUND), (503, Reason.BACKEND_UNAVAILABLE)],
)
async def test_a_refused_handshake_is_the_servers_answer_and_nothing_was_done(bare, status, reason):
    bare.refusals["/echo"] = (status, b"no", [("WWW-Authenticate", "Basic"), ("X-Other", "1")])
    error = await failed(bare.config(), target("/echo"), asked(REQUEST))
    assert (reason, Outcome.FAILED) == (error.reason, outcome_of(error))
    [detail] = error.details
    assert isinstance(detail, HttpAnswer)
    assert (status, b"no", "Basic", None) == (
        detail.status,
        detail.body,
        detail.headers.get("www-authenticate"),
        detail.headers.get("x-other"),
    )


async def test_a_redirect_is_not_followed(bare):
    bare.refusals["/echo"] = (302, b"", [("Location", f"{bare.address}/three")])
    error = await failed(bare.config(), target("/echo"), asked(REQUEST))
    assert (Reason.BAD_ANSWER, Outcome.FAILED, 1) == (error.reason, outcome_of(error), len(bare.requests))


async def test_a_server_that_does_not_speak_the_subprotocol_is_refused():
    async with Peer().serving(subprotocols=["other"], select_subprotocol=None) as peer:
        error = await failed(peer.config(), target("/echo", subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert Outcome.FAILED == outcome_of(error)
    async with Peer().serving(subprotocols=None, select_subprotocol=None) as peer:
        error = await failed(peer.config(), target("/echo", subprotocol=SUBPROTOCOL), asked(REQUEST))
    assert (Reason.REFUSED, Outcome.FAILED) == (error.reason, outcome_of(error))


async def test_what_is_no_http_at_all_opens_nothing():
    async def gibberish(reader, writer):
        await reader.readline()
        writer.write(b"220 mail ready\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(gibberish, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await failed(Config.model_validate({"kind": "websocket", "url": url}), target("/echo"), asked(REQUEST))
    assert (Reason.BAD_ANSWER, Outcome.FAILED) == (error.reason, outcome_of(error))


async def test_a_server_that_never_answers_the_handshake_is_unreachable_within_the_connect_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = Config.model_validate(
            {"kind": "websocket", "url": f"ws://127.0.0.1:{silent.getsockname()[1]}", "connect_timeout": 0.2}
        )
        error = await failed(config, target("/echo"), asked(REQUEST))
    assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))


async def test_more_connections_than_the_limit_are_refused_as_overloaded(bare):
    async with bare.config(connections=1).build() as backend, asyncio.TaskGroup() as group:
        hanging = group.create_task(backend.handler(target("/hang"))(asked(REQUEST)))
        await bare.arrived.wait()
        error = await refusal(backend, target("/echo"), asked(REQUEST))
        assert Reason.OVERLOADED == error.reason
        hanging.cancel()
        await bare.left.wait()
        await asyncio.wait([hanging])
        await backend.handler(target("/echo"))(asked(REQUEST))


# The config


@pytest.mark.parametrize("url", ["http://a", "ws:///a", "ws://u@a", "ws://a?x=1", "ws://a#x"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValidationError):
        Config.model_validate({"kind": "websocket", "url": url})


def test_tls_needs_a_wss_url():
    with pytest.raises(ValidationError, match="wss"):
        Config.model_validate({"kind": "websocket", "url": "ws://a", "tls": {}})


@pytest.mark.parametrize(
    ("settings", "many", "words"),
    [
        ({}, Many.REQUESTS, "subprotocol: polygate.v1"),
        ({"subprotocol": SUBPROTOCOL, "format": "text"}, Many.NEITHER, "not text"),
        ({"stream": "replies"}, Many.BOTH, "stream must be both"),
    ],
)
def test_what_cannot_work_is_refused_when_loading(settings, many, words):
    contract = Contract("test.v1.Test/Run", None, None, many)
    [refused] = CallTo.model_validate({"backend": "peer", "call": "/x", **settings}).refusals(contract)
    assert words in refused


@pytest.mark.parametrize("call", ["echo", "/a?b", "/a b", "/{", "GET /a"])
def test_a_call_is_a_path(call):
    with pytest.raises(ValidationError):
        CallTo.model_validate({"backend": "peer", "call": call})


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return cert, key


async def test_tls_knows_the_server_by_its_certificate(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with Peer().serving(ssl=context) as peer:
        url = peer.address.replace("ws://127.0.0.1", "wss://localhost")
        known = Config.model_validate({"kind": "websocket", "url": url, "tls": {"ca": certificate[0]}})
        assert [REQUEST] == (await answered(known, target("/echo"), asked(REQUEST))).replies
        async with known.build() as backend:
            await backend.check()
        unknown = Config.model_validate({"kind": "websocket", "url": url})
        error = await failed(unknown, target("/echo"), asked(REQUEST))
        assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))
