"""The verb `ask`: a request as a record, its reply from another topic, matched by a correlation id in the headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from gateway.errors import BackendError, GatewayError, Outcome
from gateway.exchange import Call, Exchange, Handler
from gateway.message import Headers, Message
from gateway.part import Part
from gateway.target import Posts, Target, TargetConfig
from gateway.template import Template
from gateway.topic.answer import answer_of
from gateway.topic.callback import Callbacks
from gateway.topic.correlation import later, new_secret
from gateway.topic.hook import CallbackConfig, Hook
from gateway.topic.later import Keeper, Later
from gateway.topic.log import CORRELATION, HEADER, REPLY_TO
from gateway.topic.preference import Preference, preference_of
from gateway.topic.publish import Addressing, record_headers
from gateway.topic.reply import Replies
from gateway.topic.result import ResultBelow, taken
from gateway.topic.seat import Seat
from gateway.topic.write import DEFAULT_S


class LaterConfig(Part):
    """Let callers fetch the answer later (RFC 7240 `Prefer: respond-async`, `wait=N`), at the question's path with an id behind.

    What is asked so stands in the gateway's state, and so does its answer: they outlive the process, and any gateway that shares
    the state has them.
    """

    keep: float = Field(default=3600.0, ge=1, le=30 * 86_400)
    """Seconds for which a question waits for its answer, and the answer for being fetched."""
    callback: CallbackConfig | None = None
    """Let callers name a URL that the answer is sent to."""


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
    correlation_header: str = Field(default=CORRELATION, pattern=HEADER, examples=["kafka_correlationId"])
    """The header of the correlation id: the answering side copies it from the question to the reply."""
    reply_to_header: str = Field(default=REPLY_TO, pattern=HEADER, examples=["kafka_replyTopic"])
    """The header that tells the answering side where its reply belongs."""
    share: Literal["header", "partition"] = "header"
    """How gateways share the reply topic. `header`: each reads all of it and passes over what is another's. `partition`: each
    reads one partition, which the answering side is told in `polygate-reply-partition` and has to write to.
    """
    reply_partition: int | None = Field(default=None, ge=0, examples=[0])
    """With `share: partition`, this one; unless told, one that no other gateway has claimed in the state that they share."""
    later: LaterConfig | None = None
    """Let callers fetch the answer later. Off unless it stands here; `later: {}` takes its defaults."""

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.reply_partition is not None and self.share != "partition":
            raise ValueError("reply_partition needs share: partition")
        return self

    def writes(self) -> Sequence[str]:
        return (self.ask, self.reply_to)

    def templates(self) -> Sequence[str]:
        return (self.ask,) if self.key is None else (self.ask, self.key)

    def needs(self) -> AbstractSet[str]:
        claims = self.share == "partition" and self.reply_partition is None
        return {"state"} if claims or self.later is not None else frozenset()

    def keeps(self) -> Mapping[tuple[str, ...], float]:
        return {} if self.later is None else {("later", "keep"): self.later.keep}

    def below(self) -> TargetConfig | None:
        if self.later is None:
            return None
        return ResultBelow(backend=self.backend, format=self.format, results=self.ask)

    def posts(self) -> Posts | None:
        callback = self.later.callback if self.later is not None else None
        if callback is None:
            return None
        return Posts(callback.backends, callback.sign, callback.plain, ("later", "callback", "backends"))

    def refusals(self, contract: object) -> Sequence[str]:
        del contract
        if Template(self.reply_to).names:
            return ("reply_to cannot hold a variable: its topic is read before anybody asks",)
        if self.reply_to == self.ask:
            return ("reply_to is the topic that is asked: every question would be taken for its own answer",)
        return ()


Send = Callable[[Call, Message, str], Awaitable[None]]
"""Write the question of a message under a correlation id."""


def ask(replies: Replies, keeping: Later, target: Target, spec: AskTo) -> Handler:
    """The handler of one ask target."""
    address = Addressing(target, spec.ask, spec.key)
    seat = None
    if spec.share == "partition":
        seat = Seat(spec.backend, spec.reply_to, fixed=spec.reply_partition, state=target.state)
    way = replies.way(spec.backend, spec.reply_to, (spec.correlation_header, spec.reply_to_header), seat)

    async def send(call: Call, message: Message, correlation: str) -> None:
        topic, key = address(call, message)
        headers = way.asked(record_headers(call, message), correlation)
        question = Message(message.body, message.content_type, key, headers)
        await replies.log.append(topic, question, call.due(DEFAULT_S))

    async def now(exchange: Exchange, message: Message) -> None:
        call = exchange.call
        await replies.listen(way)
        record = await replies.reply(partial(send, call, message), call.due(DEFAULT_S))
        await exchange.send(answer_of(record).message(target.content_type))

    async def run(exchange: Exchange) -> None:
        await now(exchange, await exchange.receive())

    if spec.later is None or target.state is None:
        return run
    keeper = keeping.keeper(way, target.state)
    deferred = _Deferred(target, spec, spec.later, keeper, send)

    async def either(exchange: Exchange) -> None:
        message = await exchange.receive()
        preference = preference_of(exchange.call)
        url = deferred.url(exchange.call, message)
        if url is None and not preference.later and preference.wait is None:
            await now(exchange, message)
            return
        if way.seat is not None:
            await replies.listen(way)  # which takes the partition
        await deferred.run(exchange, message, preference, url)

    return either


class _Deferred:
    """Questions of one target whose answers are fetched later."""

    def __init__(
        self,
        target: Target,
        spec: AskTo,
        later: LaterConfig,
        keeper: Keeper,
        send: Send,
    ) -> None:
        self._asked = spec.ask
        self._keep = later.keep
        self._callback = later.callback
        self._keeper = keeper
        self._send = send
        self._target = target
        if later.callback is not None:
            self._callbacks: Callbacks = keeper.callbacks
            hook = Hook(target.posts, min(later.callback.seconds, later.keep), target.content_type)
            self._callbacks.serve(spec.ask, hook)

    def url(self, call: Call, message: Message) -> str | None:
        """Where the caller wants to be called back; None for nowhere."""
        config = self._callback
        if config is None:
            return None
        if config.member is not None and isinstance(named := self._target.fields(message.body).get(config.member), str):
            return named
        return call.headers.get(config.header)

    async def run(self, exchange: Exchange, message: Message, preference: Preference, url: str | None) -> None:
        """Ask, and answer at once with an id, or with the answer where that comes within `wait`."""
        call, keeper = exchange.call, self._keeper
        secret = new_secret()
        key = later(self._asked, secret)
        pending = await self._ask(call, message, key, secret, url)
        applied = (("preference-applied", preference.applied),) if preference.applied else ()
        if preference.wait:
            until = min(call.due(DEFAULT_S), asyncio.get_running_loop().time() + preference.wait)
            answer = await keeper.answered(key, pending, until)
            if answer is not None:
                await exchange.accept(Headers(applied))
                await exchange.send(answer.message(self._target.content_type))
                return
        path = call.target.partition(" ")[2]
        place = (("location", f"{path}/{secret}"),) if call.protocol == "rest" else ()
        await taken(exchange, secret, "accepted", Headers((*place, *applied)))

    async def _ask(self, call: Call, message: Message, key: str, secret: str, url: str | None) -> bytes:
        try:
            if url is not None:
                await self._callbacks.due(key, self._asked, url, secret)
            pending = await self._keeper.pending(key, self._asked, self._keep)
        except BackendError as error:
            # Whatever became of what was to be kept: nothing was asked.
            raise BackendError(error.reason, error.message, details=error.details, outcome=Outcome.FAILED) from error
        try:
            await self._send(call, message, key)
        except GatewayError:
            await self._keeper.withdrawn(key)
            if url is not None:
                await self._callbacks.withdrawn(key)
            raise
        return pending
