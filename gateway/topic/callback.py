"""Answers that are sent to a URL which the caller named: signed webhooks, tried again until they are taken or their time is over.

A callback that is due stands in the gateway's state beside its question. Every gateway that shares the state has a task for each
that it has heard of, or found there: the one that gets a lease tries, writes down when the next try is due, and lets go, so that
any other can go on where it ended. A receiver may so be called twice (at least once); `webhook-id` tells it.

What is called is a target of a configured backend, never a URL as it comes: a caller chooses the path below one of theirs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from dataclasses import dataclass, field

from gateway.backoff import pause
from gateway.errors import BackendError, CallerError, GatewayError, HttpAnswer
from gateway.exchange import Call, Memory, new_id
from gateway.message import JSON, Message, compact
from gateway.metric import Counter
from gateway.state import State
from gateway.status import problem
from gateway.task import Tasks
from gateway.topic.answer import Answer, name_of, read
from gateway.topic.event import embedded
from gateway.topic.hook import Hook, allows, path_of
from gateway.topic.log import rfc3339

log = logging.getLogger("polygate")

SWEEP_S = 15.0
"""How often a gateway looks for callbacks that another has left behind."""
LEASE_S = 45.0
ATTEMPT_S = 30.0
PAUSE_S = (1.0, 300.0)
MAX_TASKS = 10_000
GONE = 410

CALLBACKS = Counter("polygate_callbacks", "Callbacks that came to an end: delivered, or given up.", "backend", "outcome")
ATTEMPTS = Counter("polygate_callback_failures", "Tries of a callback that failed.", "backend")


@dataclass(frozen=True, slots=True)
class Due:
    """A callback as the state has it. Times are in seconds since 1970."""

    asked: str
    url: str
    id: str
    """What the caller knows the question by."""
    until: float
    next: float = 0.0
    tries: int = 0

    def written(self) -> bytes:
        """As the state has it."""
        told = {"asked": self.asked, "url": self.url, "id": self.id, "until": self.until, "next": self.next, "tries": self.tries}
        return compact(told).encode()

    def failed(self, now: float) -> Due:
        """After one more try that failed: with twice the pause, and jitter."""
        tries = self.tries + 1
        return Due(self.asked, self.url, self.id, self.until, now + pause(tries, PAUSE_S), tries)


def due_of(kept: bytes) -> Due:
    """What `written` wrote."""
    return Due(**json.loads(kept))


@dataclass(slots=True)
class Callbacks:
    """The callbacks of one backend's questions."""

    backend: str
    state: State
    tasks: Tasks
    hooks: dict[str, Hook] = field(default_factory=dict)
    """How to call back, by the topic that was asked."""
    _running: set[str] = field(default_factory=set)
    _sweeping: bool = False

    def serve(self, asked: str, hook: Hook) -> None:
        """Call back those who asked on a topic, from now on and where a gateway before has not come to it."""
        self.hooks[asked] = hook
        if not self._sweeping:
            self._sweeping = True
            self.tasks.spawn(self._sweep(), f"callbacks of {self.backend}")

    async def due(self, key: str, asked: str, url: str, secret: str) -> None:
        """Put a callback beside a question that is about to be asked. CallerError for a URL that is not allowed."""
        hook = self.hooks[asked]
        path_of(hook.posts, url)
        until = time.time() + hook.seconds
        await self.state.put(self._name(key), Due(asked, url, secret, until).written(), hook.seconds)

    async def withdrawn(self, key: str) -> None:
        """The question was not asked."""
        try:
            await self.state.drop(self._name(key))
        except GatewayError as error:
            log.warning("a callback that will not be due stays until its time is over: %s", error.message)

    def answered(self, key: str) -> None:
        """The question of a key has its answer: call back, if that was asked for."""
        if self.hooks and key not in self._running and len(self._running) < MAX_TASKS:
            self._running.add(key)
            self.tasks.spawn(self._call(key), "callback")

    def _name(self, key: str) -> str:
        return f"callback:{self.backend}:{key}"

    async def _sweep(self) -> None:
        prefix = self._name("")
        while True:
            try:
                # Two looks, however many there are: one for each would ask the state's log where it ends each time.
                answers = await self.state.all(name_of(self.backend, ""))
                for name, due in (await self.state.all(prefix)).items():
                    key = name.removeprefix(prefix)
                    kept = answers.get(name_of(self.backend, key))
                    if kept is not None and self._ours(due_of(due)) and isinstance(read(kept), Answer):
                        self.answered(key)
            except GatewayError as error:
                log.warning("callbacks of %s: %s", self.backend, error.message)
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret

    async def _call(self, key: str) -> None:
        """One callback, to its end."""
        try:
            while (kept := await self.state.get(self._name(key))) is not None:
                due = due_of(kept)
                if not self._ours(due):
                    return
                wait = due.next - time.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif not await self._turn(key, kept, due):
                    # Somebody else tries: what comes of it is seen in the state.
                    async with asyncio.timeout(LEASE_S):
                        await self.state.changed(self._name(key), kept)
        except TimeoutError:
            pass  # whoever had the lease has ended: the next sweep finds the callback
        except GatewayError as error:
            log.warning("a callback waits for the next look: %s", error.message)
        finally:
            self._running.discard(key)

    def _ours(self, due: Due) -> bool:
        """Whether we know how to make it. If not it is left to one that does: what shares the state may have other routes."""
        hook = self.hooks.get(due.asked)
        return hook is not None and allows(hook.posts, due.url)

    async def _turn(self, key: str, kept: bytes, due: Due) -> bool:
        """One try, under a lease. False where another has it."""
        lease, holder = f"calling:{self.backend}:{key}", new_id().encode()
        if await self.state.claim(lease, holder, LEASE_S) is not None:
            return False
        try:
            # Another may have had its turn since we looked.
            if await self.state.get(self._name(key)) == kept:
                await self._try(key, due)
        finally:
            await self.state.drop(lease, known=holder)
        return True

    async def _try(self, key: str, due: Due) -> None:
        now = time.time()
        kept = await self.state.get(name_of(self.backend, key))
        answer = None if kept is None else read(kept)
        if not isinstance(answer, Answer) or now >= due.until:
            await self._end(key, "given_up", due)
            return
        try:
            await post(self.hooks[due.asked], key, due, answer)
        except GatewayError as error:
            ATTEMPTS.add(1, self.backend)
            told = next((detail.status for detail in error.details if isinstance(detail, HttpAnswer)), None)
            # 410 says that nobody listens there any more (Standard Webhooks).
            later = due.failed(now)
            if told == GONE or isinstance(error, CallerError) or later.next >= due.until:
                await self._end(key, "given_up", due)
            else:
                await self.state.put(self._name(key), later.written(), max(due.until - now, 1))
        else:
            await self._end(key, "delivered", due)

    async def _end(self, key: str, outcome: str, due: Due) -> None:
        CALLBACKS.add(1, self.backend, outcome)
        if outcome != "delivered":
            log.warning("a callback was given up after %d tries", due.tries + 1)
        await self.state.drop(self._name(key))


async def post(hook: Hook, key: str, due: Due, answer: Answer) -> None:
    """Call back once. Raises what the target does."""
    handler, path = path_of(hook.posts, due.url)
    deadline = asyncio.get_running_loop().time() + ATTEMPT_S
    call = Call(new_id(), "callback", f"POST /{path}", params={"path": path}, deadline=deadline, record=f"msg_{key}")
    await handler(Memory(Message(payload(hook, due, answer), JSON), call=call))


def payload(hook: Hook, due: Due, answer: Answer) -> bytes:
    """What a receiver is told, the same at every try: {"type", "timestamp", "data": {"id", "state", and "body" or "problem"}}."""
    data: dict[str, object] = {"id": due.id}
    try:
        message = answer.message(hook.content_type)
        data |= {"state": "done", **embedded(message)}
    except BackendError as error:
        data |= {"state": "failed", "problem": problem(error, due.id)}
    told = {"type": f"answer.{data['state']}", "timestamp": rfc3339(answer.timestamp), "data": data}
    return compact(told).encode()
