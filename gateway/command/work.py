"""`polygate run` with several workers: the process that looks after them, and what a worker does beside serving."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway import attempt
from gateway.bind import Address, shared
from gateway.channel import Channel, GoneError
from gateway.command import in_loop, say
from gateway.errors import BackendError, Reason
from gateway.exposition import families, text
from gateway.inherited import Inherited
from gateway.listener import Reloaded
from gateway.plan import Plan
from gateway.process import serve
from gateway.ready import readiness
from gateway.server import Gateway, StartError
from gateway.supervisor import ANSWER_S, RELOAD_S, Supervisor
from gateway.supervisor.seat import Seat
from gateway.systemd import opened
from gateway.task import Tasks
from gateway.total import read
from gateway.worker import Worker


def look_after(planned: Plan, inherited: Inherited, paths: Sequence[Path], log_level: str) -> int:
    """Look after the workers of a config until SIGTERM or SIGINT. Returns the exit code. Raises StartError."""
    # -P: what stands in the folder that this is started in is no module of ours.
    command = (sys.executable, "-P", "-m", "gateway", "run", "--log-level", log_level, *map(str, paths))
    with inherited, ExitStack() as held:
        seats = _seats(planned, inherited, command, held)
        held.callback(inherited.close)
        for seat in seats:
            held.callback(seat.close)
        return asyncio.run(_look_after(planned, seats, held))


def _seats(planned: Plan, inherited: Inherited, command: Sequence[str], held: ExitStack) -> list[Seat]:
    """The seats with their sockets, bound and held; each listens once its worker does."""
    count = planned.config.file.workers
    sockets: list[dict[str, Sequence[socket.socket]]] = [{} for _ in range(count)]
    ports: dict[str, int] = {}
    binds = {name: bind for name, bind in binds_of(planned).items() if not inherited.of(name)}
    for name, listener in planned.config.listeners.items():
        bind: str | None = getattr(listener, "bind", None)
        if bind is None:
            continue
        if given := inherited.of(name):
            sets: Sequence[Sequence[socket.socket]] = [given] * count
        else:
            try:
                sets = shared(bind, count if listener.inherits else 1)
            except OSError as error:
                raise StartError(("listeners", name), error.strerror or str(error)) from error
            for some in sets:
                for one in some:
                    held.enter_context(one)
        if listener.inherits:
            for mine, some in zip(sockets, sets, strict=True):
                mine[name] = some
        else:
            # It is bound and never listens: so long as it is there, nobody else can be given the port.
            ports[name] = sets[0][0].getsockname()[1]
    return [Seat(Worker(number, count, ports=ports, binds=binds), mine, command) for number, mine in enumerate(sockets, 1)]


def binds_of(planned: Plan) -> dict[str, str]:
    """What each listener that takes sockets over says."""
    return {name: getattr(one, "bind", "") for name, one in planned.config.listeners.items() if one.inherits}


async def _look_after(planned: Plan, seats: Sequence[Seat], held: ExitStack) -> int:
    def started(addresses: Mapping[str, Address]) -> None:
        say(attempt.banner(planned, addresses))

    def stop() -> None:
        supervisor.stop()
        # The workers have theirs for as long as they drain; then nobody is to wait for us.
        held.close()

    drain = planned.config.file.drain
    supervisor = Supervisor(seats, drain.pause + drain.seconds, started)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    return await supervisor.run()


def work(planned: Plan, own: Worker) -> None:
    """Be a worker, until SIGTERM or until who looks after it is gone. Raises StartError."""
    sockets = {name: [opened(one) for one in some] for name, some in own.sockets.items()}
    with Inherited(sockets, own.binds, reuse_port=True) as inherited:
        in_loop(_work(planned, own, inherited))


async def _work(planned: Plan, own: Worker, inherited: Inherited) -> None:
    serving: list[Gateway] = []

    async def answer(word: str, said: Any) -> Any:
        (gateway,) = serving  # nobody asks before it has said that it is ready
        if word == "metrics":
            return [family.plain() for family in families().values()]
        if word == "readiness":
            return await readiness(gateway.view, said)
        if word == "reload" and gateway.view.reload is not None:
            return asdict(await gateway.view.reload())
        raise ValueError(word)

    async with Channel(socket.socket(fileno=own.channel), answer) as channel, Tasks() as tasks:

        def loaded(planned: Plan) -> None:
            binds = binds_of(planned)
            inherited.keep(binds)
            tasks.spawn(channel.ask("binds", binds), "telling what this worker listens on")

        def started(gateway: Gateway) -> None:
            serving.append(gateway)
            loaded(planned)
            addresses = {name: (one.host, one.port) for name, one in gateway.addresses.items()}
            tasks.spawn(channel.ask("ready", addresses), "telling that this worker is ready")

        tasks.spawn(_left_alone(channel), "looking whether somebody looks after this worker")
        everybody = _Everybody(channel)
        await serve(planned, started, listen=inherited.listen, stopping=inherited.close, everybody=everybody, loaded=loaded)


async def _left_alone(channel: Channel) -> None:
    """Nobody would start it again, nor stop it."""
    await channel.gone.wait()
    os.kill(os.getpid(), signal.SIGTERM)


class _Everybody:
    """See `gateway.listener.Everybody`: who looks after the workers asks them all."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def metrics(self) -> bytes:
        return text(read(await self._ask("metrics", None, 0)))

    async def readiness(self, seconds: float) -> Mapping[str, Any]:
        return dict(await self._ask("readiness", seconds, seconds))

    async def reload(self) -> Reloaded:
        return Reloaded(**await self._ask("reload", None, RELOAD_S))

    async def _ask(self, word: str, said: Any, seconds: float) -> Any:
        try:
            # It waits for them for so long itself.
            return await self._channel.ask(word, said, seconds=seconds + 2 * ANSWER_S)
        except GoneError as error:
            raise BackendError(Reason.UNREACHABLE, f"the other workers cannot be asked: who looks after them {error}") from error
