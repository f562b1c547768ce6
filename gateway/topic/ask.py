"""The verb `ask`: a request as a record, its reply from another topic, matched by a correlation id in the headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from gateway.exchange import Call, Exchange, Handler
from gateway.message import Message
from gateway.target import Posts, Target, TargetConfig
from gateway.task import Tasks
from gateway.template import Template
from gateway.topic.answer import answer_of
from gateway.topic.deferred import Deferred, Keys, LaterConfig
from gateway.topic.idempotency import Idempotency
from gateway.topic.later import Later
from gateway.topic.log import CORRELATION, HEADER, REPLY_TO, Post
from gateway.topic.preference import preference_of
from gateway.topic.publish import Addressing, record_headers
from gateway.topic.reply import Replies, Way
from gateway.topic.result import ResultBelow
from gateway.topic.seat import Seat
from gateway.topic.write import DEFAULT_S


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
    idempotency: Idempotency | None = None
    """Ask once for each Idempotency-Key, however often it comes: who comes again waits for the same reply, or gets it. It needs
    `later`, by which replies are kept. Off unless it stands here; `{}` takes its defaults.
    """

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.reply_partition is not None and self.share != "partition":
            raise ValueError("reply_partition needs share: partition")
        return self

    def writes(self) -> Sequence[str]:
        return (self.ask, self.reply_to)

    def templates(self) -> Sequence[str]:
        own = None if self.idempotency is None else self.idempotency.key
        return tuple(one for one in (self.ask, self.key, own) if one is not None)

    def needs(self) -> AbstractSet[str]:
        claims = self.share == "partition" and self.reply_partition is None
        return {"state"} if claims or self.later is not None else frozenset()

    def keeps(self) -> Mapping[tuple[str, ...], float]:
        kept: dict[tuple[str, ...], float] = {}
        if self.later is not None:
            kept["later", "keep"] = self.later.keep
        if self.idempotency is not None:
            kept["idempotency", "window"] = self.idempotency.window
        return kept

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
        if self.idempotency is not None and self.later is None:
            return ("idempotency needs later: who comes with a key again is given the reply that is kept",)
        return ()


class _Asking:
    """Asks the questions of one target."""

    def __init__(self, replies: Replies, way: Way, target: Target, spec: AskTo) -> None:
        self._replies = replies
        self._way = way
        self._address = Addressing(target, spec.ask, spec.key)
        self._content_type = target.content_type

    def question(self, call: Call, message: Message, correlation: str) -> Post:
        """The record that asks."""
        topic, key = self._address(call, message)
        headers = self._way.asked(record_headers(call, message), correlation)
        return Post(topic, Message(message.body, message.content_type, key, headers))

    async def run(self, exchange: Exchange) -> None:
        """Ask, and answer with the reply."""
        await self.now(exchange, await exchange.receive())

    async def now(self, exchange: Exchange, message: Message) -> None:
        """Ask what was received already, and answer with the reply."""
        replies, call = self._replies, exchange.call

        async def send(correlation: str) -> None:
            post = self.question(call, message, correlation)
            await replies.log.append(post.topic, post.message, call.due(DEFAULT_S))

        await replies.listen(self._way)
        record = await replies.reply(send, call.due(DEFAULT_S))
        await exchange.send(answer_of(record).message(self._content_type))


def ask(replies: Replies, keeping: Later, target: Target, spec: AskTo, tasks: Tasks) -> Handler:
    """The handler of one ask target. `tasks`: where what outlives its caller runs."""
    seat = None
    if spec.share == "partition":
        seat = Seat(spec.backend, spec.reply_to, fixed=spec.reply_partition, state=target.state)
    way = replies.way(spec.backend, spec.reply_to, (spec.correlation_header, spec.reply_to_header), seat)
    asking = _Asking(replies, way, target, spec)
    if spec.later is None or target.state is None:
        return asking.run
    keys = None if spec.idempotency is None else Keys(replies.log, target.state, target, spec.idempotency, tasks)
    keeper = keeping.keeper(way, target.state)
    deferred = Deferred(replies.log, target, spec.ask, spec.later, keeper, asking.question, keys)

    async def either(exchange: Exchange) -> None:
        message = await exchange.receive()
        preference = preference_of(exchange.call)
        url, key = deferred.url(exchange.call, message), deferred.key(exchange.call, message)
        if url is None and key is None and not preference.later and preference.wait is None:
            await asking.now(exchange, message)
            return
        if way.seat is not None:
            await replies.listen(way)  # which takes the partition
        await deferred.run(exchange, message, preference, url, key)

    return either
