"""A grpc.aio server that a malformed call cannot put out of service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc.aio

from gateway.task import Tasks

log = logging.getLogger("polygate")

LOOK_S = 0.05
# How long a server that stopped accepting may go on with the calls that it has.
RETIRE_S = 3600.0


class Server:
    """Listens and, where grpcio gives up listening, listens anew on the same port.

    grpcio (1.85) reads a call's path as UTF-8 in its accepting loop. One path that is not ends that loop: it stops listening and
    tells every connection to go (GOAWAY), though the calls under way go on. Nothing of ours runs before, so nothing can prevent
    it; a new server takes over at once, and the old one ends with its calls.
    """

    def __init__(self, make: Callable[[int], tuple[grpc.aio.Server, int]]) -> None:
        """`make(port)` gives a server bound to a port, 0 for a free one, and the port. Raises OSError where it is taken."""
        self._make = make
        self._tasks = Tasks()
        self._servers: list[grpc.aio.Server] = []
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        await self._tasks.__aenter__()
        await self._listen()
        self._tasks.spawn(self._watch(), "grpc: looking after the server")

    async def stop(self, grace: float) -> None:
        """Take no more calls. Returns when those under way have ended, or been cut after `grace` seconds."""
        await self._tasks.__aexit__()
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.stop(grace))

    async def _listen(self) -> None:
        server, self.port = self._make(self.port)
        await server.start()
        self._servers.append(server)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            server = self._servers[-1]
            # What tells at once has no public name: wait_for_termination() waits for the calls under way too.
            if server._server.is_running():  # type: ignore[attr-defined]  # noqa: SLF001
                continue
            try:
                await self._listen()
            except OSError as error:
                log.warning("grpc: not listening yet after a malformed call: %s", error)
                continue
            log.error("grpc: a malformed call stopped the server; a new one listens on port %d", self.port)
            self._tasks.spawn(self._retire(server), "grpc: the calls of a stopped server")

    async def _retire(self, server: grpc.aio.Server) -> None:
        await server.stop(RETIRE_S)
        self._servers.remove(server)
