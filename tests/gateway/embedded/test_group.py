"""Consumer groups, beyond what every source does."""

from __future__ import annotations

import asyncio

import pytest

from adapters.backend.local import Config
from gateway import delivery
from gateway.delivery import DROPPED, LAG
from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Message
from gateway.port import Ahead, Subscription
from tests.contract.log import Seen, trying

ONE = Subscription(("t",), "g")


@pytest.fixture
async def local():
    async with Config(kind="local", path=":memory:").build() as local:
        yield local


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(delivery, "AGAIN_S", (0.001, 0.002))


@pytest.mark.parametrize("error", [RuntimeError("no"), CallerError(Reason.INVALID, "no"), BackendError(Reason.UNREACHABLE, "no")])
async def test_a_delivery_that_fails_is_tried_again_before_the_next_record(local, error):
    tries = []
    seen = Seen()

    async def deliver(record):
        tries.append(record.offset)
        if len(tries) < 5:
            raise error
        seen.add(record)

    await local.produce("t", Message(b"0"))
    await local.produce("t", Message(b"1"))
    async with local.consuming(ONE, trying(deliver)):
        assert [b"0", b"1"] == await seen.reach(2)
    assert [0, 0, 0, 0, 0, 1] == tries


async def test_leaving_does_not_wait_for_a_delivery_to_be_tried_again(local, monkeypatch):
    monkeypatch.setattr(delivery, "AGAIN_S", (3600, 3600))
    tried = asyncio.Event()

    async def deliver(record):
        tried.set()
        raise RuntimeError("no")

    await local.produce("t", Message(b"0"))
    async with asyncio.timeout(10), local.consuming(ONE, trying(deliver)):
        await tried.wait()


async def test_leaving_in_the_middle_of_a_batch_starts_no_other_record(local):
    for number in range(3):
        await local.produce("t", Message(b"%d" % number))
    begun, release = asyncio.Event(), asyncio.Event()
    delivered = []

    async def deliver(record):
        delivered.append(record.offset)
        begun.set()
        await release.wait()

    async with local.consuming(ONE, trying(deliver)):
        await begun.wait()
        asyncio.get_running_loop().call_later(0.01, release.set)
    assert [0] == delivered


async def test_a_consumer_that_is_cut_off_while_it_leaves_does_not_commit_what_did_not_return(local):
    await local.produce("t", Message(b"0"))
    begun = asyncio.Event()

    async def hanging(record):
        begun.set()
        await asyncio.Event().wait()

    async def consume():
        async with local.consuming(ONE, trying(hanging)):
            await begun.wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await consume()
    seen = Seen()
    async with local.consuming(ONE, seen):
        assert [b"0"] == await seen.reach(1)


async def test_a_topic_that_is_not_there_and_not_made_is_refused():
    async with Config(kind="local", path=":memory:", create=False).build() as local:
        with pytest.raises(BackendError) as caught:
            await local.consuming(ONE, Seen()).__aenter__()
    assert Reason.REFUSED == caught.value.reason


async def test_what_was_consumed_of_a_log_that_cannot_be_written_is_told(local, caplog):
    await local.produce("t", Message(b"0"))
    seen = Seen()
    async with local.consuming(ONE, seen):
        await seen.reach(1)
        local._commits.stop("the disk is gone")
    assert "may be delivered again: the disk is gone" in caplog.text


async def test_a_group_may_not_consume_a_topic_twice_at_once(local):
    async with local.consuming(ONE, Seen()):
        with pytest.raises(BackendError, match="the group g consumes t already"):
            await local.consuming(ONE, Seen()).__aenter__()
    async with local.consuming(ONE, Seen()):
        pass


async def test_a_group_that_begins_at_latest_misses_nothing_while_it_is_away(local):
    latest = Subscription(("t",), "g", "latest")
    await local.produce("t", Message(b"before"))
    async with local.consuming(latest, Seen()):
        pass
    await local.produce("t", Message(b"meanwhile"))
    seen = Seen()
    async with local.consuming(latest, seen):
        assert [b"meanwhile"] == await seen.reach(1)


async def test_a_group_that_retention_has_overtaken_goes_on_with_what_is_left(caplog):
    async with Config(kind="local", path=":memory:", retention={"records": 2}, retention_every=0.005).build() as local:
        seen = Seen()
        for number in range(10):
            await local.produce("t", Message(b"%d" % number))
            if number == 0:
                async with local.consuming(ONE, seen):
                    await seen.reach(1)
        async with asyncio.timeout(10):
            while (await local.starts("t"))[0] < 8:  # noqa: ASYNC110  retention tells nobody
                await asyncio.sleep(0)
        async with local.consuming(Subscription(("t",), "g", listener="late"), seen):
            await seen.reach(3)
    assert 7 == DROPPED.values()["late", "t"]
    assert [0, 8, 9] == [record.offset for record in seen.records]
    assert "t/0: 1 to 7 were dropped undelivered" in caplog.text


async def test_what_cannot_be_read_now_is_read_again_from_where_it_was(local, monkeypatch, caplog):
    monkeypatch.setattr("gateway.embedded.group.BACKOFF_S", (0.001, 0.002))
    source = local._groups._log
    reading = source.reading
    failures = iter(range(3))

    def broken(topic, at):
        if next(failures, None) is not None:
            raise BackendError(Reason.UNREACHABLE, "the disk does not answer")
        return reading(topic, at)

    monkeypatch.setattr(source, "reading", broken)
    await local.produce("t", Message(b"0"))
    seen = Seen()
    async with local.consuming(ONE, seen):
        assert [b"0"] == await seen.reach(1)
    assert 3 == caplog.text.count("is read again")


async def test_the_lag_counts_what_is_in_delivery_and_what_is_not_read_yet(local):
    subscription = Subscription(("t",), "g", listener="work", ahead=Ahead(records=1))
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(_record):
        begun.set()
        await release.wait()

    for number in range(3):
        await local.produce("t", Message(b"%d" % number))
    async with local.consuming(subscription, trying(slow)):
        await begun.wait()
        assert 3 == LAG.values()["work", "t", "0"]
        release.set()
        async with asyncio.timeout(10):
            while LAG.values()["work", "t", "0"]:  # noqa: ASYNC110  a gauge tells nobody
                await asyncio.sleep(0)
    assert ("work", "t", "0") not in LAG.values()


async def test_progress_is_noted_once_for_each_place(local):
    subscription = Subscription(("t",), "g", order="none", parallel=3)
    stuck = asyncio.Event()
    seen = Seen()

    async def deliver(record):
        if record.offset == 0:
            await stuck.wait()
        seen.add(record)

    for number in range(3):
        await local.produce("t", Message(b"%d" % number))
    async with local.consuming(subscription, trying(deliver)):
        await seen.reach(2)
        stuck.set()
        await seen.reach(3)
    again = Seen()
    await local.produce("t", Message(b"3"))
    async with local.consuming(subscription, again):
        assert [b"3"] == await again.reach(1)
