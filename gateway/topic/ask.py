"""The verb `ask`: a request as a record, its reply from another topic, matched by a correlation id in the headers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, Self

from pydantic import Field

from gateway.errors import BackendError, GatewayError, Reason
from gateway.exchange import Exchange, Handler
from gateway.message import Headers, Message
from gateway.port import Record, Target, TargetConfig
from gateway.task import Tasks
from gateway.template import Template
from gateway.topic.feed import Feeds, Follower
from gateway.topic.log import CORRELATION, ERROR, REPLY_TO, Log
from gateway.topic.publish import Addressing, record_headers
from gateway.topic.write import DEFAULT_S

log = logging.getLogger("polygate")

MAX_WAITING = 10_000


class AskTo(TargetConfig):
    """Append the message to a topic, wait for its reply on another, and answer with that."""

    verb: ClassVar[str] = "ask"

    ask: str = Field(min_length=1, examples=["quotes.asked"])
    """The topic that is asked. `{name}` is a path variable or a top-level field of the message."""
    reply_to: str = Field(min_length=1, examples=["quotes.answered"])
    """The topic that replies come back on: one name, no template, for it is read from before the first question is sent, from
    its present end on.
    """
    key: str | None = Field(default=None, examples=["{sku}"])
    """The record's key."""

    def writes(self) -> Sequence[str]:
        return (self.ask, self.reply_to)

    def templates(self) -> Sequence[str]:
        return (self.ask,) if self.key is None else (self.ask, self.key)

    def refusals(self, contract: object) -> Sequence[str]:
        del contract
        if Template(self.reply_to).names:
            return ("reply_to cannot hold a variable: its topic is read before anybody asks",)
        if self.reply_to == self.ask:
            return ("reply_to is the topic that is asked: every question would be taken for its own answer",)
        return ()


class Asking:
    """Who waits for which reply. One reader for each reply topic, from the first ask on."""

    def __init__(self, log: Log, feeds: Feeds) -> None:
        self.log = log
        self._feeds = feeds
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._waiting: dict[str, asyncio.Future[Record]] = {}
        self._listening: dict[str, asyncio.Future[None]] = {}
        self.unmatched = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def listen(self, topic: str) -> None:
        """Read a reply topic from its present end on; a no-op once it is read."""
        started = self._listening.get(topic)
        if started is None:
            started = self._listening[topic] = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._match(topic, started), f"replies on {topic}")
        if not started.done():
            # Others wait for it too: one of them who leaves must not end it.
            await asyncio.shield(started)

    async def _match(self, topic: str, started: asyncio.Future[None]) -> None:
        try:
            async with self._feeds.following(topic) as feed:
                follower = Follower(feed, await self.log.ends(topic))
                started.set_result(None)
                await self._follow(follower)
        except GatewayError as error:
            if started.done():
                log.warning("replies on %s are read anew with the next question: %s", topic, error.message)
            else:
                started.set_exception(error)
        finally:
            del self._listening[topic]
            if not started.done():
                started.set_exception(BackendError(Reason.UNREACHABLE, "the gateway is about to stop"))

    async def _follow(self, follower: Follower) -> None:
        while True:
            for record in await follower.read():
                waiting = self._waiting.get(record.headers.get(CORRELATION) or "")
                if waiting is None or waiting.done():
                    self.unmatched += 1
                else:
                    waiting.set_result(record)

    async def reply(self, topic: str, message: Message, correlation: str, deadline: float) -> Record:
        """Send the question, return the reply's record. Raises what `Log.append` does, and UNKNOWN_OUTCOME without a reply."""
        if len(self._waiting) >= MAX_WAITING:
            raise BackendError(Reason.OVERLOADED, "too many questions are waiting for their replies")
        waiting: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = waiting
        try:
            await self.log.append(topic, message, deadline)
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError as error:
            raise BackendError(Reason.UNKNOWN_OUTCOME, "the question was sent, and no reply came in time") from error
        finally:
            del self._waiting[correlation]


def ask(asking: Asking, target: Target, spec: AskTo) -> Handler:
    """The handler of one ask target."""
    address = Addressing(target, spec.ask, spec.key)

    async def run(exchange: Exchange) -> None:
        message = await exchange.receive()
        call = exchange.call
        topic, key = address(call, message)
        await asking.listen(spec.reply_to)
        headers = Headers((*record_headers(call, message), (CORRELATION, call.id), (REPLY_TO, spec.reply_to)))
        question = Message(message.body, message.content_type, key, headers)
        record = await asking.reply(topic, question, call.id, call.due(DEFAULT_S))
        failed = record.headers.get(ERROR)
        if failed is not None:
            raise failed_as(failed)
        await exchange.send(Message(record.body, target.content_type, record.key))

    return run


def failed_as(reason: str) -> BackendError:
    """The error that the answering side wrote in its reply's header, under its own reason where that is one of ours."""
    known = reason in Reason._value2member_map_
    return BackendError(Reason(reason) if known else Reason.BACKEND_UNKNOWN, "the answering side refused the question")
