"""Headers with fixed values, put on and taken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.exchange import Call, Exchange, Handler, Wrapper
from gateway.message import NO_HEADERS, Headers, Message
from gateway.part import Part, Written
from gateway.policy import Guard, Policy, PolicyConfig

# RFC 9110 7.6.1: they belong to one connection; and those that say how a message is framed, which its wire sets itself.
_NOT_OURS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def _lower(name: str) -> str:
    name = name.lower()
    if name in _NOT_OURS:
        raise ValueError(f"{name} belongs to the wire, which sets it itself")
    if name == "x-request-id":
        raise ValueError("x-request-id is the id of the exchange, the same in every answer, record and log line")
    if name.startswith("grpc-"):
        raise ValueError("names that start with grpc- belong to the gRPC wire")
    return name


HEADER_NAME = Written(
    r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$", "the name of a header: letters, digits and dashes, no space and no colon, as in x-tenant"
)
Name = Annotated[str, HEADER_NAME, AfterValidator(_lower)]
"""A header's name (RFC 9110 5.1), in any case."""
_VALUES = "printable ASCII without a space at either end, as in max-age=60: every wire can carry that"
# Printable ASCII, no space at either end: what every wire can carry.
Value = Annotated[str, Written(r"^([!-~]([ -~]*[!-~])?)?$", _VALUES), Field(max_length=8192)]


class Rules(Part):
    """What is done to a set of headers, in this order: remove, set, add."""

    remove: tuple[Name, ...] = Field(default=(), examples=[["x-debug"]])
    """Names that are taken off."""
    set: Mapping[Name, Value] = Field(default={}, examples=[{"x-tenant": "shop"}])
    """Names that get exactly this one value."""
    add: Mapping[Name, Value] = Field(default={}, examples=[{"via": "polygate"}])
    """Names that get this value beside those that they have."""


class Config(Rules, PolicyConfig):
    """Put headers on requests and replies, or take them off. Never those that belong to one connection."""

    kind: Literal["headers"] = "headers"
    replies: Rules = Rules()
    """The same for what the caller is answered."""

    def build(self, route: str, protocol: str) -> Policy:
        del route, protocol
        return HeaderRules(Compiled(self), Compiled(self.replies))


class Compiled:
    """Rules as one function from headers to headers."""

    def __init__(self, rules: Rules) -> None:
        self._gone = frozenset((*rules.remove, *rules.set))
        self._new = (*rules.set.items(), *rules.add.items())

    def __bool__(self) -> bool:
        return bool(self._gone or self._new)

    def __call__(self, headers: Headers) -> Headers:
        return Headers((*(pair for pair in headers if pair[0] not in self._gone), *self._new))


class HeaderRules:
    """Changes the call's headers, and those that it is accepted with."""

    guards = Guard.CALL

    def __init__(self, requests: Compiled, replies: Compiled) -> None:
        self._requests = requests
        self._replies = replies

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        if self._requests:
            call = call.but(headers=self._requests(call.headers))
        await forward(Answered(exchange, call, self._replies) if self._replies else Wrapper(exchange, call))


class Answered(Wrapper):
    """Changes the headers of the yes, and says it by itself where the inside leaves that to its first reply."""

    def __init__(self, inner: Exchange, call: Call, replies: Callable[[Headers], Headers]) -> None:
        super().__init__(inner, call)
        self._replies = replies
        self.accepted = False

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        self.accepted = True
        await self.inner.accept(self._replies(headers))

    async def receive(self) -> Message:
        # A WebSocket says yes with its first receive: later there is no place for a header.
        if not self.accepted and self.call.protocol == "websocket":
            await self.accept()
        return await self.inner.receive()

    async def send(self, message: Message) -> None:
        if not self.accepted:
            await self.accept()
        await self.inner.send(message)
