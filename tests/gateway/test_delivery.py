"""The records of one partition: in order where they must be, side by side where they may, and committed without a gap."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway import delivery
from gateway.delivery import OVERHEAD, Delivery
from gateway.message import NO_HEADERS, Headers
from gateway.port import Ahead, Record, Subscription

PATIENCE_S = 10


def record(offset, key=None, body=b"", headers=NO_HEADERS):
    return Record("t", 0, offset, 0, key, body, headers)


def records(*keys):
    """One for each key, in order."""
    return [record(offset, key) for offset, key in enumerate(keys)]


class Hands:
    """A `deliver` whose records the test finishes one by one."""

    def __init__(self):
        self.trying = []
        self.most = 0
        self.progress = []
        self.delivery = None
        self._ends = {}
        self._moved = asyncio.Event()

    async def __call__(self, record, turn):
        async with turn:
            self.trying.append(record.offset)
            self.most = max(self.most, len(self.trying))
            self._moved.set()
            end = self._ends.setdefault(record.offset, asyncio.get_running_loop().create_future())
            try:
                await asyncio.sleep(0)
                await end
            finally:
                self.trying.remove(record.offset)
                self._moved.set()

    def advance(self):
        """Note how far all is done with."""
        if self.delivery.at > max([0, *self.progress]):
            self.progress.append(self.delivery.at)
        self._moved.set()

    async def until(self, *offsets):
        """Wait until exactly these are being tried."""
        async with asyncio.timeout(PATIENCE_S):
            while sorted(self.trying) != sorted(offsets):
                self._moved.clear()
                await self._moved.wait()

    async def reach(self, at):
        """Wait until everything before an offset is done with."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.progress or self.progress[-1] < at:
                self._moved.clear()
                await self._moved.wait()

    def finish(self, *offsets):
        for offset in offsets:
            self._ends.setdefault(offset, asyncio.get_running_loop().create_future()).set_result(None)


def begun(hands, deliver=None, finished=(), **settings):
    """A delivery whose records go to the hands, by way of `deliver` where there is one."""
    hands.delivery = Delivery(Subscription(("t",), "g", **settings), deliver or hands, "t 0", hands.advance, finished)
    return hands.delivery


@asynccontextmanager
async def delivering(hands, deliver=None, *, grace=0, **settings):
    one = begun(hands, deliver, **settings)
    try:
        yield one
    finally:
        await one.leave(grace)


async def test_records_of_a_partition_run_one_after_the_other():
    hands = Hands()
    async with delivering(hands, parallel=5) as one:
        one.take(records(b"a", b"b", None))
        for offset in range(3):
            await hands.until(offset)
            hands.finish(offset)
        await hands.reach(3)
    assert ([1, 2, 3], 1) == (hands.progress, hands.most)


async def test_records_of_one_key_run_one_after_the_other_and_those_of_others_beside_them():
    hands = Hands()
    async with delivering(hands, order="key", parallel=10) as one:
        one.take(records(b"a", b"b", b"a", b"c", b"b"))
        await hands.until(0, 1, 3)
        hands.finish(1)
        await hands.until(0, 3, 4)
        hands.finish(0, 3, 4)
        await hands.until(2)
        hands.finish(2)
        await hands.reach(5)


@pytest.mark.parametrize(("order", "keys"), [("key", [None] * 3), ("none", [b"a"] * 3), ("none", [None] * 3)])
async def test_records_without_an_order_run_side_by_side(order, keys):
    hands = Hands()
    async with delivering(hands, order=order, parallel=10) as one:
        one.take(records(*keys))
        await hands.until(0, 1, 2)


async def test_no_more_records_are_tried_at_once_than_the_subscription_says():
    hands = Hands()
    hands.finish(*range(100))
    async with delivering(hands, order="none", parallel=3) as one:
        one.take(records(*[None] * 100))
        await hands.reach(100)
    assert 3 == hands.most


async def test_a_record_that_waits_for_another_try_holds_up_its_own_key_alone():
    waits = asyncio.Event()
    hands = Hands()

    async def deliver(one, turn):
        if one.key == b"stuck":
            async with turn:
                pass
            await waits.wait()
        await hands(one, turn)

    hands.finish(*range(20))
    async with delivering(hands, deliver, order="key", parallel=1) as one:
        one.take(records(b"stuck", *[b"%d" % number for number in range(18)], b"stuck"))
        async with asyncio.timeout(PATIENCE_S):
            while len(one._lanes) > 1:  # noqa: ASYNC110  what was done tells nobody
                await asyncio.sleep(0)
        assert [] == hands.progress
        waits.set()
        await hands.reach(20)
    assert [19, 20] == hands.progress


