"""Messages in another shape: the target's made from the caller's, and the caller's from the target's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import ByteSize, Field, PrivateAttr

from gateway.codec import Value
from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, Exchange, Handler, Wrapper
from gateway.expression import Scope
from gateway.message import JSON, Many, Message, Notice
from gateway.policy import Guard, Policy, PolicyConfig
from gateway.policy.size import too_large
from gateway.result import PassedOver
from gateway.shape import Place, Shape
from gateway.status import Failure
from gateway.subject import subject


class Config(PolicyConfig):
    """Build the target's message from the caller's, and the reply that the caller gets from the target's.

    Each is a tree of JSON: a text that begins with `=` is a CEL expression over `body, params, query, headers, principal, call`,
    `{name}` in another is a path variable or a top-level field of the body, and the rest stands as it is. See docs/shaping.md.
    """

    opens: ClassVar[bool] = True
    refuses: ClassVar[tuple[Reason, ...]] = (Reason.MALFORMED, Reason.TOO_LARGE)

    kind: Literal["map"] = "map"
    request: Any = Field(default=None, examples=[{"customer": "=body.cust.name", "reference": "{region}-{id}", "source": "web"}])
    """The target's message; as it comes unless told. In expressions `body` is the caller's."""
    reply: Any = Field(default=None, examples=[{"data": "=body", "ok": True}])
    """The caller's reply; as it comes unless told. In expressions `body` is the target's; all else is still the call's."""
    limit: ByteSize = Field(default=ByteSize(256 << 10), ge=1, le=1 << 20, examples=["64KiB"])
    """The most bytes that a message may have to be shaped, in JSON: what an expression costs follows from what it is given."""

    _compiled: dict[str, Shape] = PrivateAttr(default_factory=dict)

    def builds(self) -> Many:
        return (Many.NEITHER if self.request is None else Many.REQUESTS) | (Many.NEITHER if self.reply is None else Many.REPLIES)

    def refusals(self, before: Sequence[PolicyConfig], limit: int | None) -> Sequence[tuple[str | Place, str]]:
        del before, limit
        if self.request is None and self.reply is None:
            return (("kind", "shapes nothing: say `request:`, `reply:` or both"),)
        return [
            ((name, *where), text)
            for name in ("request", "reply")
            if (shape := self._shape(name)) is not None
            for where, text in shape.problems
        ]

    def build(self, route: str, protocol: str) -> Policy:
        del route, protocol
        return Map(self._shape("request"), self._shape("reply"), self.limit)

    def _shape(self, name: Literal["request", "reply"]) -> Shape | None:
        tree = self.request if name == "request" else self.reply
        if tree is None:
            return None
        if name not in self._compiled:
            self._compiled[name] = Shape(tree)
        return self._compiled[name]


class Map:
    """Shapes the messages of either side."""

    guards = Guard.MESSAGE

    def __init__(self, request: Shape | None, reply: Shape | None, limit: int) -> None:
        self.request = request
        self.reply = reply
        self.limit = limit

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        await forward(_Mapped(exchange, self))

    def shaped(self, shape: Shape, call: Call, message: Message) -> Message:
        """One message in its shape. CallerError where it cannot be had."""
        if len(message.body) > self.limit:
            raise too_large(self.limit)
        values = subject(call, shape.uses)
        if "body" in shape.uses:
            values["body"] = _opened(message.body)
        body = shape(Scope(values))
        return Message(body, JSON, message.key, message.headers, message.cursor, message.timestamp)


def _opened(body: bytes) -> Value:
    """The value of a message that has been read strictly already; null where there is none."""
    return json.loads(body) if body else None


class _Mapped(Wrapper):
    __slots__ = ("_map", "_passed")

    def __init__(self, inner: Exchange, policy: Map) -> None:
        super().__init__(inner)
        self._map = policy
        self._passed = PassedOver("the map of replies")

    async def receive(self) -> Message:
        message = await self.inner.receive()
        shape = self._map.request
        return message if shape is None else self._map.shaped(shape, self.call, message)

    async def send(self, message: Message) -> None:
        shape = self._map.reply
        if shape is not None and not isinstance(message, Failure | Notice):
            try:
                message = self._map.shaped(shape, self.call, message)
            except CallerError as error:
                if message.cursor is not None:
                    # A record of a topic: those behind it are not to be lost, however often the caller comes back.
                    self._passed.note(self.call.id, f"the one before {message.cursor}", error)
                    return
                raise BackendError(Reason.BAD_ANSWER, "the backend's answer is not what this route needs") from error
        await self.inner.send(message)
