"""A route's target: what its config says, and what its backend is given of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from gateway.codec import Contract, Value
from gateway.exchange import Handler
from gateway.message import JSON, Many, Message
from gateway.part import Part
from gateway.signature import Sign
from gateway.state import State


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
