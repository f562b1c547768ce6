"""Members of consumer groups against a real broker: who has what, and what is committed of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from adapters.backend.kafka import Config
from gateway.message import Message
from gateway.port import Record, Subscription
from tests.contract.log import PATIENCE_S, Seen, fill, soon, trying


def config(bootstrap: str, **fields) -> Config:
    return Config(kind="kafka", bootstrap=bootstrap, **fields)


@pytest.fixture
async def log(kafka):
    async with config(kafka).build() as backend:
        yield backend


async def until(true: Callable[[], bool]) -> None:
    """Look again and again, for what sends no event."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_members_of_a_group_share_the_partitions_and_lose_nothing(log, kafka, new_topic):
    topic = await new_topic(partitions=4)
    subscription = Subscription((topic,), f"{topic}-g")
    await asyncio.gather(*(log.append(topic, Message(b"%d" % number, key=b"%d" % number), soon()) for number in range(200)))
    seen = [Seen(), Seen()]

    async def slowly(record: Record) -> None:
        await asyncio.sleep(0.05)
        seen[0].add(record)

    async with log.consuming(subscription, trying(slowly)):
        await seen[0].reach(10)
        async with config(kafka).build() as other, other.consuming(subscription, seen[1]):
            await seen[1].reach(1)
            await until(lambda: len(seen[0].records) + len(seen[1].records) >= 200)
    everyone = [record.body for one in seen for record in one.records]
    assert sorted(b"%d" % number for number in range(200)) == sorted(everyone)


async def test_a_member_that_dies_leaves_what_it_did_not_finish_to_the_next(kafka, log, new_topic):
    topic = await new_topic()
    await fill(log, topic, 3)
    subscription = Subscription((topic,), f"{topic}-g")
    reached = asyncio.Event()
    first = []

    async def stuck(record: Record) -> None:
        first.append(record.offset)
        if record.offset == 1:
            reached.set()
            await asyncio.Event().wait()

    async with config(kafka, stop_timeout=0.1).build() as dying, dying.consuming(subscription, trying(stuck)):
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
    assert [0, 1] == first
    seen = Seen()
    async with log.consuming(subscription, seen):
        await seen.reach(2)
    assert [1, 2] == [record.offset for record in seen.records]
