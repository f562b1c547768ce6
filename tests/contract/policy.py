"""What every policy promises, whatever it is for, while it has no reason to refuse.

Its tests subclass `PolicyContract` and give the config as a fixture:

    class TestContract(PolicyContract):
        @pytest.fixture
        def config(self) -> PolicyConfig:
            return Config(limit=1000)
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, GatewayError, Reason, RetryAfter
from gateway.exchange import Call, EndOfMessages, Exchange, Memory
from gateway.message import JSON, Headers, Many, Message
from gateway.part import Part
from gateway.policy import Guard, Policy, PolicyConfig

ODD_HEADERS = [
    (("content-length", ""),),
    (("content-length", "-1"),),
    (("content-length", "\u00b2"),),
    (("traceparent", ""),),
    (("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"), ("tracestate", "a=b")),
    (("traceparent", "\u0660" * 55),),
    (("x-api-key", "\ud800"),),
    tuple((f"x-{number}", "v" * 100) for number in range(100)),
]


def a_call(**changes: object) -> Call:
    """A call as a REST listener would make it."""
    return Call(**{"id": "c-1", "protocol": "rest", "target": "POST /orders/ada", "peer": "192.0.2.1", **changes})


async def echo(exchange: Exchange) -> None:
    """Sends back whatever comes."""
    try:
        while True:
            await exchange.send(await exchange.receive())
    except EndOfMessages:
        pass


class Lock(Memory):
    """A caller that stays, and says no more."""

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the event is never set")


class Behaviour:
    """What holds for whatever a pipeline takes as a policy. Give it as the fixture `policy`."""

    def test_it_says_what_it_guards(self, policy: Policy):
        assert isinstance(policy.guards, Guard)

    async def test_messages_pass_unchanged_and_in_order(self, policy: Policy):
        requests = [Message(str(number).encode(), JSON, key=b"k", headers=Headers((("a", "b"),))) for number in range(20)]
        exchange = Memory(*requests, call=a_call(many=Many.BOTH))
        await policy(exchange, echo)
        assert requests == exchange.replies

    async def test_the_inside_runs_once(self, policy: Policy):
        runs = []

        async def inside(exchange: Exchange) -> None:
            runs.append(exchange.call.id)

        await policy(Memory(call=a_call()), inside)
        assert ["c-1"] == runs

    async def test_what_the_caller_asked_for_stays(self, policy: Policy):
        seen: list[Call] = []
        call = a_call(
            params={"customer": "ada"},
            query=(("a", "1"),),
            many=Many.REPLIES,
            headers=Headers((("accept", "*/*"),)),
            accepts=JSON,
            snapshot=True,
        )

        async def inside(exchange: Exchange) -> None:
            seen.append(exchange.call)

        await policy(Memory(call=call), inside)
        (inner,) = seen
        kept = ("id", "protocol", "target", "params", "query", "many", "peer", "principal", "accepts", "snapshot", "each")
        assert [getattr(call, name) for name in kept] == [getattr(inner, name) for name in kept]
        assert "*/*" == inner.headers.get("accept")

    async def test_what_it_is_accepted_with_passes(self, policy: Policy):
        exchange = Memory(call=a_call())

        async def inside(exchange: Exchange) -> None:
            await exchange.accept(Headers(((":status", "201"), ("location", "/orders/1"))))

        await policy(exchange, inside)
        assert {(":status", "201"), ("location", "/orders/1")} <= set(exchange.headers or ())

    async def test_nothing_is_accepted_before_the_inside_says_so(self, policy: Policy):
        exchange = Memory(Message(b"1"), call=a_call())

        async def inside(inner: Exchange) -> None:
            await inner.receive()
            assert exchange.headers is None

        await policy(exchange, inside)
        assert exchange.headers is None

    async def test_the_end_of_the_messages_reaches_the_inside(self, policy: Policy):
        async def inside(exchange: Exchange) -> None:
            for _ in range(2):
                with pytest.raises(EndOfMessages):
                    await exchange.receive()

        await policy(Memory(call=a_call()), inside)

    async def test_an_error_passes_as_it_is(self, policy: Policy):
        error = BackendError(Reason.UNREACHABLE, "away", details=(RetryAfter(3.0),))

        async def inside(_exchange: Exchange) -> None:
            raise error

        with pytest.raises(GatewayError) as raised:
            await policy(Memory(call=a_call()), inside)
        assert error is raised.value

    @pytest.mark.parametrize("error", [KeyError("x"), TimeoutError("the inside's own")], ids=["KeyError", "TimeoutError"])
    async def test_an_unknown_exception_passes_as_it_is(self, policy: Policy, error: Exception):
        async def inside(_exchange: Exchange) -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            await policy(Memory(call=a_call()), inside)
        assert error is raised.value

    async def test_one_task_may_receive_while_another_sends(self, policy: Policy):
        answered = asyncio.Event()

        class Asking(Memory):
            async def receive(self) -> Message:
                await answered.wait()
                return await super().receive()

        async def inside(exchange: Exchange) -> None:
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(exchange.receive())
                await exchange.send(Message(b"first"))
                answered.set()
            assert b"later" == receiving.result().body

        exchange = Asking(Message(b"later"), call=a_call(many=Many.BOTH))
        await policy(exchange, inside)
        assert [b"first"] == [reply.body for reply in exchange.replies]

    async def test_a_caller_that_goes_away_cancels_the_inside(self, policy: Policy):
        inside_is = asyncio.Event()
        left = []

        async def inside(exchange: Exchange) -> None:
            inside_is.set()
            try:
                await exchange.receive()
            finally:
                left.append(True)

        async with asyncio.TaskGroup() as group:
            run = group.create_task(_run(policy, Lock(call=a_call()), inside))
            await inside_is.wait()
            run.cancel()
        assert run.cancelled()
        assert [True] == left

    async def test_what_failed_or_was_cancelled_leaves_nothing_behind(self, policy: Policy):
        async def fails(_exchange: Exchange) -> None:
            raise BackendError(Reason.UNREACHABLE, "away")

        for _ in range(20):
            with pytest.raises(BackendError):
                await policy(Memory(call=a_call()), fails)
        await self.test_a_caller_that_goes_away_cancels_the_inside(policy)
        await self.test_messages_pass_unchanged_and_in_order(policy)

    async def test_many_exchanges_are_inside_at_once_and_apart(self, policy: Policy):
        every = [Memory(Message(str(number).encode()), call=a_call(id=f"c-{number}")) for number in range(8)]
        together = asyncio.Barrier(len(every))

        async def inside(exchange: Exchange) -> None:
            await together.wait()
            await echo(exchange)

        async with asyncio.TaskGroup() as group:
            for exchange in every:
                group.create_task(_run(policy, exchange, inside))
        assert [[Message(str(number).encode())] for number in range(8)] == [exchange.replies for exchange in every]

    @pytest.mark.parametrize("headers", ODD_HEADERS, ids=lambda headers: f"{headers[0][0]}-{len(headers)}")
    async def test_odd_headers_of_a_caller_are_no_bug(self, policy: Policy, headers: tuple[tuple[str, str], ...]):
        exchange = Memory(Message(b"1"), call=a_call(headers=Headers(headers)))
        await policy(exchange, echo)
        assert [Message(b"1")] == exchange.replies


class PolicyContract(Behaviour):
    """What holds for a policy that a file can name. Give its config as the fixture `config`."""

    @pytest.fixture
    def policy(self, config: PolicyConfig) -> Policy:
        return config.build("orders", "rest")

    def test_its_config_is_frozen_and_refuses_what_it_does_not_know(self, config: PolicyConfig):
        assert isinstance(config, Part)
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            type(config).model_validate({**config.model_dump(), "no_such_setting": 1})

    def test_each_setting_is_described(self, config: PolicyConfig):
        assert [] == [name for name, field in type(config).model_fields.items() if name != "kind" and not field.description]


async def _run(policy: Policy, exchange: Exchange, inside: object) -> None:
    await policy(exchange, inside)
