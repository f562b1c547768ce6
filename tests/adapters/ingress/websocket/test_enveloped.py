"""The subprotocol polygate.v1 on the listener: what its envelopes say and what they may not, over the library's own client."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adapters.ingress.websocket import Config
from adapters.websocket.envelope import END, SUBPROTOCOL, Envelope, read, write
from gateway.errors import BackendError, CallerError, GatewayError, Reason, RpcStatus
from gateway.exchange import EndOfMessages
from gateway.message import JSON, PROTOBUF, Headers, Many, Message
from gateway.pipeline import conversation
from gateway.status import failure
from tests.adapters.ingress.websocket_driver import PATH, EnvelopedDriver
from tests.contract.driver import Driver, serving
from tests.contract.ingress import IngressContract


class TestContract(IngressContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return EnvelopedDriver()


class Talk:
    """A listener and one caller of it."""

    def __init__(self, handler, many=Many.BOTH, *, each=False, **settings) -> None:
        self._config = Config.model_validate({"kind": "websocket", "bind": "127.0.0.1:0", **settings})
        self._view = serving(handler, many, each=each)

    async def __aenter__(self):
        self._serving = self._config.build("live", self._view).serving()
        self.address = await self._serving.__aenter__()
        self.socket = await connect(f"ws://{self.address}{PATH}", subprotocols=[SUBPROTOCOL], proxy=None)
        return self

    async def __aexit__(self, *error):
        await self.socket.close()
        await self._serving.__aexit__(*error)

    async def say(self, **said):
        await self.socket.send(json.dumps(said))

    async def heard(self):
        """Every frame to the end, and the close code."""
        frames = []
        try:
            async with asyncio.timeout(20):
                while True:
                    frames.append(json.loads(await self.socket.recv()))
        except ConnectionClosed:
            return frames, self.socket.close_code


async def collect(exchange):
    """Answers with all that was asked, once it was all asked."""
    bodies = []
    try:
        while True:
            bodies.append((await exchange.receive()).body)
    except EndOfMessages:
        await exchange.send(Message(b"[" + b",".join(bodies) + b"]", JSON))


async def test_the_end_of_the_messages_is_said_and_the_reply_still_comes():
    async with Talk(collect, Many.REQUESTS) as talk:
        await talk.say(message={"a": 1})
        await talk.say(message=[2])
        await talk.say(end=True)
        frames, code = await talk.heard()
    assert [{"message": [{"a": 1}, [2]]}, {"trailers": {}}] == frames[1:]
    assert ["x-request-id"] == list(frames[0]["headers"])
    assert 1000 == code


async def test_no_message_at_all_is_an_empty_stream():
    async with Talk(collect, Many.REQUESTS) as talk:
        await talk.say(end=True)
        frames, _ = await talk.heard()
    assert [{"message": []}, {"trailers": {}}] == frames[1:]


async def test_a_method_that_replies_at_the_end_cannot_be_called_by_bare_frames():
    async with Talk(collect, Many.REQUESTS) as talk:
        for offered in ([], ["chat.v9"]):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://{talk.address}{PATH}", subprotocols=offered or None, proxy=None)
            answer = caught.value.response
            assert 426 == answer.status_code
            assert SUBPROTOCOL == answer.headers["Sec-WebSocket-Protocol"]
            assert SUBPROTOCOL in json.loads(answer.body)["detail"]


async def test_the_callers_first_frame_may_be_its_headers_and_they_take_the_place_of_the_handshakes():
    calls = []

    async def handler(exchange):
        calls.append(exchange.call)
        await exchange.send(Message(b"1", JSON))

    async with Talk(handler) as talk:
        headers = {"Authorization": "Bearer x", "User-Agent": ["me"], "x-two": ["1", "2"], "upgrade": "no"}
        await talk.say(headers={**headers, "grpc-timeout": "5S"})
        await talk.heard()
    [call] = calls
    assert "Bearer x" == call.headers.get("authorization")
    assert ("me",) == call.headers.all("user-agent")
    assert ("1", "2") == call.headers.all("x-two")
    assert call.headers.get("upgrade") is None
    left = call.deadline - asyncio.get_running_loop().time()
    assert 0 < left <= 5


async def test_nothing_runs_before_the_first_frame():
    ran = asyncio.Event()

    async def handler(_exchange):
        ran.set()

    async with Talk(handler) as talk:
        waiter = await talk.socket.ping()
        await waiter
        assert not ran.is_set()
        await talk.say(headers={})
        assert ([{"trailers": {}}], 1000) == await talk.heard()
        assert ran.is_set()


async def test_a_caller_who_never_begins_is_told_and_let_go():
    async def handler(_exchange):
        raise AssertionError("it has not begun")

    async with Talk(handler, open_timeout=0.2) as talk:
        [frame], code = await talk.heard()
    assert ("slow_request", 3008) == (frame["error"]["reason"], code)


async def test_what_accept_is_told_comes_first_and_what_goes_with_the_end_comes_last():
    async def handler(exchange):
        await exchange.receive()
        await exchange.accept(Headers([("x-served-by", "shop"), (":status", "201"), ("x-two", "1"), ("x-two", "2")]))
        await exchange.send(Message(b"{}", JSON))
        exchange.conclude(Headers([("x-cost", "3")]))

    async with Talk(handler) as talk:
        await talk.say(message=1)
        [head, message, trailers], _ = await talk.heard()
    assert {"x-served-by": ["shop"], "x-two": ["1", "2"]} == {
        name: values for name, values in head["headers"].items() if name != "x-request-id"
    }
    assert ({"message": {}}, {"trailers": {"x-cost": ["3"]}}) == (message, trailers)


async def test_an_error_is_a_frame_and_what_came_with_it_stands_before():
    async def handler(exchange):
        await exchange.receive()
        await exchange.send(Message(b"1", JSON))
        status = RpcStatus("no such sku", b"\x01\x02", Headers([("x-cost", "3")]))
        raise BackendError(Reason.BACKEND_NOT_FOUND, "no such sku", details=(status,))

    async with Talk(handler) as talk:
        await talk.say(message=1)
        frames, code = await talk.heard()
    assert {"trailers": {"x-cost": ["3"], "grpc-status-details-bin": ["AQI="]}} == frames[2]
    assert ("NOT_FOUND", "no such sku") == (frames[3]["error"]["code"], frames[3]["error"]["detail"])
    assert 1011 == code


async def test_where_each_message_is_answered_by_itself_an_error_is_one_answer():
    async def handler(exchange):
        for number in range(2):
            await exchange.receive()
            error = failure(CallerError(Reason.INVALID, "no"), f"7.{number}")
            await exchange.send(error if number == 0 else Message(b"2", JSON))

    async with Talk(handler) as talk:
        await talk.say(message=1)
        await talk.say(message=2)
        await talk.say(end=True)
        frames, code = await talk.heard()
    assert "7.0" == frames[1]["error"]["id"]
    assert ([{"message": 2}, {"trailers": {}}], 1000) == (frames[2:], code)


@pytest.mark.parametrize(
    ("frames", "reason", "code"),
    [
        (['{"massage":1}'], "malformed", 1007),
        (["hello"], "malformed", 1007),
        (['{"message":1}', '{"headers":{}}'], "protocol", 1002),
        (['{"end":true}', '{"message":1}'], "protocol", 1002),
        (['{"end":true}', '{"end":true}'], "protocol", 1002),
        (['{"trailers":{}}'], "protocol", 1002),
        (['{"error":{}}'], "protocol", 1002),
        (['{"headers":{"grpc-timeout":"soon"}}'], "protocol", 1002),
        (['{"headers":{"x-a":' + json.dumps(["v"] * 101) + "}}"], "headers_too_large", 1009),
        (['{"headers":{"x-a":"' + "v" * 9000 + '"}}'], "headers_too_large", 1009),
        ([b"\xff"], "malformed", 1007),
    ],
)
async def test_what_is_no_envelope_or_has_no_place_ends_the_call(frames, reason, code):
    async def handler(exchange):
        await exchange.receive()
        await asyncio.get_running_loop().create_future()

    async with Talk(handler) as talk:
        for frame in frames:
            await talk.socket.send(frame)
        frames, closed = await talk.heard()
    assert (reason, code) == (frames[-1]["error"]["reason"], closed)


async def test_where_each_message_is_answered_by_itself_a_wrong_frame_ends_the_call_after_those_before_it():
    wrong = asyncio.Event()

    async def handler(exchange):
        message = await exchange.receive()
        await wrong.wait()
        await exchange.send(message)

    async with Talk(conversation([], handler), each=True) as talk:
        await talk.say(message=1)
        await talk.say(message=2)
        for frame in ("hello", '{"message":3}', '{"massage":4}'):
            await talk.socket.send(frame)
        await (await talk.socket.ping())
        wrong.set()
        [_, *answers, last], code = await talk.heard()
    assert [{"message": 1}, {"message": 2}] == answers
    assert ("malformed", "failed", 1007) == (last["error"]["reason"], last["error"]["outcome"], code)


async def test_what_came_of_messages_before_a_wrong_frame_is_unknown_where_they_are_answered_together():
    taken = asyncio.Event()

    async def handler(exchange):
        await exchange.receive()
        taken.set()
        await collect(exchange)

    async with Talk(handler, Many.REQUESTS) as talk:
        await talk.say(message=1)
        await taken.wait()
        await talk.socket.send("hello")
        [last], code = await talk.heard()
    assert ("malformed", "unknown", 1007) == (last["error"]["reason"], last["error"]["outcome"], code)


async def test_binary_envelopes_carry_protobuf_and_are_answered_in_kind():
    seen = []

    async def handler(exchange):
        seen.append((exchange.call.accepts, await exchange.receive()))
        await exchange.send(Message(b"\x08\x02", PROTOBUF))

    async with Talk(handler) as talk:
        await talk.socket.send(write(Envelope("headers", headers=Headers([("x-a", "1")])), text=False))
        await talk.socket.send(write(Envelope("message", b"\x08\x01"), text=False))
        await talk.socket.send(write(END, text=False))
        answers = [read(await talk.socket.recv(decode=False), text=False) for _ in range(3)]
    assert [(PROTOBUF, Message(b"\x08\x01", PROTOBUF))] == seen
    assert ["headers", "message", "trailers"] == [one.kind for one in answers]
    assert b"\x08\x02" == answers[1].body


async def test_a_caller_that_closes_before_the_answer_has_cancelled_however_politely():
    ended = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def handler(exchange):
        asked.set()
        try:
            while True:
                await exchange.receive()
        except BaseException as error:
            ended.set_result(type(error))
            raise

    async with Talk(handler) as talk:
        await talk.say(message=1)
        await asked.wait()
        await talk.socket.close()
        async with asyncio.timeout(20):
            assert asyncio.CancelledError is await ended


async def test_half_of_a_callers_messages_never_pass_for_all_when_the_gateway_stops():
    ended = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def handler(exchange):
        try:
            await exchange.receive()
            asked.set()
            await exchange.receive()
        except BaseException as error:
            ended.set_result(type(error))
            raise

    talk = Talk(handler, Many.REQUESTS)
    async with talk:
        await talk.say(message=1)
        await asked.wait()
        talk._view.ready = False
        talk._view.drain_until = asyncio.get_running_loop().time() + 5
        (frames, code), _ = await asyncio.gather(talk.heard(), talk._serving.__aexit__(None, None, None))
        assert asyncio.CancelledError is ended.result()
        assert ("overloaded", 1012) == (frames[-1]["error"]["reason"], code)
        talk._serving = talk._config.build("live", talk._view).serving()
        await talk._serving.__aenter__()


@pytest.mark.parametrize("offer", ["polygate.v1,,json", "polygate.v1, polygate.v1", "a b", ","])
async def test_an_offer_of_subprotocols_that_is_none_is_malformed(offer):
    async with Talk(collect) as talk:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://{talk.address}{PATH}", additional_headers={"Sec-WebSocket-Protocol": offer}, proxy=None)
        assert 400 == caught.value.response.status_code


async def test_a_miss_is_told_in_the_handshake():
    async def missing(_exchange):
        raise GatewayError(Reason.NOT_FOUND, "no route has this path")

    driver = EnvelopedDriver()
    view = serving(missing)
    found = view.find("websocket", "")
    found.error = GatewayError(Reason.NOT_FOUND, "no route has this path")
    view.find = lambda *_args: found
    async with driver.listening(view) as address:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://{address}{PATH}", subprotocols=[SUBPROTOCOL], proxy=None)
    assert 404 == caught.value.response.status_code
