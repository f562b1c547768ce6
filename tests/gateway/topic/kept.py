"""A real state over a log in memory, and questions that are kept in it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.exchange import Call, Memory
from gateway.message import JSON, Headers, Message
from gateway.target import Target
from gateway.topic import Topics
from gateway.topic.ask import AskTo
from gateway.topic.log import CORRELATION
from gateway.topic.result import ResultsOf
from gateway.topic.shelf import Shelf
from tests.fake_log import FakeLog

STATE = "state"


def state_log():
    """A log for a state, whose records have the times of now."""
    return FakeLog({}, (int(time.time() * 1000) for _ in itertools.count()))


def shelf(log):
    return Shelf(log, STATE, max_bytes=10 << 20, max_age=86_400)


class Asker:
    """A gateway with one ask route and the route of its answers, over a log and a state that others may share."""

    def __init__(self, topics, state, name="events", posts=None, **spec):
        self.topics = topics
        self.state = state
        self.name = name
        said = {"ask": "asked", "reply_to": "answered", "later": {"keep": 600}, **spec}
        target = Target("r", AskTo(backend=name, **said), fields=json.loads, state=state, posts=posts or {})
        self.handler = topics.handler(target)
        self.results = topics.handler(replace(target, spec=ResultsOf(backend=name, results=said["ask"]), posts={}))

    async def ask(self, *headers, body=b"{}", protocol="rest", seconds=30, **call):
        """One question; the exchange, once it is answered."""
        deadline = asyncio.get_running_loop().time() + seconds
        made = Call("1", protocol, "POST /quotes", Headers(headers), deadline=deadline, **call)
        exchange = Memory(Message(body, JSON), call=made)
        await self.handler(exchange)
        return exchange

    async def later(self, *headers):
        """The id of a question whose answer is fetched later."""
        exchange = await self.ask(("prefer", "respond-async"), *headers)
        return json.loads(exchange.replies[0].body)["id"]

    async def fetch(self, secret, *headers, seconds=30, protocol="rest", **call):
        deadline = asyncio.get_running_loop().time() + seconds
        params = {"id": secret} if secret is not None else {}
        made = Call("2", protocol, "GET /quotes", Headers(headers), params, deadline=deadline, **call)
        exchange = Memory(*call.get("messages", ()), call=made)
        await self.results(exchange)
        return exchange


@asynccontextmanager
async def asker(log, kept, **spec):
    """A gateway of its own over a log of topics and a log with the state."""
    async with shelf(kept) as state, Topics(log) as topics:
        yield Asker(topics, state, **spec)


async def asked(log, number=0):
    """The question with a number, once it is there."""
    async with log.reading("asked", {0: number}) as reader, asyncio.timeout(10):
        while not (records := await reader.read()):
            pass
    return records[0]


def reply(log, question, body=b'{"price":9}', *more):
    """Answer a question."""
    log.put("answered", Message(body, headers=Headers(((CORRELATION, question.headers.get(CORRELATION)), *more))))
