"""What the gateway keeps beside its backends: its state, and the spool of each. Opened where a route needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Self, cast

from gateway.embedded import Embedded, Settings
from gateway.file import FileConfig, StateConfig
from gateway.port import Backend, Source, Target
from gateway.spool import Spools
from gateway.spool.path import existing
from gateway.state import State
from gateway.topic.log import Log
from gateway.topic.shelf import Shelf

MAX_VALUE = 16 << 20
"""What one key may have in a file of our own."""


class Kept:
    """The state and the spools, open while entered. Enter it once the backends are; leave it before they are."""

    def __init__(self, file: FileConfig, needs: Mapping[str, AbstractSet[str]], backends: Mapping[str, Backend]) -> None:
        """`needs`: "state" and "spool", where anything does, with the backends that it is for."""
        self._file = file
        self._needs = needs
        self._backends = backends
        self._stack = AsyncExitStack()
        self._state: State | None = None
        self._spools: Spools | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if "state" in self._needs:
                self._state = await stack.enter_async_context(_state(self._file.state, self._backends))
            # One that is there was needed before: what it holds is forwarded though no route stores any more.
            if "spool" in self._needs or existing(self._file.spool.path):
                self._spools = await stack.enter_async_context(Spools(self._file.spool, self._logs()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def given(self, target: Target) -> Target:
        """A target with what it needs."""
        needs = target.spec.needs()
        if not needs:
            return target
        state = self._state if "state" in needs else None
        spool = self._spools.of(target.spec.backend) if self._spools is not None and "spool" in needs else None
        return replace(target, state=state, spool=spool)

    async def check(self) -> None:
        """Raise BackendError where what is to be kept cannot be, for the disk fails."""
        if self._spools is not None:
            await self._spools.check()

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
    async with Embedded(settings) as log, opened(log) as shelf:
        await shelf.tried()
        yield shelf


NOTHING_KEPT = Kept(FileConfig.model_construct(listeners={}), {}, {})
"""For plans that are only explained or described."""
