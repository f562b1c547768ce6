"""What every ingress promises, proved over its real wire. See `gateway.exchange.Exchange` and `gateway.listener.Ingress`.

A listener kind runs it by a `Driver` of its own:

    class TestContract(IngressContract):
        @pytest.fixture
        def driver(self) -> Driver:
            return GrpcDriver()

What a wire does not have is declared in its driver and skipped by name, so that it stays visible.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import psutil
import pytest

from gateway.errors import CallerError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange
from gateway.listener import View
from gateway.message import STARTS, Headers, Many, Message
from tests.contract.driver import PATIENCE_S, SENT, Conversation, Driver, EndedError, missing, serving

T = TypeVar("T")

CHUNK = b'"' + b"x" * ((1 << 16) - 2) + b'"'
# More than the buffers of both ends and the kernel hold together; what an ingress that does not wait would pile up.
FLOOD = 4096
STALLED_AFTER_S = 1.0
FLAT_BYTES = 64 << 20


async def within(future: asyncio.Future[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        return await future


def future() -> asyncio.Future[T]:
    return asyncio.get_running_loop().create_future()


async def everything(exchange: Exchange) -> list[bytes]:
    """Every message of the caller, to its end."""
    bodies = []
    try:
        while True:
            bodies.append((await exchange.receive()).body)
    except EndOfMessages:
        return bodies


async def end_of(talk: Conversation) -> EndedError:
    with pytest.raises(EndedError) as ended:
        await talk.receive()
    return ended.value


class IngressContract:
    """Inherited by the tests of every listener kind."""

    @pytest.fixture
    def driver(self) -> Driver:
        raise NotImplementedError("the listener's own test says which driver")

    @pytest.fixture
    def replies_stream(self, driver):
        if not driver.wire & Many.REPLIES:
            pytest.skip("this wire carries one reply")

    @pytest.fixture
    def requests_stream(self, driver):
        if not driver.wire & Many.REQUESTS:
            pytest.skip("this wire carries one request")

    def message(self, driver: Driver, body: bytes) -> Message:
        return Message(body, driver.content_type)

    # One in, one out

    async def test_one_message_in_is_answered_by_one_out(self, driver):
        async def handler(exchange):
            received = await exchange.receive()
            await exchange.send(self.message(driver, b"[" + received.body + b"]"))

        async with driver.listening(serving(handler)):
            answer = await driver.ask(b'{"n":1}')
        assert (b'[{"n":1}]',) == answer.bodies
        assert answer.clean

    async def test_a_message_that_is_empty_is_a_message(self, driver):
        async def handler(exchange):
            received = await exchange.receive()
            await exchange.send(self.message(driver, b'"%d"' % len(received.body)))

        async with driver.listening(serving(handler)):
            answer = await driver.ask(b"")
        assert (b'"0"',) == answer.bodies

    async def test_after_the_one_message_comes_the_end(self, driver):
        async def handler(exchange):
            bodies = await everything(exchange) if driver.half_close else [(await exchange.receive()).body]
            await exchange.send(self.message(driver, b"[" + b",".join(bodies) + b"]"))

        async with driver.listening(serving(handler)):
            answer = await driver.ask(b'{"n":1}')
        assert (b'[{"n":1}]',) == answer.bodies

    async def test_a_call_says_who_asked_for_what(self, driver):
        calls: list[Call] = []

        async def handler(exchange):
            calls.append(exchange.call)
            await exchange.receive()
            await exchange.send(self.message(driver, b"{}"))

        async with driver.listening(serving(handler)):
            answer = await driver.ask()
        [call] = calls
        assert (driver.protocol, driver.target) == (call.protocol, call.target)
        assert SENT[1] == call.headers.get(SENT[0])
        assert call.peer == "127.0.0.1"
        assert driver.least == call.many
        assert all(name == name.lower() and not name.startswith(":") for name, _ in call.headers)
        assert call.id == answer.id

    async def test_headers_of_accept_reach_the_caller_but_not_those_of_our_own(self, driver):
        async def handler(exchange):
            await exchange.accept(Headers((("x-served-by", "shop"), (":status", "201"))))
            await exchange.receive()
            await exchange.send(self.message(driver, b"{}"))

        async with driver.listening(serving(handler)):
            answer = await driver.ask()
        assert answer.headers.get("x-served-by") == "shop"
        assert not [name for name, _ in answer.headers if name.startswith(":")]

    # Streams

    @pytest.mark.usefixtures("replies_stream")
    async def test_a_stream_comes_out_in_order_and_ends_cleanly(self, driver):
        async def handler(exchange):
            await exchange.receive()
            for number in range(500):
                await exchange.send(self.message(driver, b'{"n":%d}' % number))

        async with driver.listening(serving(handler, Many.REPLIES)):
            answer = await driver.ask()
        assert tuple(b'{"n":%d}' % number for number in range(500)) == answer.bodies
        assert answer.clean

    @pytest.mark.usefixtures("replies_stream")
    async def test_a_stream_may_be_empty(self, driver):
        async def handler(exchange):
            await exchange.receive()

        async with driver.listening(serving(handler, Many.REPLIES)):
            answer = await driver.ask()
        assert () == answer.bodies
        assert answer.clean

    @pytest.mark.usefixtures("replies_stream")
    async def test_a_message_of_a_stream_is_sent_at_once(self, driver):
        go_on = asyncio.Event()

        async def handler(exchange):
            await exchange.receive()
            await exchange.send(self.message(driver, b"1"))
            await go_on.wait()
            await exchange.send(self.message(driver, b"2"))

        async with driver.listening(serving(handler, Many.REPLIES)), driver.conversing() as talk:
            await talk.send(b"{}")
            await talk.finish()
            assert await talk.receive() == b"1"
            go_on.set()
            assert await talk.receive() == b"2"
            assert (await end_of(talk)).answer.clean

    @pytest.mark.usefixtures("replies_stream", "requests_stream")
    async def test_both_sides_may_speak_in_turn(self, driver):
        async def handler(exchange):
            try:
                while True:
                    await exchange.send(self.message(driver, (await exchange.receive()).body))
            except EndOfMessages:
                pass

        async with driver.listening(serving(handler, Many.BOTH)), driver.conversing() as talk:
            for number in range(5):
                await talk.send(b"%d" % number)
                assert b"%d" % number == await talk.receive()
            if driver.half_close:
                await talk.finish()
                assert (await end_of(talk)).answer.clean

    @pytest.mark.usefixtures("requests_stream")
    async def test_many_requests_may_have_one_reply(self, driver):
        async def handler(exchange):
            await exchange.send(self.message(driver, b"+".join(await everything(exchange))))

        if not driver.half_close:
            pytest.skip("this wire has no half-close")
        async with driver.listening(serving(handler, Many.REQUESTS)), driver.conversing() as talk:
            for number in range(5):
                await talk.send(b"%d" % number)
            await talk.finish()
            assert await talk.receive() == b"0+1+2+3+4"
            assert (await end_of(talk)).answer.clean

    @pytest.mark.usefixtures("requests_stream")
    async def test_half_of_a_callers_messages_never_pass_for_all(self, driver):
        heard, ended = asyncio.Event(), future()

        async def handler(exchange):
            try:
                while True:
                    await exchange.receive()
                    heard.set()
            except BaseException as error:
                ended.set_result(type(error))
                raise

        if not driver.half_close:
            pytest.skip("this wire has no half-close")
        async with driver.listening(serving(handler, Many.REQUESTS)), driver.conversing() as talk:
            await talk.send(b"1")
            await heard.wait()
            await talk.leave()
            assert asyncio.CancelledError is await within(ended)

    # Errors

    @pytest.mark.parametrize("reason", list(Reason))
    async def test_a_refusal_says_its_reason_by_the_one_table(self, driver, reason):
        ids = []

        async def handler(exchange):
            ids.append(exchange.call.id)
            raise GatewayError(reason, "not today")

        async with driver.listening(serving(handler)):
            answer = await driver.ask()
        assert () == answer.bodies
        assert not answer.clean
        assert driver.status(reason) == answer.status
        assert reason.value == answer.reason
        assert "not today" in answer.text
        assert ids == [answer.id]

    @pytest.mark.usefixtures("replies_stream")
    async def test_a_stream_may_be_refused_before_it_begins(self, driver):
        async def handler(exchange):
            raise CallerError(Reason.FORBIDDEN, "not you")

        async with driver.listening(serving(handler, driver.wire)):
            answer = await driver.ask()
        assert driver.status(Reason.FORBIDDEN) == answer.status
        assert not answer.clean

    @pytest.mark.usefixtures("replies_stream")
    async def test_an_error_after_the_first_message_is_never_a_clean_end(self, driver):
        async def handler(exchange):
            await exchange.receive()
            await exchange.send(self.message(driver, b"1"))
            raise GatewayError(Reason.BAD_ANSWER, "it broke")

        async with driver.listening(serving(handler, driver.wire)):
            answer = await driver.ask()
        assert (b"1",) == answer.bodies
        assert not answer.clean
        assert Reason.BAD_ANSWER.value == answer.reason

    async def test_an_unknown_exception_is_a_bug_of_ours_and_its_text_stays_here(self, driver, caplog):
        ids = []

        async def handler(exchange):
            ids.append(exchange.call.id)
            raise KeyError("secret")

        async with driver.listening(serving(handler)):
            answer = await driver.ask()
        assert driver.status(Reason.BUG) == answer.status
        assert Reason.BUG.value == answer.reason
        assert "secret" not in answer.text
        assert "KeyError" not in answer.text
        assert ids[0] in answer.text
        assert "secret" in caplog.text

    async def test_a_miss_is_answered_with_its_error(self, driver):
        async with driver.listening(missing(CallerError(Reason.NO_METHOD, "no route has this"))):
            answer = await driver.ask()
        assert driver.status(Reason.NO_METHOD) == answer.status
        assert Reason.NO_METHOD.value == answer.reason
        assert answer.id

    # Leaving, waiting

    async def test_a_caller_that_leaves_cancels_the_handler(self, driver):
        started, cancelled = future(), future()

        async def handler(exchange):
            await exchange.receive()
            started.set_result(None)
            try:
                await future()
            except asyncio.CancelledError:
                cancelled.set_result(None)
                raise

        async with driver.listening(serving(handler)), driver.conversing() as talk:
            await talk.send(b"{}")
            await talk.finish()
            await within(started)
            await talk.leave()
            await within(cancelled)

    @pytest.mark.usefixtures("replies_stream")
    async def test_a_caller_that_leaves_in_mid_stream_cancels_the_handler(self, driver):
        cancelled = future()

        async def handler(exchange):
            await exchange.receive()
            try:
                while True:
                    await exchange.send(self.message(driver, b"1"))
                    await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                cancelled.set_result(None)
                raise

        async with driver.listening(serving(handler, Many.REPLIES)), driver.conversing() as talk:
            await talk.send(b"{}")
            await talk.finish()
            await talk.receive()
            await talk.leave()
            await within(cancelled)

    @pytest.mark.usefixtures("replies_stream")
    @pytest.mark.slow
    async def test_a_slow_reader_makes_send_wait_and_loses_nothing(self, driver):
        stalled = future()
        before = psutil.Process().memory_info().rss

        async def handler(exchange):
            await exchange.receive()
            async with asyncio.TaskGroup() as group:
                for number in range(FLOOD):
                    sending = group.create_task(exchange.send(self.message(driver, CHUNK)))
                    await asyncio.wait({sending}, timeout=STALLED_AFTER_S)
                    if not sending.done():
                        stalled.set_result(number)
                        break
                else:
                    stalled.set_result(FLOOD)

        async with driver.listening(serving(handler, Many.REPLIES)), driver.conversing() as talk:
            await talk.send(b"{}")
            await talk.finish()
            assert await talk.receive() == CHUNK
            sent = await within(stalled)
            assert sent < FLOOD
            assert FLAT_BYTES > psutil.Process().memory_info().rss - before
            for _ in range(sent):
                assert await talk.receive() == CHUNK
            assert (await end_of(talk)).answer.clean

    # Draining

    async def test_an_exchange_under_way_is_answered_while_the_listener_drains(self, driver):
        started, go_on = future(), asyncio.Event()

        async def handler(exchange):
            await exchange.receive()
            started.set_result(None)
            await go_on.wait()
            await exchange.send(self.message(driver, b"{}"))

        view = serving(handler)
        async with asyncio.TaskGroup() as group, driver.listening(view):
            asking = group.create_task(driver.ask())
            await within(started)
            stop(view, PATIENCE_S)
            group.create_task(after_a_turn(go_on.set))
        assert (b"{}",) == asking.result().bodies
        assert asking.result().clean

    async def test_what_outlasts_the_drain_is_cancelled_and_not_told_success(self, driver):
        started, cancelled = future(), future()

        async def handler(exchange):
            await exchange.receive()
            started.set_result(None)
            try:
                await future()
            except asyncio.CancelledError:
                cancelled.set_result(None)
                raise

        view = serving(handler)
        async with asyncio.TaskGroup() as group:
            async with driver.listening(view):
                asking = group.create_task(driver.ask())
                await within(started)
                stop(view, 0.2)
            await within(cancelled)
        assert not asking.result().clean

    @pytest.mark.usefixtures("replies_stream")
    @pytest.mark.parametrize(("many", "finishes"), [(Many.REPLIES, True), (Many.BOTH, True), (Many.BOTH, False)])
    async def test_a_stream_of_a_topic_is_ended_in_its_turn_and_told_where_it_is_gone_on_with(self, driver, many, finishes):
        """Not with all the others at the end of the drain: they would come back all at once."""
        heard = future()

        async def handler(exchange):
            await exchange.receive()
            await exchange.accept(Headers(((STARTS, "0:7"),)))
            await exchange.send(replace(self.message(driver, b"{}"), cursor="0:8"))
            with suppress(EndOfMessages):  # it listens
                await exchange.receive()
            await future()

        async def told():
            async with driver.conversing() as talk:
                await talk.send(b"{}")
                if finishes:
                    await talk.finish()
                assert b"{}" == await talk.receive()
                heard.set_result(None)
                return (await end_of(talk)).answer

        view = serving(handler, many)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group, driver.listening(view):
            telling = group.create_task(told())
            await within(heard)
            stop(view, 3600)
        assert not telling.result().clean
        assert "0:8" in telling.result().text

    @pytest.mark.usefixtures("replies_stream")
    async def test_an_error_that_ends_a_stream_of_a_topic_tells_where_it_is_gone_on_with(self, driver):
        async def handler(exchange):
            await exchange.receive()
            await exchange.accept(Headers(((STARTS, "0:7"),)))
            raise GatewayError(Reason.OVERLOADED, "call again")

        async with driver.listening(serving(handler, Many.REPLIES)), driver.conversing() as talk:
            await talk.send(b"{}")
            await talk.finish()
            assert "0:7" in (await end_of(talk)).answer.text

    async def test_a_listener_can_be_left_twice_over_without_a_call(self, driver):
        async def handler(exchange):
            raise AssertionError("nobody calls")

        for _ in range(2):
            async with driver.listening(serving(handler)):
                pass


def stop(view: View, seconds: float) -> None:
    """What the server does before it leaves its listeners."""
    view.ready = False
    view.drain_until = asyncio.get_running_loop().time() + seconds


async def after_a_turn(work) -> None:
    """Run `work` once whoever waits now has been served: the listener has begun to drain."""
    for _ in range(10):
        await asyncio.sleep(0)
    work()
