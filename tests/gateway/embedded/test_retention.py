"""What a topic keeps."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from adapters.backend.local import Config
from gateway.embedded import retention
from gateway.embedded.retention import Retention
from gateway.message import Message
from tests.contract.log import everything, soon


async def until(local, topic, start):
    async with asyncio.timeout(10):
        while (await local.starts(topic))[0] < start:  # noqa: ASYNC110  retention tells nobody
            await asyncio.sleep(0)


def config(**settings):
    return Config(kind="local", path=":memory:", retention_every=0.002, **settings)


async def test_what_is_to_go_goes_in_small_steps_while_records_come(monkeypatch):
    monkeypatch.setattr(retention, "TRIM_RECORDS", 7)
    async with config(retention={"records": 5}).build() as local:
        for number in range(300):
            await local.append("t", Message(b"%d" % number), soon())
        await until(local, "t", 295)
        assert [b"295", b"296", b"297", b"298", b"299"] == [record.body for record in await everything(local, "t")]


async def test_many_topics_are_looked_at_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(retention, "LOOKS", 2)
    async with config(retention={"records": 1}).build() as local:
        for topic in ("a", "b", "c", "d", "e"):
            await local.append(topic, Message(b"1"), soon())
            await local.append(topic, Message(b"2"), soon())
        for topic in ("a", "b", "c", "d", "e"):
            await until(local, topic, 1)


async def test_a_topic_may_keep_more_or_less_than_the_rest():
    async with config(retention={"records": 1}, topics={"long": {"retention": {"records": 3}}}).build() as local:
        for topic in ("long", "t"):
            for number in range(5):
                await local.append(topic, Message(b"%d" % number), soon())
        await until(local, "t", 4)
        await until(local, "long", 2)
        assert {0: 2} == dict(await local.starts("long"))


async def test_an_old_record_goes_and_the_empty_topic_goes_on():
    async with config(retention={"seconds": 0.001}).build() as local:
        await local.append("t", Message(b"0"), soon())
        await until(local, "t", 1)
        assert {0: 1} == dict(await local.ends("t"))
        assert 1 == (await local.append("t", Message(b"1"), soon())).offset


def test_it_is_bounded_by_default():
    assert (1_000_000, 7 * 24 * 3600, 1 << 30) == tuple(Retention().model_dump().values())


@pytest.mark.parametrize("field", ["records", "seconds", "bytes"])
def test_keeping_nothing_is_refused_when_loading(field):
    with pytest.raises(ValidationError):
        Retention(**{field: 0})
