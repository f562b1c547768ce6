"""The policy `size`."""

from __future__ import annotations

import pytest

from gateway.errors import CallerError, Reason
from gateway.exchange import Memory
from gateway.message import Headers, Many, Message
from gateway.policy import Guard
from gateway.policy.size import Config
from tests.contract.policy import PolicyContract, a_call, echo


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config()


def test_it_is_written_with_a_unit_and_guards_messages():
    config = Config.model_validate({"kind": "size", "limit": "64KiB"})
    assert 65_536 == config.limit
    assert 1 << 20 == Config().limit
    assert Guard.MESSAGE is config.build("orders", "rest").guards


async def test_a_message_of_just_the_limit_passes():
    exchange = Memory(Message(b"1234"), call=a_call(headers=Headers((("content-length", "4"),))))
    await Config(limit=4).build("orders", "rest")(exchange, echo)
    assert [Message(b"1234")] == exchange.replies


@pytest.mark.parametrize("declared", ["5", "0005", "18446744073709551617", "9" * 5000])
async def test_a_length_declared_over_the_limit_is_refused_before_reading(declared):
    async def inside(_exchange):
        raise AssertionError("the inside is not reached")

    exchange = Memory(Message(b""), call=a_call(headers=Headers((("content-length", declared),))))
    with pytest.raises(CallerError, match=r"\b4 bytes") as raised:
        await Config(limit=4).build("orders", "rest")(exchange, inside)
    assert Reason.TOO_LARGE is raised.value.reason


async def test_each_message_is_looked_at():
    exchange = Memory(Message(b"1234"), Message(b"12345"), call=a_call(many=Many.BOTH))
    with pytest.raises(CallerError, match=r"\b4 bytes") as raised:
        await Config(limit=4).build("orders", "rest")(exchange, echo)
    assert Reason.TOO_LARGE is raised.value.reason
    assert [Message(b"1234")] == exchange.replies


async def test_the_length_of_a_body_that_holds_many_messages_is_not_that_of_one():
    exchange = Memory(*[Message(b"1234")] * 3, call=a_call(many=Many.BOTH, headers=Headers((("content-length", "15"),))))
    await Config(limit=4).build("orders", "rest")(exchange, echo)
    assert 3 == len(exchange.replies)


def test_a_limit_that_no_listener_lets_through_is_refused_with_the_reason():
    ((field, why),) = Config(limit=101).refusals([], 100)
    assert ("limit", True) == (field, "no listener takes more than 100 bytes" in why)
    assert () == Config(limit=100).refusals([], 100) == Config(limit=101).refusals([], None)


@pytest.mark.parametrize(("limit", "listener", "idle"), [(10, 10, True), (10, 5, True), (10, 11, False), (10, None, False)])
def test_it_need_not_run_where_the_listener_refuses_what_it_would(limit, listener, idle):
    assert idle == Config(limit=limit).idle(listener)
