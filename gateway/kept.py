"""What the gateway keeps beside its backends: its state, and the spool of each. Opened where a route needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast

from gateway.embedded import Embedded, Settings
from gateway.file import FileConfig, StateConfig
from gateway.inside import Inside, Users
from gateway.port import Backend, Source
from gateway.spool import Spools
from gateway.spool.path import existing
from gateway.state import State
from gateway.target import Target
from gateway.topic.log import Log
from gateway.topic.shelf import Shelf

T = TypeVar("T")

MAX_VALUE = 16 << 20
"""What one key may have in a file of our own."""


@dataclass(slots=True, eq=False)
class _Open(Generic[T]):
    """One of the two, open. `says` is equal to another's where that would be the same."""

    says: object
    part: T
    stack: AsyncExitStack
    users: Users = field(default_factory=Users)


class Kept:
    """The state and the spools, open while entered. Enter it once the backends are; leave it before they are."""

    def __init__(
        self,
        file: FileConfig,
        needs: Mapping[str, AbstractSet[str]],
        backends: Mapping[str, Backend],
        before: Kept | None = None,
    ) -> None:
        """`needs`: "state" and "spool", where anything does, with the backends that it is for. `before`: another one, open, of
        which those are gone on with that would be the same; they leave with it unless it is told to `hand_over`.
        """
        self._file = file
        self._needs = needs
        self._backends = backends
        self._before = before
        self.state: _Open[State] | None = None
        self.spools: _Open[Spools] | None = None
        self._own: list[_Open[Any]] = []

    async def __aenter__(self) -> Self:
        file, before, self._before = self._file, self._before, None
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.__aexit__)
            if "state" in self._needs:
                says = (file.state, self._backends.get(file.state.backend or ""))
                self.state = await self._opened(
                    before.state if before else None, says, lambda: _state(file.state, self._backends)
                )
            # One that is there was needed before: what it holds is forwarded though no route stores any more.
            if "spool" in self._needs or existing(file.spool.path):
                logs = self._logs()
                self.spools = await self._opened(
                    before.spools if before else None, (file.spool, logs), lambda: Spools(file.spool, logs)
                )
            stack.pop_all()
        return self

    async def _opened(
        self, before: _Open[T] | None, says: object, make: Callable[[], AbstractAsyncContextManager[T]]
    ) -> _Open[T]:
        if before is not None and before.says == says:
            return before
        stack = AsyncExitStack()
        opened = _Open(says, await stack.enter_async_context(make()), stack)
        self._own.append(opened)
        return opened

    async def __aexit__(self, *error: object) -> None:
        async with AsyncExitStack() as stack:
            for opened in self._own:
                stack.push_async_callback(opened.stack.aclose)
        self._own.clear()

    def hand_over(self, after: Kept) -> None:
        """Another one goes on with what it has of this one's: it leaves with that."""
        shared = [opened for opened in self._own if opened in {after.state, after.spools}]
        self._own = [opened for opened in self._own if opened not in shared]
        after._own[:0] = shared

    def note(self, target: Target, insides: Sequence[Inside]) -> None:
        """Know of exchanges that go on with what a target was given."""
        for opened, given in ((self.state, target.state), (self.spools, target.spool)):
            if opened is not None and given is not None:
                opened.users.note(insides)

    def users(self) -> Sequence[Users]:
        """Who goes on with what leaves with this one."""
        return [opened.users for opened in self._own]

    def given(self, target: Target) -> Target:
        """A target with what it needs."""
        needs = target.spec.needs()
        if not needs:
            return target
        state = self.state.part if self.state is not None and "state" in needs else None
        spool = self.spools.part.of(target.spec.backend) if self.spools is not None and "spool" in needs else None
        return replace(target, state=state, spool=spool)

    async def check(self) -> None:
        """Raise BackendError where what is to be kept cannot be, for the disk fails."""
        if self.spools is not None:
            await self.spools.part.check()

    def _logs(self) -> Mapping[str, Log]:
        """The backends that records can be forwarded to."""
        needed = self._needs.get("spool", frozenset())
        return {name: cast("Log", one) for name, one in self._backends.items() if name in needed or isinstance(one, Source)}


@asynccontextmanager
async def _state(said: StateConfig, backends: Mapping[str, Backend]) -> AsyncIterator[State]:
    """The gateway's state. A file of its own is read before anybody is served; a broker that is away is waited for by those who
    need it.
    """
    opened = partial(Shelf, topic=said.topic, max_bytes=said.max_bytes, max_age=said.max_age)
    if said.backend is not None:
        async with opened(cast("Log", backends[said.backend])) as shelf:
            yield shelf
        return
    settings = Settings(said.path, max_record_bytes=MAX_VALUE)
    async with Embedded(settings) as log, opened(log, shared=False) as shelf:
        await shelf.tried()
        yield shelf


NOTHING_KEPT = Kept(FileConfig.model_construct(listeners={}), {}, {})
"""For plans that are only explained or described."""
