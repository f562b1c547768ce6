"""What is done with every record: it is tried until it is handled or given up, and then what comes of that is written."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass

from adapters.ingress.topic.record import RecordExchange, place_of
from adapters.ingress.topic.verdict import (
    DEAD_LETTERED,
    DELIVERED,
    PASSED_OVER,
    Names,
    Verdict,
    is_poison,
    letter,
    problem_of,
)
from gateway.breaker import Breaker
from gateway.errors import BackendError, CallerError, GatewayError, Reason, RetryAfter
from gateway.exchange import Handler
from gateway.listener import View
from gateway.message import PROBLEM, Message
from gateway.metric import Counter
from gateway.port import Record, Source, Turn

log = logging.getLogger("polygate")

# A backend that says when to come again is believed, but not that it will be next year.
MAX_AFTER_S = 3600.0

_LABELS = ("listener", "topic")
RECORDS = Counter(
    "polygate_topic_records", "Records that a listener of topics is done with, by what became of them.", *_LABELS, "fate"
)
RETRIES = Counter("polygate_topic_retries", "Tries of records after one that failed.", *_LABELS)
PAUSES = Counter("polygate_topic_pauses", "How often a record waited because the breaker of its backend was open.", *_LABELS)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the config says of records, as they are worked through."""

    listener: str
    content_type: str
    reply_to: tuple[str, ...]
    names: Names
    dead_letter: str | None
    attempts: int | None
    pause: float
    max_pause: float


class Work:
    """Handles records, as `Deliver` says. A record's tries, and what is written of it, take turns; its pauses do not."""

    def __init__(self, terms: Terms, view: View, source: Source) -> None:
        self._terms = terms
        self._view = view
        self._source = source
        self._leaving = False
        self._until: float | None = None
        self._limits: set[asyncio.Timeout] = set()

    def leave(self) -> None:
        """Let what is being tried end until the drain does; no try follows it."""
        self._leaving = True
        self._until = self._view.drain_until or asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(self._until)

    async def __call__(self, record: Record, turn: Turn) -> None:
        """Return once it is done with. Raises where the listener leaves first: it is then delivered again."""
        terms = self._terms
        tries, pause = 0, terms.pause
        verdict: Verdict | None = None
        while True:
            endpoint = self._view.find("topic", f"/{record.topic}", record.headers).endpoint
            breaker = self._view.breaker(endpoint.backend)
            if verdict is None and breaker is not None and breaker.open:
                PAUSES.add(1, terms.listener, record.topic)
                await breaker.closed()
            async with turn, asyncio.timeout_at(self._until) as limit:
                self._limits.add(limit)
                try:
                    if verdict is None:
                        verdict = await self._tried(record, endpoint.handler, breaker, tries + 1)
                    await self._written(record, verdict)
                except GatewayError as error:
                    if self._leaving:
                        raise
                    failure = error
                    wait = _wait(error, pause)
                    what = "waits" if verdict is None else f"waits to be written to {verdict.writes[0][0]}, for"
                    log.warning("%s: %s %s %.1f s: %s", terms.listener, place_of(record), what, wait, error.message)
                else:
                    RECORDS.add(1, terms.listener, record.topic, verdict.fate)
                    return
                finally:
                    self._limits.discard(limit)
            if verdict is None:
                RETRIES.add(1, terms.listener, record.topic)
                tries += _was_sent(failure, breaker)
            await asyncio.sleep(wait)
            pause = min(pause * 2, terms.max_pause)

    async def _tried(self, record: Record, handler: Handler, breaker: Breaker | None, number: int) -> Verdict:
        """What becomes of a record by this try. Raises a GatewayError after which there is another."""
        terms = self._terms
        exchange = RecordExchange(record, terms.content_type)
        try:
            await handler(exchange)
        except GatewayError as error:
            last = terms.attempts is not None and number >= terms.attempts and _was_sent(error, breaker)
            if not last and not is_poison(error):
                raise
            return self._given_up(record, error, number, exchange.call.id)
        return Verdict(DELIVERED, exchange.call.id, self._replies(record, exchange.reply))

    def _given_up(self, record: Record, error: GatewayError, number: int, exchange_id: str) -> Verdict:
        """Whoever asked is told; the record is kept where there is a place for it, so that it never stops those behind it."""
        replies = self._replies(record, problem_of(error, exchange_id))
        where = self._terms.dead_letter
        fate = PASSED_OVER if where is None else DEAD_LETTERED
        kept = "is passed over" if where is None else f"goes to {where}"
        log.warning("%s: %s %s: %s", self._terms.listener, place_of(record), kept, error.message)
        if where is not None:
            replies.appendleft((where, letter(record, error, number), None))
        return Verdict(fate, exchange_id, replies)

    def _replies(self, record: Record, reply: Message | None) -> deque[tuple[str, Message, int | None]]:
        """A record that asks for its reply on a topic that the config does not list gets none."""
        topic, partition = self._terms.names.asks_on(record)
        if reply is None or not topic:
            return deque()
        if topic not in self._terms.reply_to:
            place = place_of(record)
            log.warning("%s: %s asks for its reply on a topic that reply_to does not list", self._terms.listener, place)
            return deque()
        return deque(((topic, self._terms.names.reply(record, reply), partition),))

    async def _written(self, record: Record, verdict: Verdict) -> None:
        writes = verdict.writes
        while writes:
            topic, message, partition = writes[0]
            try:
                await self._produced(topic, message, partition)
            except CallerError as error:
                if message.content_type == PROBLEM or topic == self._terms.dead_letter:
                    raise
                # A reply that can never be written: it is too large. Whoever asked is told that in its place.
                log.warning("%s: the reply to %s is none: %s", self._terms.listener, place_of(record), error.message)
                problem = self._terms.names.reply(record, problem_of(error, verdict.id))
                writes[0] = (topic, problem, partition)
            else:
                writes.popleft()

    async def _produced(self, topic: str, message: Message, partition: int | None) -> None:
        try:
            await self._source.produce(topic, message, partition)
        except BackendError as error:
            if partition is None or error.reason is not Reason.REFUSED:
                raise
            # Whoever asked for a partition that the topic does not have reads all of it, or none.
            await self._source.produce(topic, message)


def _was_sent(error: GatewayError, breaker: Breaker | None) -> bool:
    """Whether a try that failed was one: what the gateway itself refuses for a while says nothing of the record."""
    return error.reason is not Reason.OVERLOADED and (breaker is None or not breaker.open)


def _wait(error: GatewayError, pause: float) -> float:
    """How long until the next try: some of the pause, so that not all come at once, or what the backend asks for."""
    asked = next((detail.seconds for detail in error.details if isinstance(detail, RetryAfter)), 0.0)
    return max(pause * random.uniform(0.5, 1.0), min(asked, MAX_AFTER_S))  # noqa: S311  jitter, not a secret
