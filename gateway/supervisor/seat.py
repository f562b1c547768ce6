"""The place of one worker: its number and its sockets, which stay while one process after the other has it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gateway.bind import again
from gateway.channel import Answer, Channel, GoneError
from gateway.inherited import outdated
from gateway.worker import Worker

log = logging.getLogger("polygate")

UNTOLD = "NOTIFY_SOCKET"
"""What a worker need not know: its supervisor tells systemd."""


class Seat:
    """See the module. At most one process has it at a time."""

    def __init__(self, worker: Worker, sockets: Mapping[str, Sequence[socket.socket]], command: Sequence[str]) -> None:
        """`command` is run with the worker in its environment."""
        self.number = worker.number
        self._worker = worker
        self._sockets = sockets
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self.up = False
        """Its process serves: it has said so, and has not ended since."""
        self.served = False
        """The latest of its processes that has ended had said so."""
        self.behind = False
        """Its process may have read the config before others were told to load it anew."""

    def keep(self, binds: Mapping[str, str]) -> None:
        """Let go of the sockets that were opened for what no listener says any more: whoever came to them would wait for ever."""
        gone = outdated(self._worker.binds, binds)
        for one in (one for name in gone for one in self._sockets.get(name, ())):
            one.close()
        self._sockets = {name: some for name, some in self._sockets.items() if name not in gone}
        self._worker = replace(self._worker, binds={name: bind for name, bind in self._worker.binds.items() if name not in gone})

    def withdraw(self) -> None:
        """Let nobody wait for a process that does not come: the next one that does listens anew. Not on what systemd has handed
        over, which all share.
        """
        for name in self._worker.binds:
            try:
                self._sockets = {**self._sockets, name: [again(one) for one in self._sockets.get(name, ())]}
            except OSError as error:
                log.warning("worker %d opens %s itself from now on: %s", self.number, name, error.strerror)
                self._sockets = {other: some for other, some in self._sockets.items() if other != name}

    def close(self) -> None:
        """Let go of all of its sockets."""
        for one in (one for some in self._sockets.values() for one in some):
            one.close()

    async def sit(self, answer: Answer) -> int:
        """Run a process to its end; returns its exit code, or the signal that ended it, negative. `answer` is for what it asks.

        It is spawned, never forked: what runs in this process must not be half there in another.
        """
        descriptors = {name: [one.fileno() for one in some] for name, some in self._sockets.items()}
        ours, theirs = socket.socketpair()
        with theirs:
            told = replace(self._worker, channel=theirs.fileno(), sockets=descriptors).told()
            environment = {name: value for name, value in os.environ.items() if name != UNTOLD}
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env={**environment, **told},
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *(one for some in descriptors.values() for one in some)),
                    # Ctrl-C is for the supervisor, which passes it on; both would be a second signal.
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        try:
            async with Channel(ours, answer) as self._channel:
                return await process.wait()
        finally:
            self.served, self.up = self.up, False
            self._channel = None
            self.signal(signal.SIGKILL)
            await process.wait()
            self._process = None

    async def ask(self, word: str, said: Any = None, *, seconds: float) -> Any:
        """What the worker answers. Raises GoneError where there is none, or it does not."""
        if self._channel is None or not self.up:
            raise GoneError("is not there")
        return await self._channel.ask(word, said, seconds=seconds)

    def signal(self, number: int) -> None:
        """Send a signal to its process; none where there is no process."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
