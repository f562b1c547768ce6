"""Policies run around a route's handler. Each says whether it guards the call or every message of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum
from typing import ClassVar, Protocol

from pydantic import PrivateAttr

from gateway.errors import Reason
from gateway.exchange import Exchange, Handler
from gateway.message import Many
from gateway.part import Part


class Guard(Enum):
    """Where a policy stands when a caller sends many messages to a target that answers one with one."""

    CALL = "call"
    MESSAGE = "message"
    BOTH = "both"


class Policy(Protocol):
    """Runs once around what it guards: awaits `forward(exchange)`, or raises a GatewayError instead."""

    @property
    def guards(self) -> Guard: ...

    async def __call__(self, exchange: Exchange, forward: Handler) -> None: ...


class PolicyConfig(Part, ABC):
    """The config of a policy. `kind` is the name that it is registered by."""

    identifies: ClassVar[bool] = False
    """Whether it finds out who calls (`call.principal`), for those that run inside of it."""
    opens: ClassVar[bool] = False
    """Whether it opens messages: it then runs where they are JSON, between the translation of the caller's and the target's."""
    marks: ClassVar[bool] = False
    """Whether it marks every answer, refusals included: it then runs around all the others but `observe`, a route's own in the
    place of the file's, and answers preflights.
    """
    refuses: ClassVar[tuple[Reason, ...]] = ()
    """The reasons that it may refuse a call for, as documents tell them."""

    kind: str

    def builds(self) -> Many:
        """Whose messages it builds anew, so that what comes out has another type than what went in."""
        return Many.NEITHER

    def refusals(self, before: Sequence[PolicyConfig], limit: int | None) -> Sequence[tuple[str | tuple[str | int, ...], str]]:
        """Why it cannot work behind those that run before it, on listeners that take messages of `limit` bytes (None: they say
        nothing of that): (field or path of fields, reason).
        """
        del before, limit
        return ()

    def idle(self, limit: int | None) -> bool:
        """Whether it can never act on listeners that take messages of `limit` bytes, so that it need not run there."""
        del limit
        return False

    _built: dict[str, Policy] = PrivateAttr(default_factory=dict)

    def shared(self, route: str, make: Callable[[], Policy]) -> Policy:
        """The one policy of a route, for all its protocols."""
        built = self._built.get(route)
        if built is None:
            built = self._built[route] = make()
        return built

    def inherit(self, before: PolicyConfig, route: str) -> None:
        """Go on with what another that says the same has built for a route, and counts."""
        if route in before._built:
            self._built[route] = before._built[route]

    @abstractmethod
    def build(self, route: str, protocol: str) -> Policy:
        """The policy of one route as one kind of listener serves it, by the names that metrics and logs call them.

        Called once for each pair when the config is loaded. State is never shared between routes; a limit's is `shared` by the
        protocols of its route, for what it limits is the route, whatever the wire, and then outlives a reload.
        """
