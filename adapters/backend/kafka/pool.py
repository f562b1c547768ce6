"""The transactions of one backend: so many at a time, each within its deadline, each with an outcome that is no lie."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from aiokafka import errors

from adapters.backend.kafka.batch import AGAIN, TOO_LARGE, InvalidRecordError
from adapters.backend.kafka.cluster import Cluster
from adapters.backend.kafka.sending import Budget, Sending, milliseconds
from adapters.backend.kafka.settlement import LATE
from adapters.backend.kafka.transaction import TIMEOUT_S, Producer, Refused
from adapters.backend.kafka.wire import AWAY, BACKOFF_S, REFUSALS, Settings
from gateway.backoff import pause
from gateway.errors import BackendError, CallerError, GatewayError, Reason
from gateway.task import Tasks
from gateway.topic.log import Place, Post

log = logging.getLogger("polygate")

# The transaction is another's by now, or was ended for it took too long.
_ENDED = frozenset({errors.InvalidProducerEpoch, errors.InvalidTxnState, errors.InvalidProducerIdMapping})


class Work:
    """Records that are to be written together."""

    __slots__ = ("committing", "deadline", "done", "places", "posts")

    def __init__(self, posts: Sequence[tuple[Sending, Post]], deadline: float, done: asyncio.Future[list[Place]]) -> None:
        self.posts = posts
        self.deadline = deadline
        self.done = done
        self.committing = False
        self.places: list[Place] = []

    def expire(self) -> None:
        """The deadline has come, or whoever waits is to be told now."""
        if self.done.done():
            return
        if self.committing:
            self.done.set_exception(
                BackendError(Reason.UNKNOWN_OUTCOME, "the broker did not say in time whether the records are written")
            )
        else:
            self.done.set_exception(BackendError(Reason.UNREACHABLE, "the broker did not take the records in time"))


class Transactions:
    """The transactional producers of one backend. Entering does not wait; leaving lets what is being committed end."""

    def __init__(self, settings: Settings, cluster: Cluster, budget: Budget) -> None:
        self._settings = settings
        self._cluster = cluster
        self._budget = budget
        self._tasks = Tasks()
        self._stack = AsyncExitStack()
        self._free = [
            Producer(f"{settings.transactional}-{number}", settings, cluster) for number in range(settings.transactions)
        ]
        self._turn = asyncio.Semaphore(settings.transactions)
        self._open: set[Work] = set()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.stop_s
        waiting = [one.done for one in self._open]
        if waiting:
            await asyncio.wait(waiting, timeout=until - loop.time())
        await self._stack.aclose()
        for work in self._open:
            work.expire()

    async def append_all(self, posts: Sequence[Post], deadline: float, *, route: str = "") -> list[Place]:
        """See `Log.append_all`."""
        if not posts:
            return []
        loop = asyncio.get_running_loop()
        if deadline <= loop.time():
            raise BackendError(Reason.TIMED_OUT, "the deadline passed before the records could be sent")
        sendings = [(Sending(post.message, route), post) for post in posts]
        now = milliseconds()
        for one, _ in sendings:
            one.timestamp = now
            if one.size > self._settings.record:
                raise CallerError(Reason.TOO_LARGE, f"a record of this topic holds at most {self._settings.record} bytes")
        try:
            async with asyncio.timeout_at(deadline):
                await self._cluster.tried.wait()
        except TimeoutError as error:
            raise BackendError(Reason.UNREACHABLE, "the broker has not answered yet") from error
        self._cluster.refuse()
        taken: list[Sending] = []
        try:
            for one, _ in sendings:
                self._budget.take(one)
                taken.append(one)
        except GatewayError:
            for one in taken:
                self._budget.release(one)
            raise
        work = Work(sendings, deadline, loop.create_future())
        timer = loop.call_at(deadline, work.expire)
        self._open.add(work)
        self._tasks.spawn(self._run(work), "a Kafka transaction")
        try:
            return await work.done
        finally:
            timer.cancel()

    async def _run(self, work: Work) -> None:
        try:
            async with self._turn:
                producer = self._free.pop()
                try:
                    if await self._written(producer, work):
                        await self._committed(producer, work)
                    await self._tidied(producer)
                finally:
                    self._free.append(producer)
        finally:
            work.expire()
            self._open.discard(work)
            for one, _ in work.posts:
                self._budget.release(one)

    async def _written(self, producer: Producer, work: Work) -> bool:
        """Write until it is done, the deadline comes or somebody says no for good. Whether there is something to commit."""
        tries = 0
        while not work.done.done():
            try:
                async with asyncio.timeout_at(work.deadline):
                    work.places = await producer.write(work.posts)
            except (Refused, GatewayError, *AWAY) as error:
                log.warning("kafka %s: a transaction is not written: %r", self._settings.name, error)
                producer.forget()
                told = _told(error)
                if not work.done.done() and (error is told or told.reason is not Reason.UNREACHABLE):
                    work.done.set_exception(told)
                tries += 1
                await asyncio.sleep(pause(tries, BACKOFF_S))
            else:
                if not work.done.done():
                    work.committing = True
                    return True
                # Nobody waits any more: what is open must not be committed with the next.
                producer.forget()
        return False

    async def _tidied(self, producer: Producer) -> None:
        """End what it may have left open, for readers wait for that. If not now it is done before its next transaction."""
        try:
            async with asyncio.timeout(self._settings.request_s):
                await producer.open()
        except (Refused, BackendError, *AWAY) as error:
            log.warning("kafka %s: a transaction is left open: %r", self._settings.name, error)

    async def _committed(self, producer: Producer, work: Work) -> None:
        """Commit, and find out what became of it: also for a caller that was told that nobody knows."""
        doubtful, tries = False, 0
        until = asyncio.get_running_loop().time() + TIMEOUT_S
        error: GatewayError = BackendError(Reason.UNKNOWN_OUTCOME, "nobody says whether the records are written")
        fate = "unknown"
        while True:
            try:
                async with asyncio.timeout_at(until):
                    await producer.commit()
            except Refused as refused:
                if not doubtful and refused.error in _ENDED:
                    error, fate = BackendError(Reason.UNREACHABLE, "the transaction was ended by another"), "failed"
                break
            except (BackendError, *AWAY) as trouble:
                log.warning("kafka %s: a transaction is in doubt: %r", self._settings.name, trouble)
                doubtful = doubtful or not isinstance(trouble, BackendError)
                if asyncio.get_running_loop().time() >= until:
                    break
                tries += 1
                await asyncio.sleep(pause(tries, BACKOFF_S))
            else:
                fate = "acknowledged"
                break
        if fate != "acknowledged":
            producer.forget()
        if work.done.done():
            LATE.add(len(work.posts), self._settings.name, fate)
        elif fate == "acknowledged":
            work.done.set_result(work.places)
        else:
            work.done.set_exception(error)


def _told(error: BaseException) -> GatewayError:
    """What a transaction that was not written is told. UNREACHABLE where another try may do better."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, Refused):
        if error.error in TOO_LARGE:
            return CallerError(Reason.TOO_LARGE, "the broker takes no record of this size")
        if error.error not in AGAIN and (issubclass(error.error, REFUSALS) or error.error is InvalidRecordError):
            return BackendError(Reason.REFUSED, "the broker refuses these records")
    if isinstance(error, REFUSALS):
        return BackendError(Reason.REFUSED, "the broker refuses this")
    return BackendError(Reason.UNREACHABLE, "the broker did not take the records")
