"""What every state must do, whatever log it is kept in: subclass in a test file and give `opened` and, for a log that several
gateways can share, run `SharedContract` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.errors import BackendError, Reason
from gateway.state import State

PATIENCE_S = 30
LONG_S = 1000
MAX_BYTES = 40 << 10

Opened = Callable[[], AbstractAsyncContextManager[State]]
"""Open the state of this test; may be entered again, and finds what was kept. It holds MAX_BYTES."""


class StateContract:
    """Run against anything that says it is a `State`."""

    @pytest.fixture
    async def opened(self) -> Opened:
        raise NotImplementedError

    @pytest.fixture
    async def state(self, opened):
        async with opened() as state:
            yield state

    async def test_there_is_nothing_where_nothing_was_put(self, state):
        assert await state.get("a") is None

    async def test_what_was_put_is_there_and_the_latest_counts(self, state):
        await state.put("a", b"1", LONG_S)
        await state.put("a", b"\x00\xff", LONG_S)
        await state.put("b", b"", LONG_S)
        assert (b"\x00\xff", b"") == (await state.get("a"), await state.get("b"))

    async def test_what_was_put_outlives_its_process(self, opened):
        async with opened() as state, asyncio.timeout(PATIENCE_S):
            await state.put("a", b"1", LONG_S)
            assert await state.claim("b", b"2", LONG_S) is None
            await state.put("c", b"3", LONG_S)
            await state.drop("c")
        async with opened() as state, asyncio.timeout(PATIENCE_S):
            assert [b"1", b"2", None] == [await state.get(key) for key in "abc"]
            assert b"2" == await state.claim("b", b"other", LONG_S)

    async def test_all_keys_that_begin_alike_are_told_with_their_values(self, state):
        for key, value in (("a:1", b"1"), ("a:2", b"2"), ("a:3", b"3"), ("b:1", b"4")):
            await state.put(key, value, LONG_S)
        await state.drop("a:3")
        assert {"a:1": b"1", "a:2": b"2"} == await state.all("a:")
        assert {} == await state.all("c:")

    async def test_of_many_claims_of_a_key_one_succeeds_and_the_others_are_told_its_value(self, state):
        told = await asyncio.gather(*(state.claim("a", b"%d" % number, LONG_S) for number in range(20)))
        (winner,) = [number for number, there in enumerate(told) if there is None]
        assert {b"%d" % winner, None} == set(told)
        assert b"%d" % winner == await state.get("a")

    async def test_a_claim_over_a_value_succeeds_where_that_is_there(self, state):
        assert await state.claim("a", b"1", LONG_S) is None
        assert b"1" == await state.claim("a", b"2", LONG_S, over=b"0")
        told = await asyncio.gather(*(state.claim("a", b"2%d" % number, LONG_S, over=b"1") for number in range(5)))
        assert 1 == told.count(None)
        assert await state.get("a") in {b"2%d" % number for number in range(5)}

    async def test_what_is_let_go_can_be_claimed_again(self, state):
        assert await state.claim("a", b"1", LONG_S) is None
        await state.drop("a")
        assert await state.get("a") is None
        assert await state.claim("a", b"2", LONG_S) is None

    async def test_only_the_value_that_is_known_is_let_go(self, state):
        await state.put("a", b"1", LONG_S)
        await state.drop("a", known=b"0")
        assert b"1" == await state.get("a")
        await state.drop("a", known=b"1")
        assert await state.get("a") is None

    async def test_a_value_is_gone_once_its_time_is_over_and_can_then_be_claimed(self, state):
        await state.put("a", b"1", 0.05)
        while await state.get("a") is not None:
            pass
        assert await state.claim("a", b"2", LONG_S) is None
        assert b"2" == await state.get("a")

    async def test_who_waits_for_another_value_is_told_it(self, state):
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(state.changed("a", None)) for _ in range(3)]
            await asyncio.sleep(0)
            await state.put("a", b"1", LONG_S)
        assert [b"1"] * 3 == [one.result() for one in waiting]
        assert b"1" == await state.changed("a", None)
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(state.changed("a", b"1"))
            await asyncio.sleep(0)
            await state.drop("a")
        assert gone.result() is None

    async def test_who_waits_is_told_that_the_time_of_a_value_is_over(self, state):
        await state.put("a", b"1", 0.2)
        assert b"1" == await state.changed("a", None)
        assert await state.changed("a", b"1") is None

    async def test_nobody_who_stops_waiting_disturbs_another(self, state):
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(state.changed("a", None))
            staying = group.create_task(state.changed("a", None))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            await state.put("a", b"1", LONG_S)
        assert b"1" == staying.result()

    async def test_a_claim_that_nobody_waits_for_any_more_does_not_keep_the_key(self, state):
        for turns in range(4):
            async with asyncio.TaskGroup() as group:
                claiming = group.create_task(state.claim("a", b"1", LONG_S))
                for _ in range(turns):
                    await asyncio.sleep(0)
                claiming.cancel()
            if not claiming.cancelled():
                await state.drop("a")
        while (there := await state.claim("a", b"2", LONG_S)) is not None:
            await state.changed("a", there)
        assert b"2" == await state.get("a")

    async def test_what_is_too_much_is_refused_and_what_is_there_can_still_be_changed(self, state):
        for number in range((MAX_BYTES * 7 // 8) >> 10):
            assert await state.claim(f"k{number}", b"claimed", LONG_S) is None
        with pytest.raises(BackendError) as caught:
            await state.claim("one more", b"claimed", LONG_S)
        assert Reason.OVERLOADED == caught.value.reason
        await state.put("k0", b"a receipt, which is longer than its claim", LONG_S)
        with pytest.raises(BackendError) as caught:
            await state.put("k0", bytes(MAX_BYTES), LONG_S)
        assert Reason.OVERLOADED == caught.value.reason
        await state.drop("k1")
        while await state.get("k1") is not None:
            pass
        assert await state.claim("new", b"1", LONG_S) is None

    async def test_nothing_is_kept_for_longer_than_the_state_lasts(self, state):
        with pytest.raises(BackendError) as caught:
            await state.put("a", b"1", 1e9)
        assert Reason.REFUSED == caught.value.reason


class SharedContract:
    """What several gateways that share a state may rely on. `opened` may be entered several times at once."""

    async def test_what_one_has_put_another_has_once_it_is_done(self, opened):
        async with opened() as one, opened() as other, asyncio.timeout(PATIENCE_S):
            for number in range(20):
                await one.put("a", b"%d" % number, LONG_S)
                assert b"%d" % number == await other.get("a")

    async def test_of_claims_of_several_gateways_one_succeeds(self, opened):
        async with opened() as one, opened() as other, asyncio.timeout(PATIENCE_S):
            for number in range(20):
                told = await asyncio.gather(
                    *(state.claim(f"k{number}", b"x", LONG_S) for state in (one, other) for _ in range(2))
                )
                assert [b"x", b"x", b"x"] == [there for there in told if there is not None]

    async def test_of_claims_of_several_over_one_value_one_succeeds(self, opened):
        async with opened() as one, opened() as other, asyncio.timeout(PATIENCE_S):
            await one.put("a", b"0", LONG_S)
            assert b"0" == await other.get("a")
            told = await asyncio.gather(one.claim("a", b"one", LONG_S, over=b"0"), other.claim("a", b"other", LONG_S, over=b"0"))
            assert 1 == told.count(None)
            assert await one.get("a") == await other.get("a")

    async def test_who_waits_at_one_is_told_what_was_put_at_another(self, opened):
        async with opened() as one, opened() as other, asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            assert await other.get("a") is None
            waiting = group.create_task(other.changed("a", None))
            await asyncio.sleep(0)
            await one.put("a", b"1", LONG_S)
            assert b"1" == await waiting
