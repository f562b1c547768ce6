"""Parts of a running gateway. They may outlive the plan by which they came: each is there until it is told to leave."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gateway.bind import Address, Listen, split_bind
from gateway.inside import Users
from gateway.kept import Kept
from gateway.listener import View
from gateway.port import Backend

log = logging.getLogger("polygate")


@dataclass(slots=True, eq=False)
class Held:
    """A part that is there. `says` is equal to another's where nothing has to be built anew."""

    says: object
    stack: AsyncExitStack
    gone: bool = field(default=False, kw_only=True)

    async def close(self) -> None:
        """Let it go. What goes wrong is logged, for it keeps nobody else."""
        try:
            await self.stack.aclose()
        except Exception:
            log.exception("a part of the gateway did not leave as it should: %s", self.says)
        finally:
            self.gone = True


@dataclass(slots=True, eq=False)
class HeldKept(Held):
    """What the gateway keeps, open."""

    kept: Kept


@dataclass(slots=True, eq=False)
class HeldBackend(Held):
    """A backend that is connected."""

    backend: Backend
    owned: str | None = None
    """See `BackendConfig.owns`."""
    users: Users = field(default_factory=Users)


@dataclass(slots=True, eq=False)
class HeldListener(Held):
    """A listener that listens."""

    name: str
    view: View
    protocol: str
    bind: str
    address: Address | None = None
    sockets: Sequence[socket.socket] = ()

    @property
    def turn(self) -> int:
        """When it leaves at the end. Callers first, all at once, for they share one deadline; then the topics, which may have to
        answer those callers still; last what serves no route, so that operators see it all.
        """
        if not self.protocol:
            return 2
        return 1 if self.address is None else 0

    def successor(self, other: HeldListener) -> bool:
        """Whether it takes the place of another. A free port is that of one name; any other, of whoever has it."""
        return self.bind == other.bind != "" and (self.name == other.name or split_bind(self.bind)[1] != 0)

    def listen(self, fresh: Listen, other: HeldListener | None, name: str, bind: str, backlog: int) -> Sequence[socket.socket]:
        """See `Listen`: the sockets of the one whose place it takes, which then are open in both for a while, or `fresh` ones."""
        taken = [one.dup() for one in other.sockets] if other is not None else []
        self.sockets = taken or fresh(name, bind, backlog)
        return self.sockets

    async def leave(self, until: float) -> None:
        """Take nothing new, and let what is under way end by then."""
        self.view.ready = False
        self.view.drain_until = until
        await self.close()

    async def leave_in(self, seconds: float) -> None:
        """The same."""
        await self.leave(asyncio.get_running_loop().time() + seconds)


@dataclass(frozen=True, slots=True)
class Gone:
    """What a reload has no more use for, though exchanges may still have."""

    listeners: Sequence[HeldListener]
    backends: Sequence[HeldBackend]
    kept: Sequence[HeldKept]

    def __bool__(self) -> bool:
        return bool(self.listeners or self.backends or self.kept)

    async def leave(self, seconds: float) -> None:
        """Let it go once nobody uses it, in so many seconds at the latest: who calls before what is called."""
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(one.leave(until) for one in self.listeners))
        users = (*(one.users for one in self.backends), *(user for one in self.kept for user in one.kept.users()))
        await asyncio.gather(*(one.leave(until) for one in users))
        await asyncio.gather(*(one.close() for one in self.kept))
        await asyncio.gather(*(one.close() for one in self.backends))
