"""The running gateway: backends connect, listeners listen, other plans take the place of the first, and all leave in the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self, TypeVar

from gateway.bind import Address, Listen, listen
from gateway.change import Change, change, missing, said
from gateway.description import documents, servers
from gateway.errors import GatewayError
from gateway.held import Gone, Held, HeldBackend, HeldKept, HeldListener
from gateway.inside import Inside
from gateway.kept import NOTHING_KEPT, Kept
from gateway.listener import Everybody, ListenerConfig, Reload, View
from gateway.plan import NO_ROUTES, Plan, Served
from gateway.port import Backend, BackendConfig
from gateway.source import Where
from gateway.task import Tasks, cut

Entered = TypeVar("Entered")
log = logging.getLogger("polygate")

MAX_LEAVING = 16
"""How many reloads may have left parts behind that have not ended yet: one more waits for the first of them."""
LISTENERS, BACKENDS = 0.85, 0.95
"""The parts of a drain at which exchanges must have ended, and at which backends must have flushed and closed: the rest is the
interpreter's, which takes a moment to end.
"""
_SHOWN = ("find", "refuse", "backends", "keeps", "contracts", "routes", "documents", "servers")
"""What of a view follows from the plan."""


class StartError(Exception):
    """A part could not start: a port is taken, a path cannot be written. The text says which part and why."""

    def __init__(self, where: Where, text: str) -> None:
        what = f"{str(where[0]).removesuffix('s')} {where[1]}" if len(where) > 1 else "what the gateway keeps"
        super().__init__(f"{what}: {text}")
        self.where = where
        """Its place in the config."""
        self.text = text


@dataclass(slots=True)
class _Parts:
    """What there is by one plan; what two plans say alike is in both."""

    backends: dict[str, HeldBackend] = field(default_factory=dict)
    kept: HeldKept = field(default_factory=lambda: HeldKept(None, AsyncExitStack(), NOTHING_KEPT))
    served: dict[str, Served] = field(default_factory=dict)
    listeners: dict[str, HeldListener] = field(default_factory=dict)

    def insides(self) -> list[Inside]:
        return [inside for one in self.served.values() for inside in one.insides()]


class Gateway:
    """A gateway that serves while entered. Leaving drains the listeners, all by one deadline, before backends close.

    Entering raises StartError, as `reload` does.
    """

    def __init__(
        self, plan: Plan, *, reload: Reload | None = None, listen: Listen = listen, everybody: Everybody | None = None
    ) -> None:
        """`reload`: what loads the config anew, for listeners to ask; `listen`: where they have their sockets from; `everybody`:
        all processes, where there are several.
        """
        self.plan = plan
        self.view = View(NO_ROUTES.find, reload=reload, listen=listen, everybody=everybody)
        self._parts = _Parts()
        self._tasks = Tasks()
        self._open = ExitStack()
        self._leaving: set[asyncio.Task[None]] = set()
        self._departing: list[HeldListener] = []
        self._end = 0.0
        """By when all must have ended, once it is told to."""

    @property
    def addresses(self) -> Mapping[str, Address]:
        """Where each listener listens, by name."""
        return self.view.addresses

    async def __aenter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.view.admission)
            await self.reload(self.plan)
            self._open = stack.pop_all()
        return self

    # Another plan

    async def reload(self, plan: Plan) -> Mapping[str, Change]:
        """Go on as a plan says; returns what that changes, by section. A part that says the same as before stays as it is, with
        its connections and what it counts. What is new is there before the first call can reach it; what is gone leaves once
        its exchanges have ended, or ends them by the drain's deadline. Never to be called twice at a time.

        Raises StartError where a part cannot start: all is then as it was.
        """
        while len(self._leaving) >= MAX_LEAVING:
            await asyncio.wait(self._leaving, return_when=asyncio.FIRST_COMPLETED)
        old, new = self._parts, _Parts()
        async with AsyncExitStack() as undo:
            for name, config in plan.config.backends.items():
                new.backends[name] = await self._backend(name, config, undo)
            live = {name: held.backend for name, held in new.backends.items()}
            new.kept = await self._keeping(plan, live, undo)
            new.served = plan.served(live, new.kept.kept, old.served)
            shown = self._shown(plan, new.served, live, new.kept.kept)
            new.listeners = await self._listening(plan, shown, undo)
            undo.pop_all()
        self._go(plan, new, shown)
        self.view.admission.config = plan.config.file.overload
        return {
            "listeners": change(old.listeners, new.listeners),
            "backends": change(old.backends, new.backends),
            "routes": change(
                {name: one.inside for name, one in old.served.items()}, {name: one.inside for name, one in new.served.items()}
            ),
        }

    async def _backend(self, name: str, config: BackendConfig, undo: AsyncExitStack) -> HeldBackend:
        says, where = said(config), ("backends", name)
        old = self._parts.backends.get(name)
        if old is not None and old.says == says:
            return old
        owned = config.owns()
        for other, held in self._parts.backends.items():
            if owned is not None and held.owned == owned:
                raise StartError(where, f"would have the storage of {other}, which is in use: that takes a restart")
        stack = await undo.enter_async_context(AsyncExitStack())
        return HeldBackend(says, stack, await _entered(stack, where, partial(config.build, name)), owned)

    async def _keeping(self, plan: Plan, live: Mapping[str, Backend], undo: AsyncExitStack) -> HeldKept:
        file, needs = plan.config.file, plan.needs()
        says, old = (file.state, file.spool, needs, live), self._parts.kept
        if old.says == says:
            return old
        stack = await undo.enter_async_context(AsyncExitStack())
        return HeldKept(says, stack, await _entered(stack, ("state",), partial(Kept, file, needs, live, old.kept)))

    def _shown(self, plan: Plan, served: Mapping[str, Served], live: Mapping[str, Backend], kept: Kept) -> View:
        """What listeners are to see from now on."""
        table, addresses = plan.router(served.values()), self.view.addresses
        return replace(
            self.view,
            find=table.find,
            refuse=table.refuse,
            backends=live,
            keeps=kept.check,
            contracts=plan.config.contracts,
            routes=plan.rows(),
            servers=partial(servers, plan, addresses),
            documents=documents(plan, addresses),
        )

    async def _listening(self, plan: Plan, shown: View, undo: AsyncExitStack) -> dict[str, HeldListener]:
        """The listeners of a plan: those that are there already, and new ones, which listen from now on."""
        wanted, before = plan.config.listeners, self._parts.listeners
        says = {name: (said(one), tuple(shown.backends[backend] for backend in one.uses())) for name, one in wanted.items()}
        listeners = {name: one for name, one in before.items() if says.get(name) == one.says}
        new = [name for name in wanted if name not in listeners]
        for name in [name for name in new if not wanted[name].uses()]:
            listeners[name] = await self._listener(name, wanted[name], says[name], shown, undo)
        # Who consumes topics leaves before another takes its place: two of one group would be in each other's way.
        for name, old in before.items():
            if old.address is None and name not in listeners:
                undo.push_async_callback(self._back, name)
                await old.leave(asyncio.get_running_loop().time() + self.plan.config.file.drain.seconds)
        for name in [name for name in new if wanted[name].uses()]:
            listeners[name] = await self._listener(name, wanted[name], says[name], shown, undo)
        return {name: listeners[name] for name in wanted}

    async def _listener(self, name: str, config: ListenerConfig, says: object, shown: View, undo: AsyncExitStack) -> HeldListener:
        held = HeldListener(says, AsyncExitStack(), name, replace(shown), config.protocol, getattr(config, "bind", ""))
        other = next((one for one in self._parts.listeners.values() if held.successor(one)), None)
        held.view.place = other.address if other is not None else None
        held.view.listen = partial(held.listen, shown.listen, other)
        held.address = await _entered(held.stack, ("listeners", name), lambda: config.build(name, held.view).serving())
        held.view.listen = shown.listen  # it is not to hold on to those before it
        undo.push_async_callback(held.leave_in, self.plan.config.file.drain.seconds)
        return held

    async def _back(self, name: str) -> None:
        """A listener comes back that has left for a reload which then failed."""
        config, old = self.plan.config.listeners[name], self._parts.listeners[name]
        try:
            self._parts.listeners[name] = await self._listener(name, config, old.says, self.view, AsyncExitStack())
        except StartError as error:
            log.error("a reload has failed, and then %s", error)  # noqa: TRY400  it says all

    def _go(self, plan: Plan, new: _Parts, shown: View) -> None:
        """From one step of the event loop to the next: every call from now on goes by the new plan."""
        old, self._parts = self._parts, new
        for one in new.served.values():
            for turn, handler in one.turns.values():
                turn.handler = handler
        staying = set(new.insides())
        for was in old.served.values():
            insides = [one for one in was.insides() if one not in staying]
            old.kept.kept.note(was.target, insides)
            for held in old.backends.values():
                if held.backend in {was.backend, *was.others}:
                    held.users.note(insides)
        self.view.addresses.clear()
        self.view.addresses.update({name: one.address for name, one in new.listeners.items() if one.address is not None})
        # Who has a connection to a listener that leaves may call once more.
        self._departing = [one for one in (*self._departing, *missing(old.listeners, new.listeners)) if not one.gone]
        for view in (*self._views(), *(one.view for one in self._departing)):
            for name in _SHOWN:
                setattr(view, name, getattr(shown, name))
        kept = [] if old.kept is new.kept else [old.kept]
        old.kept.kept.hand_over(new.kept.kept)
        gone = Gone(missing(old.listeners, new.listeners), missing(old.backends, new.backends), kept)
        seconds, self.plan = self.plan.config.file.drain.seconds, plan
        if gone:
            task = self._tasks.spawn(gone.leave(seconds), "what a reload has no more use for")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _views(self) -> Sequence[View]:
        return (self.view, *(one.view for one in self._parts.listeners.values()))

    # The end

    async def __aexit__(self, *error: object) -> None:
        parts, drain = self._parts, self.plan.config.file.drain
        for view in self._views():
            view.ready = False
        async with AsyncExitStack() as stack:
            stack.callback(self._open.close)
            # From the last to the first.
            stack.push_async_callback(self._closed, parts.backends)
            stack.push_async_callback(self._departed, {"what the gateway keeps": parts.kept})
            stack.push_async_callback(self._left)
            for turn in (2, 1, 0):
                leaving = {name: one for name, one in parts.listeners.items() if one.turn == turn}
                stack.push_async_callback(self._departed, leaving)
            try:
                await asyncio.sleep(drain.pause)
            finally:
                now = asyncio.get_running_loop().time()
                self._end = now + drain.seconds * BACKENDS
                for view in self._views():
                    view.drain_until = now + drain.seconds * LISTENERS

    async def _departed(self, parts: Mapping[str, Held]) -> None:
        """Parts that leave at one time, and before others."""
        await self._closed(parts, self._half())

    async def _closed(self, parts: Mapping[str, Held], until: float | None = None) -> None:
        """Parts flush and close, all at once, by `until` or the end: a broker that is dead holds up no end."""

        async def close(name: str, held: Held) -> None:
            if not await cut(held.stack.aclose(), self._end if until is None else until):
                log.warning("%s was not done in time with what it had to do yet", name)

        await _all(close(name, held) for name, held in parts.items())

    def _half(self) -> float:
        """Half of what is left once exchanges have ended: what leaves before others leaves them some of it."""
        return (max(self.view.drain_until or 0.0, asyncio.get_running_loop().time()) + self._end) / 2

    async def _left(self) -> None:
        """What reloads have left behind has no more time than all the rest."""
        until = self.view.drain_until or 0.0
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        await self._tasks.__aexit__()


async def _all(leaving: Iterable[Awaitable[None]]) -> None:
    """Wait for every one, whatever becomes of the others; raise the first one's error."""
    for end in await asyncio.gather(*leaving, return_exceptions=True):
        if end is not None:
            raise end


async def _entered(stack: AsyncExitStack, where: Where, opened: Callable[[], AbstractAsyncContextManager[Entered]]) -> Entered:
    try:
        return await stack.enter_async_context(opened())
    except GatewayError as error:
        raise StartError(where, error.message) from error
    except OSError as error:
        raise StartError(where, error.strerror or str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise StartError(where, str(error)) from error
