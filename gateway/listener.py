"""The port of listeners: what one must be, what it may see of the running gateway, and the config models that build them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from gateway.admission import Admission
from gateway.bind import Address, Listen, listen
from gateway.breaker import Breaker
from gateway.codec import MESSAGE, NO_CONTRACTS, Contract, Contracts, HttpBinding, Rule
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.message import Many
from gateway.part import Part
from gateway.port import Backend, BackendConfig
from gateway.route import Endpoint, Find
from gateway.wire import Wire


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
