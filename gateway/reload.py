"""Loading the config anew while the gateway runs. A bad one never takes the place of the one that is served."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Self

from gateway.file import ReloadConfig
from gateway.listener import Reloaded
from gateway.metric import Counter, Gauge
from gateway.plan import Plan, plan
from gateway.server import Gateway, StartError
from gateway.source import ConfigError, Inputs, Problem, look, path_text
from gateway.systemd import notify, reloading
from gateway.task import Tasks, in_thread

log = logging.getLogger("polygate")

RELOADS = Counter("polygate_reloads", "How often the config was loaded anew, by what came of it.", "outcome")
LOADED = Gauge(
    "polygate_config_loaded_timestamp_seconds", "When the config was loaded that is served, in seconds since 1970.", across="max"
)
STALE = Gauge("polygate_config_stale", "1 while the latest config was refused, so that an older one is served.", across="max")


class Reloads:
    """Loads the config of one gateway anew while entered: when it is asked to, and where the config says so when a file has
    changed. One at a time.
    """

    def __init__(self, first: Plan, loaded: Callable[[Plan], None] = lambda _plan: None) -> None:
        """`loaded` is called with each plan that takes the place of another."""
        self._tell = loaded
        self._gateway: Gateway | None = None
        self._tasks = Tasks()
        self._stack = ExitStack()
        self._running = False
        self._again = False
        self._stopping = False
        self._inputs: Inputs = first.config.source.inputs
        self._stale = False
        self._loaded = time.time()

    def of(self, gateway: Gateway) -> Self:
        """Load the config of this one."""
        self._gateway = gateway
        return self

    async def __aenter__(self) -> Self:
        self._stack.callback(LOADED.watch(lambda: self._loaded))
        self._stack.callback(STALE.watch(lambda: float(self._stale)))
        self._tasks.spawn(self._watch(), "watching the config")
        if self._again:
            self.ask()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopping = True
        await self._tasks.__aexit__(*error)
        self._stack.close()

    def ask(self) -> None:
        """Load it as soon as may be: what comes of it is in the log. What changes while it is loaded is loaded once more."""
        self._again = True
        if self._gateway is not None and not self._running and not self._stopping:
            self._tasks.spawn(self._asked(), "loading the config anew")

    async def _asked(self) -> None:
        while self._again and not self._running:
            await self.reload()

    async def reload(self) -> Reloaded:
        """Load it now. Whoever waits for what comes of it may give up; it is loaded all the same."""
        if self._stopping or self._gateway is None:
            return _counted(Reloaded("stopping"))
        if self._running:
            return _counted(Reloaded("busy"))
        self._running, self._again = True, False
        done: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._loading(self._gateway, done), "loading the config anew")
        return await asyncio.shield(done)

    async def _loading(self, gateway: Gateway, done: asyncio.Future[Reloaded]) -> None:
        result = Reloaded("stopping")
        reloading()
        try:
            result = await self._load(gateway)
        finally:
            if not self._stopping:
                notify("READY=1")
            self._running = False
            done.set_result(_counted(result))
        if self._again:
            self.ask()

    async def _load(self, gateway: Gateway) -> Reloaded:
        before = gateway.plan.config
        try:
            planned = await in_thread(lambda: plan(before.paths, workers=before.workers), "loading the config")
        except ConfigError as error:
            self._inputs = error.inputs
            return self._refused(error.problems)
        source = planned.config.source
        self._inputs = source.inputs
        try:
            changes = await gateway.reload(planned)
        except StartError as error:
            where = error.where
            return self._refused([Problem(source.name(where), source.line(where), path_text(where), error.text)])
        self._stale, self._loaded = False, time.time()
        self._tell(planned)
        if planned.config.file.workers != before.file.workers:
            log.warning("workers: a reload has as many as before; %d takes a restart", planned.config.file.workers)
        told = ", ".join(f"{section}: {one}" for section, one in changes.items() if one)
        log.info("the config was loaded anew: %s", told or "nothing has changed")
        return Reloaded("changed" if told else "unchanged", {section: one.told() for section, one in changes.items()})

    def _refused(self, problems: Sequence[Problem]) -> Reloaded:
        self._stale = True
        for problem in problems:
            log.error("%s", problem)
        log.error("the config was not loaded anew (problems: %d); the one before is served on", len(problems))
        return Reloaded("refused", problems=[asdict(problem) for problem in problems])

    async def _watch(self) -> None:
        """Look at the files now and then. Once they have changed, and stand still from one look to the next, load them."""
        before: Inputs = {}
        while True:
            said = self._gateway.plan.config.file.reload if self._gateway is not None else ReloadConfig()
            await asyncio.sleep(said.every)
            if not said.watch:
                continue
            found = await in_thread(partial(_looks, tuple(self._inputs)), "looking at the config")
            if found == before and found != self._inputs:
                self.ask()
            before = found


def _looks(paths: Sequence[Path]) -> Inputs:
    return {path: look(path) for path in paths}


def _counted(result: Reloaded) -> Reloaded:
    RELOADS.add(1, result.outcome)
    return result
