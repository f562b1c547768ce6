"""Feeds: one reader a topic, and followers that lose nothing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Message
from gateway.topic import Topics
from gateway.topic import feed as module
from gateway.topic import ring as rings
from gateway.topic.feed import Feeds, Follower
from gateway.topic.history import Batch
from tests.fake_log import FakeLog, unreachable


@pytest.fixture
def log():
    return FakeLog({"t": 1, "wide": 3, "other": 1})


@pytest.fixture
async def feeds(log):
    async with Feeds(log) as feeds:
        yield feeds


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.002))


def fill(log, count, topic="t"):
    for number in range(count):
        log.put(topic, Message(b"%d" % number, key=b"%d" % number))


async def take(follower, count):
    """The bodies of the next records."""
    bodies: list[bytes] = []
    async with asyncio.timeout(10):
        while len(bodies) < count:
            bodies.extend(record.body for record in await follower.read())
    return bodies


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


async def test_one_reader_serves_every_follower_of_a_topic(log, feeds):
    async with feeds.following("t") as one, feeds.following("t") as other:
        assert one is other
        fill(log, 1)
        for _ in range(10):
            assert [b"0"] == await take(Follower(one, {0: 0}), 1)
        assert 1 == log.reads
        assert 1 == feeds.open


async def test_a_feed_closes_with_its_last_follower(log, feeds):
    async with feeds.following("t"):
        async with feeds.following("t"):
            pass
        assert 1 == feeds.open
    assert 0 == feeds.open
    async with feeds.following("t") as feed:
        fill(log, 1)
        assert [b"0"] == await take(Follower(feed, {0: 0}), 1)


async def test_two_who_open_a_feed_at_once_share_it(log, feeds):
    opening = asyncio.Event()
    ends = log.ends

    async def slow(topic):
        await opening.wait()
        return await ends(topic)

    log.ends = slow
    async with asyncio.TaskGroup() as group:

        async def one():
            async with feeds.following("t") as feed:
                await asyncio.sleep(0.01)
                return feed

        tasks = [group.create_task(one()) for _ in range(2)]
        await asyncio.sleep(0)
        opening.set()
    assert tasks[0].result() is tasks[1].result()


async def test_a_topic_that_is_not_there_is_refused(feeds):
    with pytest.raises(BackendError) as caught:
        await feeds.following("absent").__aenter__()
    assert Reason.REFUSED == caught.value.reason
    assert 0 == feeds.open


async def test_the_number_of_feeds_is_bounded(feeds, monkeypatch):
    monkeypatch.setattr(module, "FEEDS", 1)
    async with feeds.following("t"):
        with pytest.raises(BackendError) as caught:
            await feeds.following("other").__aenter__()
        assert Reason.OVERLOADED == caught.value.reason
        async with feeds.following("t"):
            pass


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


async def test_while_the_log_is_away_followers_wait_and_then_go_on(log, feeds, caplog):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 1)
        assert [b"0"] == await take(follower, 1)
        log.broken = unreachable()
        log.wake()
        async with asyncio.timeout(10):
            while caplog.text.count("the log is away") < 3:  # noqa: ASYNC110  a log line wakes nobody
                await asyncio.sleep(0.001)
        log.broken = None
        log.put("t", Message(b"back"))
        assert [b"back"] == await take(follower, 1)


async def test_a_defect_of_a_reader_is_logged_and_tried_again(log, feeds, caplog):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        log.broken = ZeroDivisionError("a defect")
        log.wake()
        async with asyncio.timeout(10):
            while "a defect" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
                await asyncio.sleep(0.001)
        log.broken = None
        fill(log, 1)
        assert [b"0"] == await take(follower, 1)


async def test_a_place_that_retention_has_overtaken_is_gone(log, feeds):
    fill(log, 5)
    log.drop("t", 3)
    async with feeds.following("t") as feed:
        with pytest.raises(CallerError) as caught:
            await Follower(feed, {0: 2}).read()
    assert Reason.INVALID == caught.value.reason


async def test_a_feed_that_retention_has_overtaken_goes_on_and_tells_its_followers_of_the_gap(log, feeds, caplog):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 1)
        assert [b"0"] == await take(follower, 1)
        log.broken = unreachable()
        log.wake()
        async with asyncio.timeout(10):
            while "the log is away" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
                await asyncio.sleep(0.001)
        fill(log, 5)
        log.drop("t", 4)
        log.broken = None
        with pytest.raises(CallerError):
            await take(follower, 1)
        async with asyncio.timeout(10):
            while "overtaken" not in caplog.text:  # noqa: ASYNC110  a log line wakes nobody
                await asyncio.sleep(0.001)
        later = Follower(feed, {0: 4})
        log.put("t", Message(b"new"))
        assert [b"3", b"4", b"new"] == await take(later, 3)


def made_anew(log):
    log.remake("t")
    fill(log, 2)


async def test_a_topic_that_is_made_anew_is_read_from_its_end_on_and_its_followers_are_told(log, feeds, caplog):
    fill(log, 5)
    async with feeds.following("t") as feed:
        waits, past = Follower(feed, {0: 5}), Follower(feed, {0: 0})
        feed.kept.put("t", {0: 2}, Batch((), {0: 5}))
        asyncio.get_running_loop().call_later(0.01, made_anew, log)
        with pytest.raises(CallerError):
            await asyncio.wait_for(waits.read(), 10)
        with pytest.raises(CallerError):
            await past.read()
        assert "made anew" in caplog.text
        assert feed.kept.take("t", {0: 2}) is None
        fresh, first = Follower(feed, {0: 2}), Follower(feed, {0: 0})
        log.put("t", Message(b"new"))
        assert [b"new"] == await take(fresh, 1)
        assert [b"0", b"1", b"new"] == await take(first, 3)


async def test_where_the_log_fails_while_its_starts_are_asked_for_it_is_tried_again(log, feeds, caplog):
    starts = log.starts
    failures = 0

    async def failing(topic):
        nonlocal failures
        failures += 1
        if failures == 1:
            raise unreachable()
        return await starts(topic)

    log.starts = failing
    ends = log.ends

    async def overtaken(topic):
        at = await ends(topic)
        log.drop(topic, 2)
        return at

    log.ends = overtaken
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 2})
        log.put("t", Message(b"x"))
        assert [b"x"] == await take(follower, 1)
    assert 2 <= failures


async def test_a_place_moves_over_what_holds_no_record(log, feeds):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        fill(log, 1)
        assert [b"0"] == await take(follower, 1)
        log.mark("t")
        async with asyncio.timeout(10):
            assert [] == list(await follower.read())
        assert {0: 2} == follower.at


async def test_leaving_ends_the_readers(log):
    async with Feeds(log) as feeds:
        await feeds.following("t").__aenter__()
        await asyncio.sleep(0)
    assert [] == [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("feed")]


async def test_topics_may_be_entered_and_left_without_use(log):
    async with Topics(log):
        pass


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


# A topic that gets more partitions while it is read


def grow(log, topic="t"):
    log.topics[topic].append([])


async def test_what_comes_in_a_partition_that_was_added_is_read_too(log, feeds, monkeypatch):
    monkeypatch.setattr(module, "WIDER_S", 0)
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        log.put("t", Message(b"before"), 0)
        assert [b"before"] == await take(follower, 1)
        grow(log)
        log.put("t", Message(b"after"), 1)
        assert [b"after"] == await take(follower, 1)
        assert {0: 1, 1: 1} == follower.at


async def test_a_caller_who_knows_a_partition_that_is_not_read_yet_has_it_looked_for(log, feeds):
    async with feeds.following("t") as feed:
        grow(log)
        log.put("t", Message(b"first"), 1)
        log.put("t", Message(b"second"), 1)
        assert [b"second"] == await take(Follower(feed, {0: 0, 1: 1}), 1)


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


async def test_an_added_partition_whose_first_records_are_gone_is_read_on_from_there(log, feeds, monkeypatch):
    async with feeds.following("t") as feed:
        follower = Follower(feed, {0: 0})
        grow(log)
        log.put("t", Message(b"gone"), 1)
        log.drop("t", 1, partition=1)
        monkeypatch.setattr(module, "WIDER_S", 0)
        feed.look({0: 0, 1: 1})
        log.put("t", Message(b"there"), 1)
        assert [b"there"] == await take(follower, 1)
