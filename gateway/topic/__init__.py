"""What every log-like backend shares: publish, ask, results and tail over a small port, `Log`, that its adapter implements.

A backend that is a log implements `Log` (append, ends, read) and gets the four verbs, their targets and their promises from
`Topics`; so `local` and `kafka` differ in their storage alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from gateway.exchange import Handler
from gateway.target import Target, TargetConfig
from gateway.task import Tasks
from gateway.topic.ask import AskTo, ask
from gateway.topic.feed import Feeds
from gateway.topic.later import Later
from gateway.topic.log import Log
from gateway.topic.publish import PublishTo, publish
from gateway.topic.reply import Replies
from gateway.topic.result import ResultsOf, results
from gateway.topic.tail import TailTo, tail

VERBS: Mapping[str, type[TargetConfig]] = {"publish": PublishTo, "ask": AskTo, "results": ResultsOf, "tail": TailTo}


class Topics:
    """The verbs over one log. Enter it once the log is connected; leaving ends its readers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._feeds = Feeds(log)
        self._replies = Replies(log, self._feeds)
        self._later = Later(log, self._feeds)
        self._tasks = Tasks()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        await self._stack.enter_async_context(self._feeds)
        await self._stack.enter_async_context(self._replies)
        await self._stack.enter_async_context(self._later)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def handler(self, target: Target) -> Handler:
        """See `Backend.handler`."""
        spec = target.spec
        if isinstance(spec, PublishTo):
            return publish(self._log, target, spec, self._tasks)
        if isinstance(spec, AskTo):
            return ask(self._replies, self._later, target, spec, self._tasks)
        if isinstance(spec, ResultsOf):
            return results(target, spec)
        if isinstance(spec, TailTo):
            return tail(self._log, self._feeds, target, spec)
        raise AssertionError(f"a log has no verb {spec.verb}: refused when the config is loaded")
