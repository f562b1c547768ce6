"""How large one message of a caller may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import ByteSize, Field

from gateway.errors import CallerError, Reason
from gateway.exchange import Exchange, Handler, Wrapper
from gateway.message import Many, Message
from gateway.policy import Guard, Policy, PolicyConfig


class Config(PolicyConfig):
    """Refuse a message over the limit (413), before reading where its length is declared. A listener has a limit of its own,
    for all of its routes; this one is for a route that wants less.
    """

    refuses: ClassVar[tuple[Reason, ...]] = (Reason.TOO_LARGE,)

    kind: Literal["size"] = "size"
    limit: ByteSize = Field(default=ByteSize(1 << 20), ge=0, examples=["64KiB"])
    """The most bytes that one message may have, as they came from the wire and after decompression."""

    def refusals(self, before: Sequence[PolicyConfig], limit: int | None) -> Sequence[tuple[str, str]]:
        del before
        if limit is None or self.limit <= limit:
            return ()
        return (
            ("limit", f"has no effect: no listener takes more than {limit} bytes; raise the listener's limit, or lower this one"),
        )

    def idle(self, limit: int | None) -> bool:
        # The listener has refused what this would.
        return limit is not None and self.limit >= limit

    def build(self, route: str, protocol: str) -> Policy:
        del route, protocol
        return Size(self.limit)


class Size:
    """Looks at the declared length, then at each message."""

    guards = Guard.MESSAGE

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        declared = call.headers.get("content-length")
        # Where a body holds many messages (NDJSON), its length is not that of one.
        if declared is not None and (call.many is Many.NEITHER or call.many is Many.REPLIES) and _over(declared, self._limit):
            raise too_large(self._limit)
        await forward(_Sized(exchange, self._limit))


def too_large(limit: int) -> CallerError:
    """The refusal; it tells the limit."""
    return CallerError(Reason.TOO_LARGE, f"a message may have {limit} bytes at the most")


def _over(declared: str, limit: int) -> bool:
    """Whether a declared length is over the limit. One that is no number is the listener's to refuse."""
    return declared.isascii() and declared.isdigit() and (len(declared) > len(str(limit)) + 20 or int(declared) > limit)


class _Sized(Wrapper):
    __slots__ = ("_limit",)

    def __init__(self, inner: Exchange, limit: int) -> None:
        super().__init__(inner)
        self._limit = limit

    async def receive(self) -> Message:
        message = await self.inner.receive()
        if len(message.body) > self._limit:
            raise too_large(self._limit)
        return message
