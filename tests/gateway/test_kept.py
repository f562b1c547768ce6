"""What the gateway keeps beside its backends."""

from __future__ import annotations

import pytest

from gateway.file import FileConfig, StateConfig
from gateway.kept import NOTHING_KEPT, Kept
from gateway.port import Target
from gateway.topic.publish import PublishTo
from tests.fake_log import FakeLog, unreachable


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
