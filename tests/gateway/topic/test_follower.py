"""Followers lose nothing, however slow they are and wherever they start."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.message import Message
from gateway.topic import feed as module
from gateway.topic import ring as rings
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from tests.fake_log import FakeLog
from tests.gateway.topic.followed import fill, grow, take


@pytest.fixture
def log():
    return FakeLog({"t": 1, "wide": 3, "other": 1})


@pytest.fixture
async def feeds(log):
    async with Feeds(log) as feeds:
        yield feeds


async def test_a_follower_gets_what_comes(log, feeds):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 3)
        assert [b"0", b"1", b"2"] == await take(follower, 3)
        assert {0: 3} == follower.at


async def test_a_follower_that_waits_is_woken(log, feeds):
    async with feeds.following("t") as feed, asyncio.TaskGroup() as group:
        followers = [Follower(feed, {0: 0}) for _ in range(3)]
        taking = [group.create_task(take(follower, 1)) for follower in followers]
        await asyncio.sleep(0.01)
        fill(log, 1)
        assert [[b"0"]] * 3 == [await task for task in taking]


async def test_a_follower_that_leaves_while_it_waits_harms_no_other(log, feeds):
    async with feeds.following("t") as feed, asyncio.TaskGroup() as group:
        stays = group.create_task(take(Follower(feed, {0: 0}), 1))
        leaves = group.create_task(take(Follower(feed, {0: 0}), 1))
        await asyncio.sleep(0.01)
        leaves.cancel()
        await asyncio.sleep(0)
        fill(log, 1)
        assert [b"0"] == await stays


async def test_a_follower_that_starts_earlier_reads_the_log_and_then_the_feed(log, feeds):
    fill(log, 5)
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 2})
        assert [b"2", b"3", b"4"] == await take(follower, 3)
        log.put("t", Message(b"live"))
        assert [b"live"] == await take(follower, 1)


@pytest.mark.parametrize(("records", "size"), [(8, 1 << 20), (1000, 30)])
async def test_a_follower_that_falls_out_of_the_ring_misses_nothing(log, feeds, monkeypatch, records, size):
    monkeypatch.setattr(rings, "RING_RECORDS", records)
    monkeypatch.setattr(rings, "RING_BYTES", size)
    async with feeds.following("t") as feed:
        slow, quick = Follower(feed, {0: 0}), Follower(feed, {0: 0})
        fill(log, 1)
        assert [b"0"] == await take(slow, 1) == await take(quick, 1)
        for number in range(1, 100):
            log.put("t", Message(b"%d" % number))
            assert [b"%d" % number] == await take(quick, 1)
        assert feed.ring.first > 1
        assert len(feed.ring) <= records
        assert [b"%d" % number for number in range(1, 100)] == await take(slow, 99)


async def test_a_follower_gets_bounded_batches(log, feeds, monkeypatch):
    monkeypatch.setattr(rings, "BATCH", 4)
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 10)
        sizes = []
        while sum(sizes) < 10:
            sizes.append(len(await follower.read()))
        assert 4 == max(sizes)


async def test_a_place_that_retention_has_overtaken_is_gone(log, feeds):
    fill(log, 5)
    log.drop("t", 3)
    async with feeds.following("t") as feed:
        with pytest.raises(CallerError) as caught:
            await Follower(feed, {0: 2}).read()
    assert Reason.INVALID == caught.value.reason


async def test_a_place_moves_over_what_holds_no_record(log, feeds):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 1)
        assert [b"0"] == await take(follower, 1)
        log.mark("t")
        async with asyncio.timeout(10):
            assert [] == list(await follower.read())
        assert {0: 2} == follower.at


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.sampled_from(["append", "read", "follow"]), max_size=60), ring=st.integers(1, 12))
def test_whatever_the_interleaving_every_follower_gets_every_record_in_order(steps, ring):
    async def run():
        log = FakeLog({"wide": 3})
        followers: list[tuple[Follower, dict[int, int], list]] = []
        async with Feeds(log) as feeds, feeds.following("wide") as feed:
            for step, what in enumerate(steps):
                if what == "append":
                    log.put("wide", Message(b"%d" % step, key=b"%d" % step))
                elif what == "follow":
                    at = dict(await log.ends("wide"))
                    followers.append((Follower(feed, at), at, []))
                elif followers:
                    follower, at, got = followers[step % len(followers)]
                    ends = await log.ends("wide")
                    if any(follower.at.get(number, 0) < end for number, end in ends.items()):
                        got.extend(await follower.read())
            ends = await log.ends("wide")
            for follower, at, got in followers:
                while follower.at != ends:
                    got.extend(await follower.read())
                for number, held in enumerate(log.topics["wide"]):
                    expected = [record.body for record in held if record.offset >= at[number]]
                    assert expected == [record.body for record in got if record.partition == number]

    before = rings.RING_RECORDS
    rings.RING_RECORDS = ring
    try:
        asyncio.run(run())
    finally:
        rings.RING_RECORDS = before


async def test_who_falls_behind_reads_an_added_partition_from_its_start(log, feeds, monkeypatch):
    monkeypatch.setattr(module, "WIDER_S", 0)
    monkeypatch.setattr(rings, "RING_RECORDS", 4)
    async with feeds.following("t") as feed:
        ahead, behind = Follower(feed, {0: 0}), Follower(feed, {0: 0})
        log.put("t", Message(b"one"), 0)
        assert [b"one"] == await take(ahead, 1) == await take(behind, 1)
        grow(log)
        bodies = [b"%d" % number for number in range(20)]
        for body in bodies:
            log.put("t", Message(body), 1)
        assert bodies == await take(ahead, 20)
        assert bodies == await take(behind, 20)
