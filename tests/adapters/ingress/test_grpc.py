"""The gRPC listener, over loopback: with grpcio's own client, and in raw HTTP/2 where that would not say it."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import zlib

import grpc
import grpc.aio
import psutil
import pytest
from pydantic import ValidationError

from adapters.ingress.grpc import Config
from gateway.codec import Contract
from gateway.errors import AnswerHeaders, CallerError, Reason
from gateway.listener import View
from gateway.message import PROTOBUF, Headers, Many, Message
from gateway.route import Endpoint, Found
from gateway.status import Code
from tests.adapters.ingress.grpc_driver import PATH, GrpcDriver
from tests.contract.driver import missing, serving
from tests.contract.ingress import IngressContract, everything, future, within
from tests.http2 import connected, data, grpc_message, request


class TestContract(IngressContract):
    @pytest.fixture
    def driver(self):
        return GrpcDriver()


async def answer_ok(exchange):
    await exchange.receive()
    await exchange.send(Message(b"ok", PROTOBUF))


# Configuration


def test_a_method_is_written_by_its_full_name():
    assert Config.pattern("shop.v1.Orders/Place") == ("", "/shop.v1.Orders/Place")
    with pytest.raises(ValueError, match=r"package\.Service/Method"):
        Config.pattern("/shop.v1.Orders/Place")


def test_the_shape_of_a_call_is_that_of_its_contract():
    assert Many.REPLIES is Config.shape(Contract("a.B/C", None, None, Many.REPLIES))
    assert Many.BOTH is Config.shape(None)


def test_a_setting_that_is_not_known_is_refused():
    with pytest.raises(ValidationError):
        Config.model_validate({"kind": "grpc", "bind": "127.0.0.1:0", "port": 1})


async def test_a_port_that_is_taken_is_an_os_error():
    first = GrpcDriver()
    async with first.listening(serving(answer_ok)) as address:
        with pytest.raises(OSError, match="Address already in use"):
            async with GrpcDriver(bind=address).listening(serving(answer_ok)):
                pass


# What goes over the wire


async def test_all_four_kinds_of_clients_are_served_by_a_unary_route():
    driver = GrpcDriver()
    async with driver.listening(serving(answer_ok)):
        channel = driver.channel
        assert await channel.unary_unary(PATH)(b"") == b"ok"
        assert await channel.stream_unary(PATH)(iter([b""])) == b"ok"
        assert [body async for body in channel.unary_stream(PATH)(b"")] == [b"ok"]
        assert [body async for body in channel.stream_stream(PATH)(iter([b""]))] == [b"ok"]


async def test_metadata_comes_in_as_headers_without_what_is_reserved():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)
        await answer_ok(exchange)

    driver = GrpcDriver()
    async with driver.listening(serving(handler)):
        sent = (("x-shop", "tea"), ("x-shop", "milk"), ("x-raw-bin", b"\x00\xff"))
        await driver.channel.unary_unary(PATH)(b"", metadata=sent)
    headers = calls[0].headers
    assert headers.all("x-shop") == ("tea", "milk")
    assert base64.b64encode(b"\x00\xff").decode() == headers.get("x-raw-bin")
    assert not [name for name, _ in headers if name.startswith(("grpc-", ":")) or name in {"te", "content-type"}]
    assert calls[0].deadline is None
    assert PROTOBUF == calls[0].accepts


async def test_the_callers_timeout_is_the_deadline():
    deadlines = []

    async def handler(exchange):
        deadlines.append(exchange.call.deadline)
        await answer_ok(exchange)

    driver = GrpcDriver()
    async with driver.listening(serving(handler)):
        before = asyncio.get_running_loop().time()
        await driver.channel.unary_unary(PATH)(b"", timeout=60)
    assert before < deadlines[0] < before + 61


async def test_headers_of_accept_are_initial_metadata_as_far_as_grpc_can_carry_them():
    async def handler(exchange):
        pairs = (("x-name", "Å"), ("x-raw-bin", "AP8="), ("x bad", "1"), ("grpc-own", "1"), ("content-type", "text/plain"))
        await exchange.accept(Headers(pairs))
        await answer_ok(exchange)

    driver = GrpcDriver()
    async with driver.listening(serving(handler)):
        call = driver.channel.unary_unary(PATH)(b"")
        metadata = dict(await call.initial_metadata())
    assert "x-name" not in metadata, "it is dropped, and counted"
    assert metadata["x-raw-bin"] == b"\x00\xff"
    assert not {"x bad", "grpc-own"} & metadata.keys()


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES])
async def test_what_goes_with_the_end_is_trailing_metadata(many):
    async def handler(exchange):
        await exchange.accept(Headers((("x-shelf", "3"),)))
        await answer_ok(exchange)
        exchange.conclude(Headers((("x-left", "1"), ("x-left", "2"), ("x-key-bin", "dGVh"))))

    driver = GrpcDriver()
    async with driver.listening(serving(handler, many)):
        call = driver.channel.stream_stream(PATH)(iter([b""]))
        assert [b"ok"] == [body async for body in call]
        trailers = await call.trailing_metadata()
    assert ("3", None) == ((await call.initial_metadata())["x-shelf"], (await call.initial_metadata()).get("x-left"))
    assert [("x-left", "1"), ("x-left", "2"), ("x-key-bin", b"tea")] == [pair for pair in trailers if pair[0] != "x-request-id"]


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES])
async def test_an_errors_own_headers_are_initial_metadata(many):
    async def handler(exchange):
        await exchange.receive()
        raise CallerError(Reason.NOT_FOUND, "no tea", details=(AnswerHeaders(Headers((("x-shelf", "3"),))),))

    driver = GrpcDriver()
    async with driver.listening(serving(handler, many)):
        call = driver.channel.stream_stream(PATH)(iter([b""]))
        assert grpc.StatusCode.NOT_FOUND is await call.code()
        assert "3" == (await call.initial_metadata())["x-shelf"]


@pytest.mark.parametrize("requests", [(), (b"1", b"2")])
async def test_a_server_stream_takes_exactly_one_message(requests):
    driver = GrpcDriver()
    async with driver.listening(serving(answer_ok, Many.REPLIES)):
        call = driver.channel.stream_stream(PATH)(iter(requests))
        assert grpc.StatusCode.UNIMPLEMENTED is await call.code()


async def test_a_handler_that_replies_nothing_to_a_unary_call_answers_an_empty_message():
    async def handler(exchange):
        await exchange.receive()

    driver = GrpcDriver()
    async with driver.listening(serving(handler)):
        assert await driver.channel.unary_unary(PATH)(b"x") == b""


# Errors


async def test_what_our_own_code_raises_says_nothing_of_itself(caplog):
    async def handler(_exchange):
        raise KeyError("secret")

    driver = GrpcDriver()
    view = View(find=lambda *_asked: Found(Endpoint("route", handler)))  # without answerable()
    async with driver.listening(view):
        answer = await driver.ask()
    assert Code.INTERNAL == answer.status
    assert "secret" not in answer.text
    assert "secret" in caplog.text


async def test_a_handler_that_was_cancelled_by_nobody_does_not_leave_its_caller_hanging():
    async def handler(_exchange):
        raise asyncio.CancelledError

    driver = GrpcDriver()
    async with driver.listening(serving(handler)):
        assert Code.INTERNAL == (await driver.ask()).status


# Limits


async def test_more_calls_than_allowed_are_refused_as_overloaded():
    started, go_on = future(), asyncio.Event()

    async def handler(exchange):
        await exchange.receive()
        started.set_result(None)
        await go_on.wait()

    driver = GrpcDriver(max_exchanges=1)
    async with driver.listening(serving(handler)), asyncio.TaskGroup() as group:
        first = group.create_task(driver.ask())
        await within(started)
        assert Reason.OVERLOADED.value == (await driver.ask()).reason
        go_on.set()
    assert first.result().clean


async def test_a_connection_more_than_allowed_is_closed():
    driver = GrpcDriver(max_connections=1)
    async with driver.listening(serving(answer_ok)) as address, connected(address) as first:
        await first.say(request(), data(grpc_message(b""), end=True))
        assert (await first.hear()).status == 0
        async with connected(address) as second:
            assert (await second.hear()).closed


async def test_a_message_over_the_limit_is_refused_and_never_read():
    driver = GrpcDriver(max_message=1000)
    async with driver.listening(serving(answer_ok)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await driver.channel.unary_unary(PATH)(b"x" * 1001)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
        assert await driver.channel.unary_unary(PATH)(b"x" * 1000) == b"ok"


async def test_a_gzip_bomb_is_refused_with_memory_flat():
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(press.compress(bytes(1 << 20)) for _ in range(40)) + press.flush()
    driver = GrpcDriver()
    async with driver.listening(serving(answer_ok)) as address, connected(address) as peer:
        before = psutil.Process().memory_info().rss
        body = grpc_message(bomb, flag=1)
        frames = [data(body[at : at + 16000], end=at + 16000 >= len(body)) for at in range(0, len(body), 16000)]
        await peer.say(request(PATH.encode(), (b"grpc-encoding", b"gzip")), *frames)
        assert Code.RESOURCE_EXHAUSTED == (await peer.hear()).status
        assert psutil.Process().memory_info().rss - before < 50 << 20


async def test_silence_after_the_headers_ends_at_the_first_messages_deadline():
    driver = GrpcDriver(first_message_s=0.2)
    async with driver.listening(serving(answer_ok)) as address, connected(address) as peer:
        await peer.say(request())
        assert Code.DEADLINE_EXCEEDED == (await peer.hear()).status


@pytest.mark.parametrize("end", [False, True])
async def test_60_calls_without_a_message_on_one_connection_leave_others_alone(end):
    driver = GrpcDriver()
    async with driver.listening(serving(answer_ok)) as address, connected(address) as peer:
        await peer.say(*[request(end=end, stream=2 * number + 1) for number in range(60)])
        assert (await driver.ask()).clean


# Bad input, in raw HTTP/2


async def raw(driver: GrpcDriver, *frames: bytes, handler=answer_ok, many: Many = Many.NEITHER):
    async with driver.listening(serving(handler, many)) as address, connected(address) as peer:
        await peer.say(*frames)
        return await peer.hear()


async def test_a_unary_call_that_ends_without_its_message_is_internal():
    heard = await raw(GrpcDriver(), request(), data(b"", end=True))
    assert Code.INTERNAL == heard.status
    heard = await raw(GrpcDriver(), request(end=True))
    assert Code.INTERNAL == heard.status


async def test_a_message_that_breaks_off_is_no_message():
    heard = await raw(GrpcDriver(), request(), data(grpc_message(b"whole")[:7], end=True))
    assert Code.INTERNAL == heard.status


async def test_the_second_message_of_a_unary_call_is_never_read():
    got = []

    async def handler(exchange):
        got.extend(await everything(exchange))
        await exchange.send(Message(b"ok", PROTOBUF))

    heard = await raw(GrpcDriver(), request(), data(grpc_message(b"1") + grpc_message(b"2"), end=True), handler=handler)
    assert heard.status == 0
    assert [b"1"] == got


async def test_an_unknown_method_is_unimplemented():
    driver = GrpcDriver()
    async with driver.listening(missing(CallerError(Reason.NO_METHOD, "no route"))) as address, connected(address) as peer:
        await peer.say(request(b"/no.Such/Method"))
        assert Code.UNIMPLEMENTED == (await peer.hear()).status


async def test_an_unknown_encoding_is_an_error_and_its_message_is_not_read():
    """Grpcio answers INTERNAL by itself, where UNIMPLEMENTED is asked for."""
    got = []

    async def handler(exchange):
        got.append(await exchange.receive())

    sent = (request(PATH.encode(), (b"grpc-encoding", b"br")), data(grpc_message(b"x", flag=1), end=True))
    heard = await raw(GrpcDriver(), *sent, handler=handler)
    assert Code.INTERNAL == heard.status
    assert [] == got


async def test_a_compressed_message_that_is_broken_is_an_error():
    sent = (request(PATH.encode(), (b"grpc-encoding", b"gzip")), data(grpc_message(b"x", flag=1), end=True))
    assert Code.INTERNAL == (await raw(GrpcDriver(), *sent)).status


@pytest.mark.parametrize("text", [b"1x", b"-1S", b""])
async def test_a_timeout_that_is_none_is_internal(text):
    heard = await raw(GrpcDriver(), request(PATH.encode(), (b"grpc-timeout", text)), data(grpc_message(b""), end=True))
    assert Code.INTERNAL == heard.status


async def test_a_timeout_that_is_over_already_is_deadline_exceeded():
    heard = await raw(GrpcDriver(), request(PATH.encode(), (b"grpc-timeout", b"0n")), data(grpc_message(b""), end=True))
    assert Code.DEADLINE_EXCEEDED == heard.status


async def test_metadata_that_is_no_text_is_read_as_latin_1():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)
        await answer_ok(exchange)

    await raw(GrpcDriver(), request(PATH.encode(), (b"x-a", b"\xff\xfe")), data(grpc_message(b""), end=True), handler=handler)
    assert calls[0].headers.get("x-a") == "ÿþ"


async def test_metadata_over_the_limit_is_refused():
    driver = GrpcDriver(max_metadata=2000)
    async with driver.listening(serving(answer_ok)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await driver.channel.unary_unary(PATH)(b"", metadata=(("x-a", "y" * 2000),))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()


@pytest.mark.slow
async def test_a_handler_that_takes_nothing_makes_its_caller_wait():
    async def handler(exchange):
        await exchange.receive()
        await future()

    driver = GrpcDriver()
    async with driver.listening(serving(handler, Many.BOTH)):
        call = driver.channel.stream_stream(PATH)()
        written = 0

        async def flood():
            nonlocal written
            while written < 1000:
                async with asyncio.timeout(1):
                    await call.write(bytes(1 << 16))
                written += 1

        with pytest.raises(TimeoutError):
            await flood()
        call.cancel()
    # Each of 64 KiB: those that are read, one in the window, and what the caller itself holds.
    assert written <= 8


# Draining


async def test_a_refusal_while_draining_does_not_hold_the_listener():
    started = future()

    async def handler(exchange):
        started.set_result(None)
        await exchange.receive()
        raise CallerError(Reason.FORBIDDEN, "no")

    driver = GrpcDriver()
    view = serving(handler)
    async with driver.listening(view), driver.conversing() as talk:
        await within(started)
        view.drain_until = asyncio.get_running_loop().time() + 20
        await talk.send(b"")
        await talk.finish()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """One that is its own authority: the files of certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "tls.crt", folder / "tls.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return paths


async def test_tls_asks_for_a_certificate_where_a_client_ca_is_given(certificate):
    chain, key = certificate
    driver = GrpcDriver(tls={"certificate": chain, "key": key, "client_ca": chain})
    public, private = chain.read_bytes(), key.read_bytes()
    async with driver.listening(serving(answer_ok)) as address:
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(public, private, public)) as channel:
            assert await channel.unary_unary(PATH)(b"", timeout=10) == b"ok"
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(public)) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(PATH)(b"", timeout=10)
