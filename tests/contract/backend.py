"""What every backend with the verb `call` promises.

Its tests subclass `CallContract` and give a `rig` fixture:

    class TestContract(CallContract):
        @pytest.fixture
        async def rig(self) -> AsyncIterator[Rig]:
            async with a_real_peer() as peer:
                yield Rig(backend=Config(...), answers=Target("contract", CallTo(...)), ...)

What a backend cannot have (a stub has no peer that could be away) is left None, and its test says that it was skipped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.exchange import Call, Memory, new_id
from gateway.message import Many, Message
from gateway.port import Backend, BackendConfig
from gateway.status import outcome_of
from gateway.target import Target

T = TypeVar("T")

ENOUGH_S = 20.0
"""Far more than anything here takes: it ends a test that hangs."""
SHORT_S = 0.4
"""The deadline given to a call that cannot be answered."""


@dataclass
class Rig:
    """A backend whose peer is there, and what that peer does with the calls of each target. Targets are not `safe`."""

    backend: BackendConfig
    answers: Target
    """Answers `request` with `reply`."""
    request: Message
    reply: Message
    fails: Target | None = None
    """The peer refuses `request` with a status of its own."""
    fails_as: Reason = Reason.BACKEND_NOT_FOUND
    """What that status is to us."""
    hangs: Target | None = None
    """The peer takes `request`, sets `arrived`, never answers, and sets `left` when the call is taken from it."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    nonsense: Target | None = None
    """The peer's answer cannot be read."""
    nonsense_backend: BackendConfig | None = None
    """Where nonsense comes from, if not from the same peer."""
    streams: Target | None = None
    """Answers `request` with each of `stream`."""
    stream: tuple[Message, ...] = ()
    talks: Target | None = None
    """Answers each `request` with a `reply`, for as long as requests come."""
    away: BackendConfig | None = None
    """The same backend where nobody listens."""


def need(thing: T | None, what: str) -> T:
    """The thing, or a visible skip."""
    if thing is None:
        pytest.skip(f"this backend has no {what}")
    return thing


def exchange(*requests: Message, seconds: float | None = ENOUGH_S, many: Many = Many.NEITHER) -> Memory:
    """A call with a deadline."""
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    return Memory(*requests, call=Call(new_id(), "memory", "contract", deadline=deadline, many=many))


async def refusal(backend: Backend, target: Target, memory: Memory) -> GatewayError:
    """The error of a call that must fail, having answered nothing."""
    with pytest.raises(GatewayError) as caught:
        async with asyncio.timeout(ENOUGH_S):
            await backend.handler(target)(memory)
    assert memory.replies == []
    return caught.value


def bodies(messages: tuple[Message, ...] | list[Message]) -> list[tuple[str, bytes]]:
    return [(message.content_type, message.body) for message in messages]


