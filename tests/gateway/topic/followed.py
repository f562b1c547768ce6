"""What tests of feeds and of their followers do to a log, and take from it."""

from __future__ import annotations

import asyncio

from gateway.message import Message
from gateway.topic.follower import Follower
from tests.fake_log import FakeLog


def fill(log: FakeLog, count: int, topic: str = "t") -> None:
    """Put so many records, of numbers."""
    for number in range(count):
        log.put(topic, Message(b"%d" % number, key=b"%d" % number))


def grow(log: FakeLog, topic: str = "t") -> None:
    """Give a topic one more partition."""
    log.topics[topic].append([])


async def take(follower: Follower, count: int) -> list[bytes]:
    """The bodies of the next records."""
    bodies: list[bytes] = []
    async with asyncio.timeout(10):
        while len(bodies) < count:
            bodies.extend(record.body for record in await follower.read())
    return bodies
