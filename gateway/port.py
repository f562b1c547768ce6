"""The ports: what a listener, a backend and a source must be, and the config models that build them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from gateway.admission import Admission
from gateway.bind import Address, Listen, listen
from gateway.breaker import Breaker
from gateway.codec import MESSAGE, NO_CONTRACTS, Contract, Contracts, HttpBinding, Rule, Value
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Handler
from gateway.message import JSON, Headers, Many, Message, value
from gateway.part import Part
from gateway.route import Endpoint, Find
from gateway.signature import Sign
from gateway.state import State
from gateway.wire import Wire


@dataclass(frozen=True, slots=True)
class Posts:
    """What a target sends signed messages of its own to: paths below the URLs of backends (see `BackendConfig.posting`)."""

    backends: Sequence[str]
    sign: Sign
    plain: bool
    """Without TLS too."""
    where: tuple[str, ...]
    """The field that names the backends."""


@dataclass(frozen=True, slots=True)
class Batches:
    """How a target takes requests that hold many messages."""

    limit: int
    """How many there may be."""
    arrays: bool
    """A JSON array is many messages and not one."""
    whole: bool
    """Its handler receives all of them and answers them together; else each is an exchange of its own."""


class TargetConfig(Part):
    """A route's `to:`. Each backend kind has a model for each verb that it offers, with the field of the verb's name."""

    verb: ClassVar[str]
    streams: ClassVar[Many] = Many.NEITHER
    safe: ClassVar[bool] = False
    trusted: ClassVar[bool] = False
    """Its replies are written by the gateway itself, so that they need not be read again to know that they are JSON."""
    foreign: ClassVar[bool] = False
    """A caller over HTTP may get the backend's own answer, whatever its status."""
    own: ClassVar[bool] = False
    """What it is asked is the gateway's own to read, in JSON, whatever the `format` of what it answers."""
    reads: ClassVar[bool] = True
    """It reads its caller's message. If not, the call alone says all that it is asked."""
    awaited: ClassVar[bool] = False
    """Its one reply may be waited for as an event stream (SSE): one event, and heartbeats until then."""

    backend: str
    """Which entry of `backends`."""
    format: str = "json"
    """How the target's messages are written."""

    def many(self, contract: Contract | None) -> Many:
        """Which sides may carry more than one message."""
        return contract.many if contract is not None and self.verb == "call" else self.streams

    def templates(self) -> Sequence[str]:
        """Every template of the target, so that a variable that no side gives is refused when loading."""
        return ()

    def method(self) -> str | None:
        """The contract's method that it calls ("shop.v1.Stock/Get"), where it calls one by name."""
        return None

    def writes(self) -> Sequence[str]:
        """Every topic of its backend that a message makes records on, as templates: a listener of one would call it again."""
        return ()

    def needs(self) -> AbstractSet[str]:
        """What it needs of the gateway beside its backend: "state", "spool"."""
        return frozenset()

    def below(self) -> TargetConfig | None:
        """What is served with GET at each of its REST calls' paths with an id behind, by the same policies; None for nothing."""
        return None

    def posts(self) -> Posts | None:
        """What it sends to beside its own backend."""
        return None

    def batches(self) -> Batches | None:
        """Where one request over HTTP may hold many messages, though the target answers one with one."""
        return None

    def keeps(self) -> Mapping[tuple[str, ...], float]:
        """For how many seconds it keeps things in the gateway's state, by the field that says so."""
        return {}

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        """Why this target cannot work, as far as can be told when loading."""
        del contract
        return ()


class Spool(Protocol):
    """Where records wait that are to be forwarded to a backend's log."""

    async def put(self, topic: str, message: Message, deadline: float, *, partition: int | None = None) -> str:
        """Store one record, fsynced, before `deadline` (event-loop time); forwarded later, in order per key. Returns its id.

        BackendError: OVERLOADED (full), UNREACHABLE (not stored), UNKNOWN_OUTCOME (it may be). CallerError: TOO_LARGE.
        """

    def holds(self, topic: str, message: Message, *, partition: int | None = None) -> bool:
        """Whether records wait that this one must not overtake: those of its key or, where it is told, its partition."""

    @property
    def waits(self) -> bool:
        """Whether any record waits."""


@dataclass(frozen=True, slots=True)
class Target:
    """A route's target, bound once when the config is loaded."""

    route: str
    spec: TargetConfig
    contract: Contract | None = None
    content_type: str = JSON
    """Of the messages that the handler receives, and of those that it must send."""
    fields: Callable[[bytes], Mapping[str, object]] = field(default=lambda _body: {})
    """Opens a message in the target's format: its top-level fields, for templates."""
    safe: bool = False
    """Running it changes nothing, so that a timeout is a definite failure."""
    opened: Callable[[bytes], Value] = json.loads
    """Opens a message that the target gives, for filters: its plain value. Raises CallerError where it is none."""
    state: State | None = None
    """What the gateway keeps; there where the target `needs` it."""
    spool: Spool | None = None
    """The spool of its backend; there where the target `needs` it."""
    posts: Mapping[str, Handler] = field(default_factory=dict)
    """What sends a message to a path, which stands in `call.params["path"]`, by the URL that the path is below."""


