"""The policy `concurrency`."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError, Reason
from gateway.exchange import Exchange, Memory
from gateway.policy import Guard
from gateway.policy.concurrency import Config
from gateway.status import TABLE, retry_after
from tests.contract.policy import PolicyContract, a_call


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config(limit=100)


async def _done(_exchange: Exchange) -> None:
    pass


class Hall:
    """An inside that is full until told to leave."""

    def __init__(self):
        self.leave = asyncio.Event()
        self.entered = asyncio.Semaphore(0)

    async def __call__(self, _exchange):
        self.entered.release()
        await self.leave.wait()


async def _refused(policy) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await policy(Memory(call=a_call()), _done)
    return raised.value


async def test_one_more_than_the_limit_is_refused_at_once_and_told_to_come_again():
    policy, hall = Config(limit=2).build("orders", "rest"), Hall()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(policy(Memory(call=a_call()), hall))
            await hall.entered.acquire()
        error = await _refused(policy)
        hall.leave.set()
    assert (Reason.OVERLOADED, 503, 1.0) == (error.reason, TABLE[error.reason].http, retry_after(error))
    await policy(Memory(call=a_call()), _done)


async def test_the_protocols_of_a_route_share_its_limit():
    config, hall = Config(limit=1), Hall()
    async with asyncio.TaskGroup() as group:
        group.create_task(config.build("orders", "rest")(Memory(call=a_call()), hall))
        await hall.entered.acquire()
        assert Reason.OVERLOADED == (await _refused(config.build("orders", "grpc"))).reason
        hall.leave.set()


async def test_two_routes_share_nothing():
    config, hall = Config(limit=1), Hall()
    async with asyncio.TaskGroup() as group:
        group.create_task(config.build("orders", "rest")(Memory(call=a_call()), hall))
        await hall.entered.acquire()
        await config.build("stock", "rest")(Memory(call=a_call()), _done)
        hall.leave.set()


def test_it_guards_the_call_and_ten_thousand_unless_told():
    assert 10_000 == Config().limit
    assert Guard.CALL is Config().build("orders", "rest").guards
