"""What the gateway keeps beside its backends: its state, and the spool of each. Opened where a route needs it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Self

from gateway.file import FileConfig
from gateway.port import Backend, Spool, Target
from gateway.state import State


class Kept:
    """The state and the spools, open while entered. Enter it once the backends are; leave it before they are."""

    def __init__(self, file: FileConfig, needs: Mapping[str, AbstractSet[str]], backends: Mapping[str, Backend]) -> None:
        """`needs`: "state" and "spool", where anything does, with the backends that it is for."""
        self._file = file
        self._needs = needs
        self._backends = backends
        self._stack = AsyncExitStack()
        self._state: State | None = None
        self._spools: dict[str, Spool] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def given(self, target: Target) -> Target:
        """A target with what it needs."""
        needs = target.spec.needs()
        if not needs:
            return target
        state = self._state if "state" in needs else None
        return replace(target, state=state, spool=self._spools[target.spec.backend] if "spool" in needs else None)


NOTHING_KEPT = Kept(FileConfig.model_construct(listeners={}), {}, {})
"""For plans that are only explained or described."""
