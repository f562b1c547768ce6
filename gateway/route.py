"""What routing speaks of, the same for every listener: what is known of a call, and what a route is to whoever serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from gateway.errors import GatewayError
from gateway.exchange import Exchange, Handler
from gateway.message import NO_HEADERS, Headers, Many, value

NO_PARAMS: Mapping[str, str] = MappingProxyType({})

Query = tuple[tuple[str, str], ...]


@value
class Facts:
    """What is known of a call before any message of it is read: what a route's condition may ask of."""

    protocol: str
    target: str
    params: Mapping[str, str] = field(default_factory=lambda: NO_PARAMS)
    headers: Headers = NO_HEADERS
    query: Query = ()


Condition = Callable[[Facts], bool]
"""Whether a route takes a call that its pattern takes. Two that compare equal are the same condition."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How a route answers a request that holds many messages, though its target answers one with one."""

    handler: Handler
    whole: bool
    """The messages are done together or not at all; else every one is an exchange of its own."""
    limit: int
    """How many there may be."""
    arrays: bool
    """A JSON array is many messages and not one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route as one kind of listener serves it."""

    route: str
    handler: Handler
    many: Many = Many.NEITHER
    """Which sides may carry more than one message on this wire."""
    offers: tuple[str, ...] = ()
    """Media types that one message of a reply can be had in; () for any."""
    raw: bool = False
    """Replies are bytes of any media type (google.api.HttpBody), and so are their streams."""
    condition: Condition | None = None
    """Which of the calls that fit the pattern it takes; None for all."""
    uploads: bool = False
    """Requests are bytes of any media type (google.api.HttpBody, or a target that takes any), and so are their streams."""
    around: Callable[[Handler], Handler] | None = None
    """What marks every answer of the route (cors): put around what else answers its calls, preflights and refusals of the
    listener's own. None where nothing does.
    """
    method_override: bool = False
    """It takes a POST that says its method in X-HTTP-Method-Override."""
    backend: str = ""
    """The backend that its target is on."""
    awaited: bool = False
    """Its one reply may be waited for as an event stream."""
    batch: Batch | None = None
    """For requests that hold many messages; None where one is all that there may be."""
    each: bool = False
    """Every message is an exchange of its own (see `Call.each`)."""


def refusal(error: GatewayError) -> Handler:
    """A handler that refuses every call with an error, made anew each time."""

    async def refuse(_exchange: Exchange) -> None:
        raise type(error)(error.reason, error.message, details=error.details, outcome=error.outcome)

    return refuse


@value
class Found:
    """What the router says to a call. A miss has a handler too: it raises `error`, so that misses are observed like the rest."""

    endpoint: Endpoint
    params: Mapping[str, str] = field(default_factory=lambda: NO_PARAMS)
    error: GatewayError | None = None


class Find(Protocol):
    """How a listener asks: never raises. Targets are "POST /orders/7" over REST, a path elsewhere."""

    def __call__(self, protocol: str, target: str, headers: Headers = NO_HEADERS, query: Query = ()) -> Found:
        """`headers` and `query` are what conditions ask of."""