class CallContract:
    """The suite."""

    async def test_one_request_gets_one_reply(self, rig: Rig) -> None:
        async with rig.backend.build() as backend:
            memory = exchange(rig.request)
            await backend.handler(rig.answers)(memory)
            assert bodies([rig.reply]) == bodies(memory.replies)

    async def test_a_call_needs_no_deadline(self, rig: Rig) -> None:
        async with rig.backend.build() as backend:
            memory = exchange(rig.request, seconds=None)
            await backend.handler(rig.answers)(memory)
            assert bodies([rig.reply]) == bodies(memory.replies)

    async def test_one_handler_runs_many_exchanges_at_once(self, rig: Rig) -> None:
        async with rig.backend.build() as backend:
            handler = backend.handler(rig.answers)
            memories = [exchange(rig.request) for _ in range(40)]
            async with asyncio.TaskGroup() as group:
                for memory in memories:
                    group.create_task(handler(memory))
            assert [bodies([rig.reply])] * 40 == [bodies(memory.replies) for memory in memories]

    async def test_a_stream_of_replies_arrives_in_order_and_ends(self, rig: Rig) -> None:
        target = need(rig.streams, "stream of replies")
        async with rig.backend.build() as backend:
            memory = exchange(rig.request, many=Many.REPLIES)
            await backend.handler(target)(memory)
            assert bodies(rig.stream) == bodies(memory.replies)

    async def test_a_conversation_is_answered_message_by_message(self, rig: Rig) -> None:
        target = need(rig.talks, "conversation")
        async with rig.backend.build() as backend:
            memory = exchange(*[rig.request] * 5, many=Many.BOTH)
            await backend.handler(target)(memory)
            assert bodies([rig.reply] * 5) == bodies(memory.replies)

    async def test_an_error_of_the_peer_is_its_own_reason(self, rig: Rig) -> None:
        target = need(rig.fails, "error status of its own")
        async with rig.backend.build() as backend:
            error = await refusal(backend, target, exchange(rig.request))
        assert rig.fails_as == error.reason

    async def test_a_failed_call_leaves_the_next_alone(self, rig: Rig) -> None:
        target = need(rig.fails, "error status of its own")
        async with rig.backend.build() as backend:
            await refusal(backend, target, exchange(rig.request))
            memory = exchange(rig.request)
            await backend.handler(rig.answers)(memory)
            assert bodies([rig.reply]) == bodies(memory.replies)

    async def test_a_peer_that_is_away_is_unreachable_for_certain(self, rig: Rig) -> None:
        async with need(rig.away, "peer that could be away").build() as backend:
            error = await refusal(backend, rig.answers, exchange(rig.request))
        assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))
        assert isinstance(error, BackendError)

    async def test_a_peer_that_hangs_leaves_the_outcome_unknown(self, rig: Rig) -> None:
        target = need(rig.hangs, "peer that could hang")
        async with rig.backend.build() as backend:
            error = await refusal(backend, target, exchange(rig.request, seconds=SHORT_S))
        assert (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN) == (error.reason, outcome_of(error))

    async def test_a_peer_that_hangs_in_a_safe_call_has_failed_for_certain(self, rig: Rig) -> None:
        target = need(rig.hangs, "peer that could hang")
        async with rig.backend.build() as backend:
            error = await refusal(backend, replace(target, safe=True), exchange(rig.request, seconds=SHORT_S))
        assert (Reason.TIMED_OUT, Outcome.FAILED) == (error.reason, outcome_of(error))

    async def test_nonsense_is_a_bad_answer_and_the_outcome_unknown(self, rig: Rig) -> None:
        target = need(rig.nonsense, "peer that could speak nonsense")
        async with (rig.nonsense_backend or rig.backend).build() as backend:
            memory = exchange(rig.request)
            error = await refusal(backend, target, memory)
        assert (Reason.BAD_ANSWER, Outcome.UNKNOWN) == (error.reason, outcome_of(error))
        assert memory.headers is None, "nothing of it may be forwarded"

    async def test_nonsense_in_a_safe_call_has_failed_for_certain(self, rig: Rig) -> None:
        target = need(rig.nonsense, "peer that could speak nonsense")
        async with (rig.nonsense_backend or rig.backend).build() as backend:
            error = await refusal(backend, replace(target, safe=True), exchange(rig.request))
        assert (Reason.BAD_ANSWER, Outcome.FAILED) == (error.reason, outcome_of(error))

    async def test_a_caller_that_leaves_takes_its_call_from_the_peer(self, rig: Rig) -> None:
        target = need(rig.hangs, "peer that could hang")
        async with rig.backend.build() as backend, asyncio.timeout(ENOUGH_S), asyncio.TaskGroup() as group:
            running = group.create_task(backend.handler(target)(exchange(rig.request)))
            await rig.arrived.wait()
            running.cancel()
            await rig.left.wait()
            with suppress(asyncio.CancelledError):
                await running
            assert running.cancelled()

    async def test_entering_does_not_wait_for_the_peer(self, rig: Rig) -> None:
        async with need(rig.away, "peer that could be away").build():
            pass

    async def test_check_returns_when_the_peer_is_there(self, rig: Rig) -> None:
        async with rig.backend.build() as backend, asyncio.timeout(ENOUGH_S):
            await backend.check()

    async def test_check_raises_when_the_peer_is_away(self, rig: Rig) -> None:
        async with need(rig.away, "peer that could be away").build() as backend, asyncio.timeout(ENOUGH_S):
            with pytest.raises(BackendError):
                await backend.check()
