"""Feeds: one reader a topic, whatever becomes of the topic."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Message
from gateway.topic import Topics
from gateway.topic import feed as module
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from gateway.topic.history import Batch
from tests.fake_log import FakeLog, unreachable
from tests.gateway.topic.followed import fill, grow, take


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


async def test_leaving_ends_the_readers(log):
    async with Feeds(log) as feeds:
        await feeds.following("t").__aenter__()
        await asyncio.sleep(0)
    assert [] == [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("feed")]


async def test_topics_may_be_entered_and_left_without_use(log):
    async with Topics(log):
        pass


# A topic that gets more partitions while it is read


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
