"""Questions whose answers are kept: answered at once with where the answer will be, or with it where it comes in time; and asked
once for each idempotency key.

A key has a secret, whichever was claimed first, and with it one correlation id: so whoever comes with the key, on whichever
gateway and after whatever crash, finds the answer to the one question that was asked. That it was asked once is `Once`'s to say,
as of any other record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pydantic import Field

from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.exchange import Call, Exchange
from gateway.message import Headers, Message
from gateway.part import Part
from gateway.state import State
from gateway.status import outcome_of
from gateway.target import Target
from gateway.task import Tasks
from gateway.topic.callback import Callbacks
from gateway.topic.correlation import later, new_secret
from gateway.topic.hook import CallbackConfig, Hook
from gateway.topic.idempotency import Idempotency, keyed
from gateway.topic.later import Keeper
from gateway.topic.log import Log, Post
from gateway.topic.once import Once
from gateway.topic.preference import Preference
from gateway.topic.result import taken
from gateway.topic.write import DEFAULT_S, REPLAYED, Receipt

Question = Callable[[Call, Message, str], Post]
"""The record of a question under a correlation id."""


class LaterConfig(Part):
    """Let callers fetch the answer later (RFC 7240 `Prefer: respond-async`, `wait=N`), at the question's path with an id behind.

    What is asked so stands in the gateway's state, and so does its answer: they outlive the process, and any gateway that shares
    the state has them.
    """

    keep: float = Field(default=3600.0, ge=1, le=30 * 86_400)
    """Seconds for which a question waits for its answer, and the answer for being fetched."""
    callback: CallbackConfig | None = None
    """Let callers name a URL that the answer is sent to."""


class Keys:
    """The questions of one target that have an idempotency key."""

    def __init__(self, source: Log, state: State, target: Target, spec: Idempotency, tasks: Tasks) -> None:
        self.key_of = keyed(target, spec)
        self.window = spec.window
        self.once = Once(source, state, target.route, spec, tasks)
        self._state = state

    async def secret(self, key: str) -> str:
        """The secret of a key, the same for all who come with it."""
        mine = new_secret()
        there = await self._state.claim(f"asked:{key}", mine.encode(), self.window)
        return mine if there is None else there.decode()


class Deferred:
    """Questions of one target whose answers are kept."""

    def __init__(
        self, log: Log, target: Target, asked: str, spec: LaterConfig, keeper: Keeper, question: Question, keys: Keys | None
    ) -> None:
        """`asked` is the topic as the config writes it; `keys`: where the target has idempotency keys."""
        self._log = log
        self._asked = asked
        self._keep = spec.keep if keys is None else max(spec.keep, keys.window)
        self._callback = spec.callback
        self._keeper = keeper
        self._question = question
        self._keys = keys
        self._target = target
        if spec.callback is not None:
            self._callbacks: Callbacks = keeper.callbacks
            hook = Hook(target.posts, min(spec.callback.seconds, spec.keep), target.content_type)
            self._callbacks.serve(asked, hook)

    def key(self, call: Call, message: Message) -> str | None:
        """The idempotency key of a question; None where it has none. CallerError where it should have one, or is malformed."""
        return None if self._keys is None else self._keys.key_of(call, message)

    def url(self, call: Call, message: Message) -> str | None:
        """Where the caller wants to be called back; None for nowhere."""
        config = self._callback
        if config is None:
            return None
        if config.member is not None and isinstance(named := self._target.fields(message.body).get(config.member), str):
            return named
        return call.headers.get(config.header)

    async def run(
        self, exchange: Exchange, message: Message, preference: Preference, url: str | None, key: str | None = None
    ) -> None:
        """Ask, and answer with the answer where that comes in time, which who prefers nothing waits for; else with an id."""
        call = exchange.call
        secret, replayed = await self._asked_for(call, message, url, key)
        applied = (("preference-applied", preference.applied),) if preference.applied else ()
        marks = (*((REPLAYED,) if replayed else ()), *applied)
        waits = url is None and not preference.later and preference.wait is None
        if waits or preference.wait:
            until = call.due(DEFAULT_S)
            if preference.wait:
                until = min(until, asyncio.get_running_loop().time() + preference.wait)
            answer = await self._keeper.answered(later(self._asked, secret), until)
            if answer is not None:
                told = answer.message(self._target.content_type)
                await exchange.accept(Headers(marks))
                await exchange.send(told)
                return
        if waits:
            raise BackendError(Reason.UNKNOWN_OUTCOME, "the question was sent, and no reply came in time")
        path = call.target.partition(" ")[2]
        place = (("location", f"{path}/{secret}"),) if call.protocol == "rest" else ()
        await taken(exchange, secret, "accepted", Headers((*place, *marks)))

    async def _asked_for(self, call: Call, message: Message, url: str | None, key: str | None) -> tuple[str, bool]:
        """The secret of a question that is asked, and whether it was asked before."""
        if key is None or self._keys is None:
            secret = new_secret()
            await self._ask(call, self._question(call, message, later(self._asked, secret)), secret, url)
            return secret, False
        secret = await self._keys.secret(key)

        async def attempt(posts: Sequence[Post]) -> Sequence[Receipt]:
            (post,) = posts
            await self._ask(call, post, secret, url)
            return [Receipt(id=secret, state="accepted")]

        post = self._question(call, message, later(self._asked, secret))
        (receipt,) = await self._keys.once.run(call, key, (post,), attempt)
        # What was claimed may be forgotten a moment before what was asked is.
        return receipt.id or secret, receipt.replayed

    async def _ask(self, call: Call, post: Post, secret: str, url: str | None) -> None:
        key = later(self._asked, secret)
        try:
            if url is not None:
                await self._callbacks.due(key, self._asked, url, secret)
            await self._keeper.pending(key, self._asked, self._keep)
        except BackendError as error:
            # Whatever became of what was to be kept: nothing was asked.
            raise BackendError(error.reason, error.message, details=error.details, outcome=Outcome.FAILED) from error
        try:
            await self._log.append(post.topic, post.message, call.due(DEFAULT_S))
        except GatewayError as error:
            # What may have been asked may be answered, and whoever comes with its key is to have that.
            if outcome_of(error) is Outcome.FAILED:
                await self._keeper.withdrawn(key)
                if url is not None:
                    await self._callbacks.withdrawn(key)
            raise
