"""The verb `publish`: a message becomes a record; the answer is a receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from gateway.codec import Contract
from gateway.exchange import Call, Exchange, Handler
from gateway.message import JSON, Headers, Message
from gateway.target import Batches, Target, TargetConfig
from gateway.task import Tasks
from gateway.template import Template
from gateway.topic.acceptance import accepted
from gateway.topic.atomic import atomic, together
from gateway.topic.fallback import falling_back
from gateway.topic.idempotency import Idempotency
from gateway.topic.log import RESERVED, Log, Post
from gateway.topic.once import once
from gateway.topic.store import stored
from gateway.topic.write import Write, acknowledged

# What a call's headers carry on into a record; anything else stays at the edge.
CARRIED = ("traceparent", "tracestate")


class PublishTo(TargetConfig):
    """Append each message to a topic; answer with a receipt once the log has acknowledged it."""

    verb: ClassVar[str] = "publish"

    publish: str = Field(min_length=1, examples=["orders.placed", "orders.{region}"])
    """The topic. `{name}` is a path variable or a top-level field of the message."""
    key: str | None = Field(default=None, examples=["{customer}"])
    """The record's key, which chooses the partition: records of one key keep their order."""
    partition: int | None = Field(default=None, ge=0, examples=[0])
    """This partition, whatever the key; unless told the key chooses. One that the topic does not have is refused (502)."""
    ack: Literal["none", "broker", "stored"] = "broker"
    """When to answer: `broker`, once the log has the record safe by its own measure; `stored`, once the gateway's disk has it, to
    be forwarded; `none`, once it waits in memory: it is then written at most once, and counted where it is lost.
    """
    when_down: Literal["fail", "store"] = "fail"
    """What becomes of a record with `ack: broker` while the broker is away: a definite failure (503), or it is stored (202)."""

    idempotency: Idempotency | None = None
    """Write once for each Idempotency-Key, however often it comes. Off unless it stands here; `{}` takes its defaults."""
    batch: bool = False
    """Take a JSON array for as many messages as it has elements, each answered by itself. Lines of NDJSON always are."""
    atomic: bool = False
    """Write the messages of one request all or none, by a transaction: an array is a batch then, too."""
    max_batch: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many messages one request may hold."""
    max_batch_bytes: int = Field(default=8 << 20, ge=1 << 10, le=1 << 30)
    """How many bytes the messages of one request may have that are written all or none."""

    def needs(self) -> AbstractSet[str]:
        spool = self.ack == "stored" or self.when_down == "store"
        return frozenset((*(("spool",) if spool else ()), *(("state",) if self.idempotency is not None else ())))

    def batches(self) -> Batches:
        return Batches(self.max_batch, arrays=self.batch or self.atomic, whole=self.atomic)

    def keeps(self) -> Mapping[tuple[str, ...], float]:
        return {} if self.idempotency is None else {("idempotency", "window"): self.idempotency.window}

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        del contract
        if self.when_down == "store" and self.ack != "broker":
            return [f"`when_down: store` is for `ack: broker`: with `ack: {self.ack}` no caller waits for the broker"]
        if self.atomic and (self.ack != "broker" or self.when_down == "store"):
            return ["`atomic: true` is for `ack: broker` alone: all or none is the broker's to say"]
        if self.atomic and self.idempotency is not None and self.idempotency.key is not None:
            return ["`idempotency.key` is that of one message, and with `atomic: true` a batch has the one that its caller gives"]
        return ()

    def writes(self) -> Sequence[str]:
        return (self.publish,)

    def templates(self) -> Sequence[str]:
        own = None if self.idempotency is None else self.idempotency.key
        return tuple(one for one in (self.publish, self.key, own) if one is not None)


def record_headers(call: Call, message: Message) -> Headers:
    """The headers of a record: the message's own less the reserved ones, the exchange's id, and its trace."""
    own = [(name, value) for name, value in message.headers if not name.startswith(RESERVED)]
    trace = [(name, value) for name, value in call.headers if name in CARRIED]
    return Headers((*own, *trace, ("x-request-id", call.id)))


class Addressing:
    """Topic and key of a record, from the templates of a target."""

    def __init__(self, target: Target, topic: str, key: str | None) -> None:
        self._topic = Template(topic)
        self._key = Template(key) if key is not None else None
        self._fields = target.fields

    def __call__(self, call: Call, message: Message) -> tuple[str, bytes | None]:
        fields = partial(self._fields, message.body)
        topic = self._topic.render(call.params, fields)
        return topic, message.key if self._key is None else self._key.render(call.params, fields).encode()


def _written(log: Log, target: Target, spec: PublishTo, tasks: Tasks) -> Write:
    """How the records of a target are written."""
    write = _plain(log, target, spec)
    return write if spec.idempotency is None else once(write, log, target, spec.idempotency, tasks)


def _plain(log: Log, target: Target, spec: PublishTo) -> Write:
    if spec.ack == "none":
        return accepted(log, target.route)
    if target.spool is None:
        return acknowledged(log, target.route)
    return stored(target.spool) if spec.ack == "stored" else falling_back(acknowledged(log, target.route), target.spool)


def publish(log: Log, target: Target, spec: PublishTo, tasks: Tasks) -> Handler:
    """The handler of one publish target. `tasks`: where what outlives its caller runs."""
    address = Addressing(target, spec.publish, spec.key)

    def posted(call: Call, message: Message) -> Post:
        topic, key = address(call, message)
        return Post(topic, Message(message.body, message.content_type, key, record_headers(call, message)), spec.partition)

    if spec.atomic:
        write_all = together(log, target, spec.idempotency, tasks)
        return atomic(write_all, posted, records=spec.max_batch, size=spec.max_batch_bytes)
    write = _written(log, target, spec, tasks)

    async def run(exchange: Exchange) -> None:
        message = await exchange.receive()
        call = exchange.call
        topic, key = address(call, message)
        record = Message(message.body, message.content_type, key, record_headers(call, message))
        receipt = await write(call, topic, record, spec.partition)
        if receipt.fate is not None:
            exchange.settle(receipt.fate)
        await exchange.accept(receipt.head)
        await exchange.send(Message(receipt.body(), JSON))

    return run
