"""Two processes of one gateway that ask each other over a socket of theirs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Self

from gateway.task import Tasks

log = logging.getLogger("polygate")

Answer = Callable[[str, Any], Awaitable[Any]]
"""answer(word, said): what the other one asks for, as JSON has it."""
LENGTH = 4
MAX_UNREAD = 64 << 20
"""Bytes that may wait for a process that reads nothing; with more it is as good as gone."""


class GoneError(Exception):
    """The other process has ended, or does not answer."""


class Channel:
    """One end. Open while entered; each asks and answers at any time, several questions at once."""

    def __init__(self, one: socket.socket, answer: Answer) -> None:
        self._socket = one
        self._answer = answer
        self._tasks = Tasks()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._writer: asyncio.StreamWriter
        self.gone = asyncio.Event()
        """The other process has closed its end, as it does when it ends."""

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        await self._tasks.__aenter__()
        self._tasks.spawn(self._read(reader), "what another process says")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()
        await self._tasks.__aexit__()

    async def ask(self, word: str, said: Any = None, *, seconds: float = 5.0) -> Any:
        """What the other one answers. Raises GoneError where it does not within `seconds`, or fails to."""
        if self.gone.is_set():
            raise GoneError("has ended")
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            raise GoneError("reads nothing")
        self._number += 1
        number = self._number
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                self._write({"ask": word, "number": number, "said": said})
                return await self._asked[number]
        except TimeoutError:
            raise GoneError(f"does not answer within {seconds:g} s") from None
        finally:
            del self._asked[number]

    def _write(self, frame: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            body = json.dumps(frame).encode()
            self._writer.write(len(body).to_bytes(LENGTH) + body)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(LENGTH))
                frame = json.loads(await reader.readexactly(size))
                if "ask" in frame:
                    self._tasks.spawn(self._reply(frame), f"the answer to another process: {frame['ask']}")
                else:
                    self._settle(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(GoneError("has ended"))

    async def _reply(self, frame: dict[str, Any]) -> None:
        try:
            told = {"told": await self._answer(frame["ask"], frame["said"])}
        except Exception as error:
            # Whoever asked is to hear of it, and must not wait.
            log.exception("no answer to another process: %s", frame["ask"])
            told = {"failed": f"{type(error).__name__}"}
        self._write({"number": frame["number"], **told})

    def _settle(self, frame: dict[str, Any]) -> None:
        waiting = self._asked.get(frame["number"])
        if waiting is None or waiting.done():
            return  # it came too late
        if "failed" in frame:
            waiting.set_exception(GoneError(f"failed to answer: {frame['failed']}"))
        else:
            waiting.set_result(frame["told"])
