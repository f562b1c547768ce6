"""Consumer groups, beyond what every source does."""

from __future__ import annotations

import asyncio

import pytest

from adapters.backend.local import Config
from gateway import delivery
from gateway.errors import BackendError, CallerError, Reason
from gateway.message import Message
from gateway.port import Subscription
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