async def test_what_is_done_with_behind_a_record_that_is_not_is_no_progress():
    hands = Hands()
    async with delivering(hands, order="none", parallel=10) as one:
        one.take(records(*[None] * 4))
        await hands.until(0, 1, 2, 3)
        hands.finish(2, 1)
        await hands.until(0, 3)
        assert ([], 0, 0, [1, 2]) == (hands.progress, one.first, one.at, one.beyond)
        hands.finish(0)
        await hands.reach(3)
        assert 3 == one.first
        hands.finish(3)
        await hands.reach(4)
        assert one.first is None
    assert [3, 4] == hands.progress


async def test_what_was_done_with_the_last_time_is_not_delivered_again():
    hands = Hands()
    async with delivering(hands, finished=(1, 2, 4), order="none", parallel=10) as one:
        one.take(records(*[None] * 6))
        await hands.until(0, 3, 5)
        hands.finish(0)
        await hands.reach(3)
        assert (3, [4]) == (one.at, one.beyond)
        hands.finish(3, 5)
        await hands.reach(6)
    assert [3, 5, 6] == hands.progress


async def test_offsets_that_hold_no_record_are_no_gap():
    hands = Hands()
    hands.finish(3, 7, 11)
    async with delivering(hands) as one:
        one.take([record(3), record(7), record(11)])
        await hands.reach(12)
    assert [7, 11, 12] == hands.progress


async def test_records_behind_one_that_is_not_done_with_are_bounded_even_if_they_are_done_with():
    hands = Hands()
    async with delivering(hands, order="none", parallel=10, ahead=Ahead(records=4)) as one:
        one.take(records(None, None, None))
        assert not one.full
        one.take([record(3)])
        assert one.full
        await hands.until(0, 1, 2, 3)
        hands.finish(1, 2, 3)
        await hands.until(0)
        assert one.full
        hands.finish(0)
        async with asyncio.timeout(PATIENCE_S):
            await one.room()


async def test_the_bytes_of_records_in_memory_are_bounded():
    hands = Hands()
    async with delivering(hands, order="none", parallel=10, ahead=Ahead(bytes=OVERHEAD + 1000)) as one:
        one.take([record(0, key=b"key", body=bytes(900), headers=Headers((("name", bytes(93).decode()),)))])
        assert one.full
        await hands.until(0)
        hands.finish(0)
        async with asyncio.timeout(PATIENCE_S):
            await one.room()


async def test_a_delivery_that_raises_comes_again_before_the_next_of_its_order(monkeypatch, caplog):
    monkeypatch.setattr(delivery, "AGAIN_S", (0.001, 0.002))
    hands = Hands()
    tries = []

    async def deliver(one, turn):
        tries.append(one.offset)
        if len(tries) < 4:
            raise RuntimeError("no")
        await hands(one, turn)

    hands.finish(0, 1)
    async with delivering(hands, deliver) as one:
        one.take(records(None, None))
        await hands.reach(2)
    assert [0, 0, 0, 0, 1] == tries
    assert 3 == caplog.text.count("is delivered again")


async def test_leaving_lets_what_is_being_tried_end_and_begins_nothing():
    hands = Hands()
    async with delivering(hands, order="key", parallel=2, grace=PATIENCE_S) as one:
        one.take(records(b"a", b"b", b"c", b"a"))
        await hands.until(0, 1)
        asyncio.get_running_loop().call_later(0.01, hands.finish, 0, 1)
    assert ([1, 2], []) == (hands.progress, hands.trying)


async def test_leaving_does_not_wait_longer_than_it_is_told():
    hands = Hands()
    async with asyncio.timeout(PATIENCE_S), delivering(hands, grace=0.01) as one:
        one.take(records(None))
        await hands.until(0)
    assert ([], []) == (hands.progress, hands.trying)


async def test_leaving_lets_go_of_what_waits_for_another_try_though_others_are_being_tried():
    hands = Hands()
    gone = asyncio.Event()

    async def deliver(one, turn):
        if one.offset == 0:
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()
        await hands(one, turn)

    one = begun(hands, deliver, order="none", parallel=2)
    one.take(records(None, None))
    await hands.until(1)
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE_S):
        leaving = group.create_task(one.leave(None))
        await gone.wait()
        assert not leaving.done()
        hands.finish(1)
    assert [] == hands.progress


async def test_a_try_that_fails_while_leaving_has_no_pause_to_wait_for():
    begun, end = asyncio.Event(), asyncio.Event()

    async def deliver(_record, turn):
        async with turn:
            begun.set()
            await end.wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_S), delivering(Hands(), deliver, grace=None) as one:
        one.take(records(None))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.01, end.set)


async def test_leaving_that_is_cut_off_leaves_nothing_running():
    hands = Hands()
    one = begun(hands)
    one.take(records(None))
    await hands.until(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.leave(None)
    assert ([], []) == (hands.trying, hands.progress)
