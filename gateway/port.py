"""The ports of backends: what one must be, what one that can be consumed must be, and the config models that build them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

from gateway.codec import Contract
from gateway.exchange import Handler
from gateway.message import Headers, Message, value
from gateway.part import Part
from gateway.signature import Sign
from gateway.target import Target, TargetConfig


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
