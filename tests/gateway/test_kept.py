"""What the gateway keeps beside its backends."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.file import FileConfig, SpoolConfig, StateConfig
from gateway.kept import NOTHING_KEPT, Kept
from gateway.message import Message
from gateway.target import Target
from gateway.topic.publish import PublishTo
from tests.contract.log import soon
from tests.fake_log import FakeLog, unreachable
from tests.patience import until


class Keeping(PublishTo):
    """A target that keeps things."""

    def needs(self):
        return {"state"}


TARGET = Target("r", Keeping(backend="b", publish="t"))


def file(**state):
    return FileConfig.model_construct(listeners={}, state=StateConfig(**state))


async def test_a_target_that_needs_nothing_is_given_nothing():
    target = Target("r", PublishTo(backend="b", publish="t"))
    assert target is NOTHING_KEPT.given(target)


async def test_the_state_is_in_a_file_of_its_own_and_is_found_again(tmp_path):
    path = tmp_path / "deep" / "state.db"
    for kept_before in (None, b"1"):
        async with Kept(file(path=str(path)), {"state": {"b"}}, {}) as kept:
            state = kept.given(TARGET).state
            assert kept_before == await state.get("a")
            await state.put("a", b"1", 60)


async def test_nothing_is_opened_where_no_route_needs_it(tmp_path):
    path = tmp_path / "state.db"
    async with Kept(file(path=str(path)), {}, {}):
        assert not path.exists()


async def test_a_log_that_is_away_keeps_nobody_from_starting():
    log = FakeLog({})
    log.broken = unreachable()
    async with Kept(file(backend="events"), {"state": {"b"}}, {"events": log}) as kept:
        with pytest.raises(type(log.broken)):
            await kept.given(TARGET).state.get("a")
        log.broken = None
    async with Kept(file(backend="events"), {"state": {"b"}}, {"events": log}) as kept:
        assert await kept.given(TARGET).state.get("a") is None
        assert {"polygate.state"} == log.compacted


STORING = Target("r", PublishTo(backend="b", publish="t", ack="stored"))


def spooled(path):
    return FileConfig.model_construct(listeners={}, spool=SpoolConfig(path=str(path)))


async def test_what_a_target_stores_is_forwarded_to_its_backend(tmp_path):
    log = FakeLog({"t": 1})
    async with Kept(spooled(tmp_path / "deep" / "spool.db"), {"spool": {"b"}}, {"b": log}) as kept:
        await kept.given(STORING).spool.put("t", Message(b"x"), soon())
        await until(lambda: log.topics["t"][0])
        await kept.check()


async def test_a_spool_is_not_made_where_no_route_stores(tmp_path):
    async with Kept(spooled(tmp_path / "spool.db"), {}, {"b": FakeLog({})}) as kept:
        assert kept.given(STORING).spool is None
    assert [] == list(tmp_path.iterdir())


class Consumable(FakeLog):
    """A log that can be consumed, as every backend of topics can."""

    def consuming(self, subscription, deliver):
        raise NotImplementedError

    async def produce(self, topic, message, partition=None):
        raise NotImplementedError


async def test_what_is_left_in_a_spool_is_forwarded_though_no_route_stores_any_more(tmp_path):
    log = Consumable({"t": 1})
    log.broken = unreachable()
    file = spooled(tmp_path / "spool.db")
    async with Kept(file, {"spool": {"b"}}, {"b": log}) as kept:
        await kept.given(STORING).spool.put("t", Message(b"x"), soon())
    log.broken = None
    async with Kept(file, {}, {"b": log}):
        await until(lambda: log.topics["t"][0])


async def test_a_spool_that_cannot_be_opened_keeps_the_gateway_from_starting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GatewayError, match="cannot be opened"):
        await Kept(spooled(tmp_path / "file" / "spool.db"), {"spool": {"b"}}, {"b": FakeLog({})}).__aenter__()
