"""A proxy between the gateway and its broker, that fails as networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from typing import Self

CHUNK = 16 << 10


class Weather(Enum):
    """What becomes of what comes."""

    FAIR = auto()
    SLOW = auto()
    """Everything takes a while longer."""
    BLACK = auto()
    """Connections stay open, new ones are taken, and nothing gets through either way."""
    CUT = auto()
    """A part of the next chunk gets through, and then the connection is reset."""
    DEAF = auto()
    """What is sent gets through, and no answer comes back."""


class Proxy:
    """Listens once entered; `weather` may be changed at any time."""

    def __init__(self, port: int, seed: int) -> None:
        self.target = 0
        self._port = port
        self._random = random.Random(seed)
        self._changed = asyncio.Event()
        self._weather = Weather.FAIR
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.reset()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    @property
    def weather(self) -> Weather:
        """What becomes of what comes, now."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def reset(self) -> None:
        """Reset every connection that there is."""
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            there, other = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(other)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, other, writer, answers=False))
                group.create_task(self._pump(there, writer, other, answers=True))
        except (OSError, ExceptionGroup):
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    self._writers.discard(one)
                    _reset(one)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while chunk := await reader.read(CHUNK):
            while self._weather is Weather.BLACK or (self._weather is Weather.DEAF and answers):
                await self._changed.wait()
            if self._weather is Weather.SLOW:
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
            if self._weather is Weather.CUT and not answers:
                writer.write(chunk[: self._random.randrange(len(chunk))])
                await writer.drain()
                _reset(back)
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a host that is gone or a firewall does."""
    with suppress(OSError, RuntimeError):
        sock = writer.get_extra_info("socket")
        if sock is not None and sock.fileno() != -1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
