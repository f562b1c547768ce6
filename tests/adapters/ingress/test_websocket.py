"""The WebSocket listener, over loopback with the library's own client."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from contextlib import suppress

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from adapters.ingress.websocket import Config
from gateway.errors import Allowed, CallerError, GatewayError, Reason, RetryAfter
from gateway.exchange import EndOfMessages
from gateway.listener import View
from gateway.message import BYTES, JSON, PROBLEM, PROTOBUF, TEXT, Headers, Many, Message
from gateway.pipeline import answerable, each
from gateway.route import Endpoint, Found
from gateway.status import TABLE, failure
from gateway.table import Table
from tests.adapters.ingress.raw_websocket import CLOSE, Raw, frame, request
from tests.adapters.ingress.websocket_driver import PATH, WebSocketDriver, problem_of
from tests.contract.driver import PATIENCE_S, missing, serving
from tests.contract.ingress import IngressContract, future, stop, within

MIB = 1 << 20


class TestContract(IngressContract):
    @pytest.fixture
    def driver(self):
        return WebSocketDriver()


def client(address, target=PATH, **settings):
    return connect(f"ws://{address}{target}", proxy=None, compression=None, **settings)


async def refusal(address, **settings):
    with pytest.raises(InvalidStatus) as refused:
        await client(address, **settings)
    return refused.value.response


async def end(socket):
    """Read to the close: (messages, code)."""
    messages = []
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionClosed):
            while True:
                messages.append(await socket.recv())
    return messages, socket.close_code


async def echo(exchange):
    with suppress(EndOfMessages):
        while True:
            await exchange.send(await exchange.receive())


async def one(exchange):
    await exchange.send(await exchange.receive())


# The call


async def test_a_call_has_the_raw_path_and_the_decoded_query():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)

    async with (
        WebSocketDriver().listening(serving(handler)) as address,
        client(address, "/a%2Fb/c?q=green+tea&q=%C3%A9;x&empty&&=1"),
    ):
        pass
    [call] = calls
    assert "/a%2Fb/c" == call.target
    assert (("q", "green tea"), ("q", "é;x"), ("empty", ""), ("", "1")) == call.query
    assert Many.BOTH == call.many
    assert "" == call.accepts


async def test_a_call_has_the_path_variables_of_its_route():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)

    table = Table(lambda _protocol, _error: Endpoint("-", handler))
    table.add("websocket", "", "/feed/{region}", Endpoint("feed", handler, Many.BOTH))
    async with WebSocketDriver().listening(View(find=table.find)) as address, client(address, "/feed/e%20u"):
        pass
    assert {"region": "e u"} == calls[0].params


async def test_the_handshakes_own_headers_are_not_the_calls():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)

    driver = WebSocketDriver(subprotocols=["json"])
    async with driver.listening(serving(handler)) as address, client(address, subprotocols=["json"]):
        pass
    names = {name for name, _ in calls[0].headers}
    assert "host" in names
    assert not [name for name in names if name.startswith("sec-websocket") or name in {"connection", "upgrade"}]


@pytest.mark.parametrize(
    ("offered", "agreed", "accepts"),
    [
        (None, None, ""),
        (["json"], "json", JSON),
        (["chat", "protobuf"], "protobuf", PROTOBUF),
        (["json", "protobuf"], "protobuf", PROTOBUF),
        (["shop.v1"], "shop.v1", ""),
        (["unknown"], None, ""),
    ],
)
async def test_the_first_of_our_subprotocols_that_the_caller_offers_is_agreed_on(offered, agreed, accepts):
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)

    driver = WebSocketDriver(subprotocols=["protobuf", "json", "shop.v1"])
    async with driver.listening(serving(handler)) as address, client(address, subprotocols=offered) as socket:
        assert agreed == socket.subprotocol
    assert accepts == calls[0].accepts


# Messages


@pytest.mark.parametrize(
    ("settings", "sent", "expected"),
    [
        ({}, "{}", (b"{}", JSON)),
        ({}, b"\x08\x01", (b"\x08\x01", PROTOBUF)),
        ({"text": "text"}, "tea", (b"tea", TEXT)),
        ({"binary": "bytes"}, b"tea", (b"tea", BYTES)),
        ({}, ["{", "", "}"], (b"{}", JSON)),
        ({}, [b"\x08", b"\x01"], (b"\x08\x01", PROTOBUF)),
        ({}, "", (b"", JSON)),
        ({}, b"", (b"", PROTOBUF)),
    ],
)
async def test_the_kind_of_a_frame_says_what_it_holds(settings, sent, expected):
    received = future()

    async def handler(exchange):
        message = await exchange.receive()
        received.set_result((message.body, message.content_type))

    async with WebSocketDriver(**settings).listening(serving(handler)) as address, client(address) as socket:
        await socket.send(sent)
        assert expected == await within(received)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message(b"{}", JSON), "{}"),
        (Message("grün".encode(), TEXT), "grün"),
        (Message(b"{}", PROBLEM), "{}"),
        (Message(b"{}", PROTOBUF), b"{}"),
        (Message(b"{}", BYTES), b"{}"),
        (Message(b"{}"), b"{}"),
        (Message(b"\xff", TEXT), b"\xff"),
    ],
)
async def test_text_goes_as_text_and_all_else_as_binary(message, expected):
    async def handler(exchange):
        await exchange.send(message)

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        assert ([expected], 1000) == await end(socket)


async def test_a_message_of_any_size_up_to_the_limit_comes_through():
    async with WebSocketDriver().listening(serving(echo)) as address, client(address) as socket:
        for size in (0, 1, 125, 126, 4096, 4097, 65_535, 65_536, MIB):
            await socket.send(bytes(size))
            assert bytes(size) == await socket.recv()


async def test_many_messages_sent_ahead_come_back_in_order():
    async with WebSocketDriver(max_queue=4).listening(serving(echo)) as address, client(address, max_queue=None) as socket:
        for number in range(5000):
            await socket.send(str(number))
        assert [str(number) for number in range(5000)] == [await socket.recv() for _ in range(5000)]


async def test_small_and_large_replies_and_the_last_problem_keep_their_order():
    sizes = [1, 5000, 2, 300, 70_000, 3, 4]

    async def handler(exchange):
        for size in sizes:
            await exchange.send(Message(bytes(size), BYTES))
        raise GatewayError(Reason.BAD_ANSWER, "it broke")

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        *replies, problem = (await end(socket))[0]
    assert sizes == [len(reply) for reply in replies]
    assert "bad_answer" == problem_of(problem)["reason"]


async def test_a_compressed_conversation_goes_both_ways():
    driver = WebSocketDriver(compression="deflate")
    async with driver.listening(serving(echo)) as address, connect(f"ws://{address}/", proxy=None) as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        await socket.send("tea" * 10_000)
        assert "tea" * 10_000 == await socket.recv()


# Refusing


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_after_acceptance_is_a_last_problem_and_its_close_code(reason):
    async def handler(exchange):
        await exchange.receive()
        raise GatewayError(reason, "not today")

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        await socket.send("{}")
        [problem], code = await end(socket)
        assert isinstance(problem, str)
        assert reason.value == problem_of(problem)["reason"]
        assert TABLE[reason].http == problem_of(problem)["status"]
        assert TABLE[reason].close == code
        assert socket.response.headers["X-Request-Id"] == problem_of(problem)["id"]


@pytest.mark.parametrize("reason", [reason for reason in Reason if TABLE[reason].retryable])
async def test_a_refusal_that_may_be_tried_again_says_when(reason):
    async def handler(_exchange):
        raise GatewayError(reason, "later", details=(RetryAfter(2.5),))

    async with WebSocketDriver().listening(serving(handler)) as address:
        assert "3" == (await refusal(address)).headers["Retry-After"]


async def test_a_refusal_says_how_to_authenticate():
    async def handler(_exchange):
        raise CallerError(Reason.UNAUTHENTICATED, "who are you?", details=(Allowed(('Basic realm="shop"',)),))

    async with WebSocketDriver().listening(serving(handler)) as address:
        assert 'Basic realm="shop"' == (await refusal(address)).headers["WWW-Authenticate"]


async def test_a_miss_is_404():
    async with WebSocketDriver().listening(missing(CallerError(Reason.NOT_FOUND, "no route has this path"))) as address:
        answer = await refusal(address)
    assert 404 == answer.status_code
    assert "no route has this path" == json.loads(answer.body)["detail"]


async def test_a_refusal_of_the_listener_itself_is_observed_like_every_other():
    refused = []

    def refuse(protocol, error):
        async def handler(exchange):
            refused.append((protocol, exchange.call.target, error.reason))
            raise error

        return Endpoint("-", handler)

    view = View(find=lambda *_asked: Found(Endpoint("route", echo)), refuse=refuse)
    async with WebSocketDriver().listening(view) as address:
        await refusal(address, origin="https://evil.example")
    assert [("websocket", PATH, Reason.FORBIDDEN)] == refused


async def test_a_handler_that_does_not_accept_in_time_is_504_and_cancelled():
    cancelled = future()

    async def handler(_exchange):
        try:
            await future()
        finally:
            cancelled.set_result(None)

    async with WebSocketDriver(open_timeout=0.1).listening(serving(handler)) as address:
        answer = await refusal(address)
        await within(cancelled)
    assert 504 == answer.status_code
    assert "timed_out" == json.loads(answer.body)["reason"]


async def test_a_caller_that_leaves_before_the_101_cancels_the_handler():
    begun, cancelled = future(), future()

    async def handler(_exchange):
        begun.set_result(None)
        try:
            await future()
        finally:
            cancelled.set_result(None)

    async with WebSocketDriver().listening(serving(handler)) as address:
        raw = await Raw.connect(address)
        raw.send(request())
        await within(begun)
        await raw.close()
        await within(cancelled)


async def test_a_handler_that_does_nothing_is_a_conversation_that_ends_at_once():
    async def handler(_exchange):
        pass

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        assert ([], 1000) == await end(socket)


async def test_headers_of_accept_do_not_break_the_handshake():
    async def handler(exchange):
        await exchange.accept(Headers((("upgrade", "tea"), ("connection", "close"), ("x-shop", "1"), ("x-shop", "2"))))

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        assert ["1", "2"] == socket.response.headers.get_all("x-shop")
        assert ["websocket"] == socket.response.headers.get_all("Upgrade")


async def test_accepting_twice_is_accepting_once():
    async def handler(exchange):
        await exchange.accept(Headers((("x-first", "1"),)))
        await exchange.accept(Headers((("x-second", "2"),)))

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        assert "x-first" in socket.response.headers
        assert "x-second" not in socket.response.headers


async def test_an_exception_that_nobody_foresaw_closes_with_1011_and_its_text_stays_here(caplog):
    async def handler(exchange):
        await exchange.receive()
        raise KeyError("secret")

    view = View(find=lambda *_asked: Found(Endpoint("route", handler)))
    async with WebSocketDriver().listening(view) as address, client(address) as socket:
        await socket.send("{}")
        [problem], code = await end(socket)
    assert 1011 == code
    assert "bug" == problem_of(problem)["reason"]
    assert "secret" not in problem
    assert "secret" in caplog.text


# Errors within the conversation


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason not in {Reason.UNSUPPORTED, Reason.UNSUPPORTED_ENCODING}]
)
async def test_a_failed_message_is_answered_by_its_problem_and_the_socket_stays_open(reason):
    async def handler(exchange):
        message = await exchange.receive()
        if message.body == b"bad":
            raise GatewayError(reason, "not this one")
        await exchange.send(message)

    async with WebSocketDriver().listening(serving(each(handler))) as address, client(address) as socket:
        for body in ("1", "bad", "2"):
            await socket.send(body)
        assert "1" == await socket.recv()
        problem = await socket.recv()
        assert isinstance(problem, str)
        assert reason.value == problem_of(problem)["reason"]
        assert "2" == await socket.recv()


async def test_a_frame_of_a_kind_that_the_route_does_not_take_is_told_so_and_closes_with_1003():
    async def handler(exchange):
        message = await exchange.receive()
        if message.content_type != PROTOBUF:
            raise CallerError(Reason.UNSUPPORTED, "binary is expected here")
        await exchange.send(message)

    async with WebSocketDriver().listening(serving(each(handler))) as address, client(address) as socket:
        await socket.send(b"\x08\x01")
        await socket.send("{}")
        [reply, problem], code = await end(socket)
    assert b"\x08\x01" == reply
    assert "unsupported" == problem_of(problem)["reason"]
    assert 1003 == code


async def test_a_failure_is_text_though_the_replies_are_binary():
    async def handler(exchange):
        await exchange.send(Message(b"\x08", PROTOBUF))
        await exchange.send(failure(GatewayError(Reason.TIMED_OUT, "too late"), "id"))

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        [reply, problem], code = await end(socket)
    assert b"\x08" == reply
    assert "timed_out" == problem_of(problem)["reason"]
    assert 1000 == code


# The caller's close


async def test_a_close_is_the_end_of_messages_for_who_receives_after_all_that_came_before_it():
    received = future()

    async def handler(exchange):
        bodies = []
        with suppress(EndOfMessages):
            while True:
                bodies.append((await exchange.receive()).body)
        received.set_result(bodies)

    async with WebSocketDriver().listening(serving(handler)) as address:
        raw = await Raw.open(address)
        raw.send(b"".join(frame(1, b"%d" % number) for number in range(10)) + frame(CLOSE, b"\x03\xe8"))
        assert [b"%d" % number for number in range(10)] == await within(received)
        await raw.close()


async def test_what_was_begun_before_the_close_is_finished_though_nobody_hears_of_it():
    begun, go_on, done = future(), asyncio.Event(), future()

    async def handler(exchange):
        message = await exchange.receive()
        begun.set_result(None)
        await go_on.wait()
        await exchange.send(message)
        done.set_result(None)

    async with WebSocketDriver().listening(serving(each(handler))) as address:
        async with client(address) as socket:
            await socket.send("{}")
            await within(begun)
        go_on.set()
        await within(done)


async def test_what_goes_on_after_the_close_is_cancelled_at_the_close_timeout():
    cancelled = future()

    async def handler(exchange):
        with suppress(EndOfMessages):
            await exchange.receive()
        try:
            while True:
                await exchange.send(Message(b"{}", JSON))
        finally:
            cancelled.set_result(None)

    async with WebSocketDriver(close_timeout=0.1).listening(serving(handler)) as address:
        async with client(address):
            pass
        await within(cancelled)


async def test_a_close_cancels_who_does_not_receive():
    begun, cancelled = future(), future()

    async def handler(exchange):
        await exchange.receive()
        begun.set_result(None)
        try:
            await future()
        finally:
            cancelled.set_result(None)

    async with WebSocketDriver().listening(serving(handler)) as address:
        async with client(address) as socket:
            await socket.send("{}")
            await within(begun)
        await within(cancelled)


async def test_a_connection_lost_cancels_even_who_receives():
    cancelled = future()

    async def handler(exchange):
        try:
            while True:
                await exchange.send(await exchange.receive())
        except asyncio.CancelledError:
            cancelled.set_result(None)
            raise

    async with WebSocketDriver().listening(serving(handler)) as address, client(address) as socket:
        await socket.send("{}")
        await socket.recv()
        socket.transport.abort()
        await within(cancelled)


async def test_a_connection_lost_while_replies_wait_is_no_bug(caplog):
    stuck = future()

    async def handler(exchange):
        await exchange.receive()
        await exchange.send(Message(bytes(8 * MIB), BYTES))

    async def watched(exchange):
        try:
            await each(handler)(exchange)
        finally:
            stuck.set_result(None)

    async with WebSocketDriver().listening(serving(watched)) as address:
        raw = await Raw.open(address)
        raw.reader._transport.pause_reading()
        raw.send(frame(1, b"{}") * 4)
        await raw.writer.drain()
        await asyncio.sleep(0.05)
        raw.writer.transport.abort()
        await within(stuck)
    assert "" == caplog.text


# Slow callers


async def test_a_handler_that_never_waits_leaves_others_their_turn():
    async def handler(exchange):
        await exchange.accept()
        while True:
            await exchange.send(Message(b"{}", JSON))

    def find(_protocol, target, *_more):
        return Found(Endpoint("route", answerable(handler if target == "/flood" else echo), Many.BOTH))

    async with (
        WebSocketDriver().listening(View(find=find)) as address,
        client(address, "/flood") as flood,
        client(address, "/echo") as socket,
    ):

        async def read():
            async for _ in flood:
                pass

        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            for _ in range(3):
                await socket.send("{}")
                assert "{}" == await socket.recv()
            reading.cancel()
        flood.transport.abort()


@pytest.mark.slow
async def test_a_thousand_callers_that_stop_reading_leave_memory_flat():
    sent = 0

    async def handler(exchange):
        nonlocal sent
        await exchange.accept()
        message = Message(bytes(1000), BYTES)
        while True:
            await exchange.send(message)
            sent += 1

    async with WebSocketDriver().listening(serving(handler)) as address:
        raws = []
        before = psutil.Process().memory_info().rss
        for _ in range(1000):
            raw = await Raw.open(address)
            raw.reader._transport.pause_reading()
            raws.append(raw)
        last = -1
        while last < sent:
            last = sent
            await asyncio.sleep(0.2)
        assert 200 * MIB > psutil.Process().memory_info().rss - before
        # A caller that reads is served as before.
        async with client(address) as socket:
            assert bytes(1000) == await socket.recv()
        for raw in raws:
            raw.writer.transport.abort()


# Draining


@pytest.mark.slow
async def test_a_stream_of_replies_is_closed_with_1012_when_the_listener_drains():
    async def handler(exchange):
        await exchange.accept()
        await future()

    view = serving(handler, Many.REPLIES)
    async with asyncio.TaskGroup() as group, WebSocketDriver().listening(view) as address:
        ends = [group.create_task(end(await client(address))) for _ in range(20)]
        stop(view, PATIENCE_S)
    assert {1012} == {task.result()[1] for task in ends}


async def test_a_conversation_that_idles_is_ended_with_1012_and_one_under_way_is_answered_first():
    begun, go_on = future(), asyncio.Event()

    async def handler(exchange):
        message = await exchange.receive()
        if message.body == b"slow":
            begun.set_result(None)
            await go_on.wait()
        await exchange.send(message)

    view = serving(each(handler))
    async with asyncio.TaskGroup() as group, WebSocketDriver().listening(view) as address:
        idle, busy = await client(address), await client(address)
        await busy.send("slow")
        await within(begun)
        ends = [group.create_task(end(socket)) for socket in (idle, busy)]
        stop(view, PATIENCE_S)
        ends[0].add_done_callback(lambda _task: go_on.set())
    assert ([], 1012) == ends[0].result()
    assert (["slow"], 1012) == ends[1].result()


@pytest.mark.slow
async def test_a_handshake_under_way_when_the_listener_drains_is_503():
    begun = future()

    async def handler(_exchange):
        begun.set_result(None)
        await future()

    view = serving(handler)
    async with WebSocketDriver().listening(view) as address:
        asked, silent = await Raw.connect(address), await Raw.connect(address)
        asked.send(request())
        await within(begun)
        stop(view, 1)
    assert 503 == (await asked.http()).status
    assert 503 == (await silent.http()).status
    await asked.close()
    await silent.close()


async def test_a_caller_that_was_let_in_at_the_last_moment_opens_and_is_closed_with_1012():
    view = serving(each(echo))
    async with WebSocketDriver().listening(view) as address:
        late = await Raw.connect(address)
        async with client(address):
            pass  # the first is let in before the second
        stop(view, PATIENCE_S)
        asyncio.get_running_loop().call_later(0.05, late.send, request())
    assert 101 == (await late.http()).status
    assert (CLOSE, (1012).to_bytes(2, "big") + b"restarting") == await late.frame()
    await late.close()


async def test_a_caller_that_does_not_answer_the_close_does_not_hold_the_drain_up():
    async def handler(exchange):
        await exchange.accept()
        await future()

    view = serving(handler)
    async with WebSocketDriver().listening(view) as address:
        raw = await Raw.open(address)
        stop(view, 0.2)
    assert (CLOSE, (1012).to_bytes(2, "big") + b"restarting") == await raw.frame()
    await raw.gone()
    await raw.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    names = [str(folder / name) for name in ("tls.crt", "tls.key")]
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return names


async def test_the_listener_speaks_tls(certificate):
    context = ssl.create_default_context(cafile=certificate[0])
    driver = WebSocketDriver(tls={"certificate": certificate[0], "key": certificate[1]})
    async with driver.listening(serving(echo)) as address, connect(f"wss://{address}/", ssl=context, proxy=None) as socket:
        await socket.send("{}")
        assert "{}" == await socket.recv()


async def test_a_caller_without_the_certificate_that_is_asked_for_gets_nowhere(certificate):
    context = ssl.create_default_context(cafile=certificate[0])
    tls = {"certificate": certificate[0], "key": certificate[1], "client_ca": certificate[0]}
    async with WebSocketDriver(tls=tls).listening(serving(echo)) as address:
        with pytest.raises((ssl.SSLError, OSError, InvalidMessage)):
            async with connect(f"wss://{address}/", ssl=context, proxy=None):
                pass
        context.load_cert_chain(*certificate)
        async with connect(f"wss://{address}/", ssl=context, proxy=None) as socket:
            await socket.send("{}")
            assert "{}" == await socket.recv()


def test_the_size_policy_takes_its_default_from_the_listener():
    assert 5 == Config(kind="websocket", bind="127.0.0.1:0", max_message=5).limit()