class Backend(Protocol):
    """Where exchanges end. An async context manager: connected while entered; entering does not wait for the peer to be there."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...

    def handler(self, target: Target) -> Handler:
        """Bind a route's target once; the handler then runs per exchange."""

    async def check(self) -> None:
        """Raise BackendError if exchanges would fail now. For readiness; answers within a second or two."""


@value
class Record:
    """One record of a topic. Timestamps are milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    body: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Ahead:
    """How much of a partition may be in delivery, or done with behind a record that is not: then no more of it is read."""

    records: int = 1000
    bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a topic listener consumes: as a group, from `earliest` or `latest` where the group has no offset yet."""

    topics: tuple[str, ...]
    group: str
    start: str = "earliest"
    listener: str = "-"
    """Its name, for metrics."""
    order: str = "partition"
    """Which records must not overtake one another: all of a `partition`, those of one `key`, or `none`."""
    parallel: int = 1
    """How many records of a partition may be tried at once."""
    ahead: Ahead = Ahead()
    instance: str | None = None
    """What this member is called in the group, the same after a restart; where it comes back in time, its partitions stay its."""
    session: float = 10.0
    """Seconds after which a member that says nothing has left."""


Turn = AbstractAsyncContextManager[None]
"""A record's turn, entered for each try of it: it begins when no more than the subscription's `parallel` are being tried, and may
come to its end when the partition goes to another. Outside of it, a record that waits is cancelled then.
"""

Deliver = Callable[[Record, Turn], Awaitable[None]]
"""Handle one record. It returns once the record is done with, and only then may its offset be committed."""


@runtime_checkable
class Source(Protocol):
    """A backend that can also be consumed."""

    def consuming(self, subscription: Subscription, deliver: Deliver) -> AbstractAsyncContextManager[None]:
        """Deliver each record, in the subscription's order; commit, of each partition, what has returned without a gap. Leaving
        finishes what is being tried.
        """

    async def produce(self, topic: str, message: Message, partition: int | None = None) -> None:
        """Append one message, acknowledged: for a listener's replies. BackendError, REFUSED for a partition that is not there."""


class BackendConfig(Part, ABC):
    """The config of a backend."""

    kind: str
    verbs: ClassVar[Mapping[str, type[TargetConfig]]]
    consumable: ClassVar[bool] = False
    """Whether what it builds is a `Source`."""
    alone: ClassVar[bool] = False
    """What it has is of one process, and no other could share it."""

    def templates(self, target: TargetConfig) -> Sequence[str]:
        """Every template that a target's messages fill, those of the target itself included."""
        return target.templates()

    def refusals(self, target: TargetConfig, contract: Contract | None) -> Sequence[str]:
        """Why a target cannot work on this very backend, as far as can be told when loading."""
        del target, contract
        return ()

    def hosts(self) -> Sequence[str]:
        """Where it is, as host:port or as its library writes it; () where it is inside the gateway."""
        return ()

    def calling(self, contract: Contract) -> Mapping[str, object]:
        """The verb of a method of a service that is served whole, with what it is done to, where the config says only the
        backend: {"call": "shop.v1.Stock/Get"}. Empty where that cannot be told.
        """
        del contract
        return {}

    def posting(self, backend: str, sign: Sign) -> tuple[str, TargetConfig] | None:
        """The URL of the backend of this name, with a slash at its end, and the target that posts signed messages to paths below
        it (see `Target.posts`); None where it is nothing to post to.
        """
        del backend, sign
        return None

    def owns(self) -> str | None:
        """The storage that it must have for itself alone, by one name however the config writes it; None for none."""
        return None

    @abstractmethod
    def build(self, name: str = "-") -> Backend:
        """The backend, not yet connected. `name` is its entry in `backends`, for metrics and logs."""


class Ingress(Protocol):
    """Where conversations come from."""

    def serving(self) -> AbstractAsyncContextManager[Address | None]:
        """Listen; leaving stops listening, lets exchanges end until the view's `drain_until`, then closes. None: no address."""


Refuse = Callable[[str, GatewayError], Endpoint]
"""refuse(protocol, error): the endpoint that answers a call with an error of the listener's own, observed like every other."""


def _raising(_protocol: str, error: GatewayError) -> Endpoint:
    async def refuse(_exchange: Exchange) -> None:
        raise error

    return Endpoint("-", refuse)


