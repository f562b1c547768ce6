"""The exchange: ids, calls, the one in memory, and the relay."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, Reason
from gateway.exchange import Call, EndOfMessages, Memory, Wrapper, first, new_id, relay
from gateway.message import NO_HEADERS, Headers, Many, Message

ONE, TWO = Message(b"1"), Message(b"2")
YES = Headers((("a", "1"),))


def test_no_two_ids_are_the_same():
    assert 1000 == len({new_id() for _ in range(1000)})


def test_a_call_with_another_deadline_or_other_headers_is_otherwise_the_same():
    call = Call("1", "rest", "GET /", YES, {"a": "b"}, (("q", "1"),), Many.BOTH, 1.0, None, "peer", "text/plain", True, True)
    names = list(Call.__slots__)
    for changes in ({"deadline": 2.0}, {"headers": NO_HEADERS}, {"deadline": 2.0, "headers": NO_HEADERS}, {}):
        changed = call.but(**changes)
        assert {**{name: getattr(call, name) for name in names}, **changes} == {name: getattr(changed, name) for name in names}


async def test_a_backend_is_due_a_little_before_its_caller_is_answered():
    now = asyncio.get_running_loop().time()
    assert now + 99.95 == pytest.approx(Call("1", "rest", "", deadline=now + 100).due(30.0), abs=0.01)
    assert now + 0.025 < Call("1", "grpc", "", deadline=now + 0.04).due(30.0) < now + 0.04
    assert Call("1", "grpc", "", deadline=now - 1).due(30.0) <= now - 0.5
    assert now + 30 == pytest.approx(Call("1", "rest", "").due(30.0), abs=1)


async def test_an_exchange_in_memory_gives_its_requests_then_the_end():
    exchange = Memory(ONE, TWO)
    assert [ONE, TWO] == [await exchange.receive(), await exchange.receive()]
    for _ in range(2):
        with pytest.raises(EndOfMessages):
            await exchange.receive()


async def test_it_keeps_its_replies_and_the_first_yes():
    exchange = Memory()
    assert None is exchange.headers
    await exchange.accept(YES)
    await exchange.accept()
    await exchange.send(ONE)
    assert (YES, [ONE]) == (exchange.headers, exchange.replies)


async def test_the_first_reply_says_yes():
    exchange = Memory()
    await exchange.send(ONE)
    assert NO_HEADERS == exchange.headers


async def test_what_goes_with_the_end_reaches_the_caller_through_every_wrapper():
    exchange = Memory()
    Wrapper(Wrapper(exchange)).conclude(YES)
    assert YES == exchange.trailers


async def test_a_wrapper_hands_everything_on():
    exchange = Memory(ONE)
    wrapper = Wrapper(exchange)
    assert exchange.call is wrapper.call
    await wrapper.accept(YES)
    await wrapper.send(await wrapper.receive())
    assert (YES, [ONE]) == (exchange.headers, exchange.replies)
    call = exchange.call.but(deadline=1.0)
    assert call is Wrapper(exchange, call).call


class Peer:
    """The other side of a relay: it answers what it got once it is told that there is no more."""

    def __init__(self, *answers: Message):
        self.got: list[Message] = []
        self.answers = asyncio.Queue()
        self.first = answers
        self.finished = False
        for answer in answers:
            self.answers.put_nowait(answer)

    async def send(self, message):
        self.got.append(message)

    async def finish(self):
        self.finished = True
        for message in self.got:
            self.answers.put_nowait(message)
        self.answers.put_nowait(None)

    async def receive(self):
        answer = await self.answers.get()
        if answer is None:
            raise EndOfMessages
        return answer


async def test_a_relay_pumps_both_ways_until_the_peer_ends():
    exchange, peer = Memory(ONE, TWO), Peer(Message(b"hello"))
    await relay(exchange, peer.send, peer.receive, peer.finish)
    assert [Message(b"hello"), ONE, TWO] == exchange.replies
    assert peer.finished


class Silent(Memory):
    """A caller that has not finished."""

    async def receive(self):
        await asyncio.Event().wait()


async def test_a_peer_that_ends_first_ends_it():
    peer = Peer(ONE)
    peer.answers.put_nowait(None)
    exchange = Silent()
    await relay(exchange, peer.send, peer.receive, peer.finish)
    assert ([ONE], False) == (exchange.replies, peer.finished)


@pytest.mark.parametrize("side", ["send", "receive", "finish"])
async def test_the_first_error_ends_both_ways_and_is_raised_alone(side):
    error = BackendError(Reason.UNREACHABLE, "away")
    peer = Peer()

    async def fails(*_args):
        raise error

    setattr(peer, side, fails)
    with pytest.raises(BackendError) as raised:
        await relay(Memory(ONE), peer.send, peer.receive, peer.finish)
    assert error is raised.value


async def test_a_caller_that_cannot_be_answered_ends_it():
    class Broken(Silent):
        async def send(self, message):
            raise ConnectionResetError

    peer = Peer(ONE)
    with pytest.raises(ConnectionResetError):
        await relay(Broken(), peer.send, peer.receive, peer.finish)


async def test_a_caller_that_goes_away_cancels_both_ways():
    peer, started = Peer(), asyncio.Event()

    async def receive():
        started.set()
        return await Peer().receive()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay(Silent(), peer.send, receive, peer.finish))
        await started.wait()
        task.cancel()
    assert task.cancelled()


def test_the_first_of_a_group_is_found_however_deep():
    error = KeyError("x")
    assert error is first(BaseExceptionGroup("", [BaseExceptionGroup("", [error]), ValueError()]))