@dataclass(frozen=True, slots=True)
class Document:
    """What is served, described for programs."""

    content_type: str
    body: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of loading the config anew. Whatever is wrong with it, the gateway goes on as before."""

    outcome: Literal["changed", "unchanged", "refused", "busy", "stopping"]
    """`refused`: something is wrong with it, or does not start. `busy`: it is being loaded already."""
    changes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """By section (listeners, backends, routes) and by what has become of them (added, changed, ...), names."""
    problems: Sequence[Mapping[str, object]] = ()
    """Each with file, line, path and text."""


Reload = Callable[[], Awaitable[Reloaded]]
"""Load the config anew, and go on as it says then."""


class Everybody(Protocol):
    """All the processes of a gateway that is several."""

    async def metrics(self) -> bytes:
        """What all have counted, as one has it. Raises BackendError where that cannot be told."""

    async def readiness(self, seconds: float) -> Mapping[str, Any]:
        """Whether all are ready, as `gateway.ready` tells it of one. Raises BackendError."""

    async def reload(self) -> Reloaded:
        """See `Reload`: all of them. Raises BackendError."""


async def _well() -> None:
    """All is well."""


@dataclass(slots=True)
class View:
    """What a listener may see of the running gateway."""

    find: Find
    refuse: Refuse = _raising
    backends: Mapping[str, Backend] = field(default_factory=dict)
    keeps: Callable[[], Awaitable[None]] = _well
    """Raises BackendError where what the gateway keeps beside its backends cannot be kept at present: its disk fails."""
    contracts: Contracts = NO_CONTRACTS
    routes: Sequence[Mapping[str, object]] = ()
    """One row a route, as `polygate routes --json` prints it."""
    drain_until: float | None = None
    """Event-loop time by which every listener must have let go; set when the gateway is told to stop."""
    ready: bool = True
    """False from the moment that the gateway is told to stop."""
    listen: Listen = listen
    """Where a listener has its sockets from: one that takes the place of another goes on with that one's."""
    place: Address | None = None
    """Where another one listens on the same `bind`, whose place the listener is to take. That leaves once it listens too."""
    reload: Reload | None = None
    """None where nobody can."""
    everybody: Everybody | None = None
    """None where this process is the whole gateway."""
    addresses: dict[str, Address] = field(default_factory=dict)
    documents: Mapping[str, Document] = field(default_factory=dict)
    """The documents, by the paths that they are known by ("/openapi.json")."""
    servers: Callable[[], Sequence[str]] = tuple
    """Where callers reach the REST listeners, as URLs."""
    admission: Admission = field(default_factory=Admission)
    """Asked before any work is done for a caller; operators are not held up by it."""

    def breaker(self, backend: str) -> Breaker | None:
        """The breaker of a backend; None where it has none."""
        found = getattr(self.backends.get(backend), "breaker", None)
        return found if isinstance(found, Breaker) else None


class ListenerConfig(Part, ABC):
    """The config of a listener."""

    kind: str
    protocol: ClassVar[str] = ""
    """The `call.protocol` of its exchanges; "" where it serves no route (admin)."""
    wire: ClassVar[Many] = Many.NEITHER
    """Which sides of its wire may carry more than one message."""
    each: ClassVar[bool] = True
    """See `Wire.each`."""
    inherits: ClassVar[bool] = False
    """It has its sockets from the view, so that another process may have opened them, and several may share their ports."""

    @abstractmethod
    def build(self, name: str, view: View) -> Ingress:
        """The ingress, not yet listening. `name` is its entry in `listeners`."""

    def limit(self) -> int | None:
        """The largest message that it takes, in bytes; None where it has no limit of its own."""
        return None

    def uses(self) -> Sequence[str]:
        """The backends that it is built with."""
        return ()

    def asks(self) -> Sequence[str] | None:
        """Every call that it will ever make, as a route writes it under `when:`; None where that is up to its callers."""
        return None

    def consumes(self, when: str) -> tuple[str, str] | None:
        """The backend and the topic that a call comes from; None where it comes from a caller."""
        del when
        return None

    def refusals(self, backends: Mapping[str, BackendConfig]) -> Sequence[tuple[str, str]]:
        """Why it cannot work beside these backends, as far as can be told when loading: (field, reason)."""
        del backends
        return ()

    @classmethod
    def wires(cls) -> Mapping[str, tuple[Wire, ...]]:
        """The protocols that it speaks, by the name that routes have for them under `when:`."""
        return (
            {cls.protocol: (Wire(cls.protocol, cls.pattern, cls.shape, cls.rule, cls.each, cls.calls),)} if cls.protocol else {}
        )

    @classmethod
    def pattern(cls, when: str) -> tuple[str, str]:
        """What a route says under `when:` for this protocol, as (method, path pattern). Raises ValueError."""
        return "", when

    @classmethod
    def rule(cls, method: str) -> Rule:
        """How a request of a method stands for one message, unless the route says."""
        del method
        return MESSAGE

    @classmethod
    def calls(cls, contract: Contract) -> Sequence[HttpBinding]:
        """The calls that a method of a service has where the service is served whole; () where it has none of this protocol."""
        del contract
        return ()

    @classmethod
    def shape(cls, contract: Contract | None) -> Many:
        """Which sides of its wire may carry more than one message, for a route with this contract."""
        del contract
        return cls.wire
