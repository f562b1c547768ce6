"""A WebSocket client of single bytes: what a well-behaved library will not send, and all that comes back."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass, field

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {
    "Host": "shop.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PATIENCE_S = 20


def request(method: str = "GET", target: str = "/shop/talk", version: str = "HTTP/1.1", **changes: str | None) -> bytes:
    """A handshake; a change to None leaves a header out. `_` stands for `-`."""
    headers = {**HANDSHAKE}
    for name, value in changes.items():
        wire = next((known for known in HANDSHAKE if known.lower() == name.replace("_", "-")), name.replace("_", "-"))
        headers.pop(wire, None)
        if value is not None:
            headers[wire] = value
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0, length: int | None = None
) -> bytes:
    """One frame, right or wrong; `length` is what it says of itself."""
    size = len(data) if length is None else length
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes([bit | size])
    elif size < 1 << 16:
        head = bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([bit | 127]) + struct.pack("!Q", size)
    if not mask:
        return first + head + data
    key = os.urandom(4)
    whole = (key * (len(data) // 4 + 1))[: len(data)]
    masked = (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")
    return first + head + key + masked


@dataclass
class Http:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, object]:
        return json.loads(self.body)


@dataclass
class Raw:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: list[tuple[int, bytes]] = field(default_factory=list)

    @classmethod
    async def connect(cls, address: str) -> Raw:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    @classmethod
    async def open(cls, address: str, **changes: str | None) -> Raw:
        """Past the 101."""
        raw = await cls.connect(address)
        raw.send(request(**changes))
        answer = await raw.http()
        assert answer.status == 101, answer
        return raw

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def flood(self, data: bytes) -> None:
        """Send much, as far as the other side takes it."""
        with suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def http(self) -> Http:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            status = int(first.split()[1])
            body = b"" if status == 101 else await self.reader.read()
        return Http(status, headers, body)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: (opcode, data)."""
        async with asyncio.timeout(PATIENCE_S):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0xF, await self.reader.readexactly(size)

    async def code(self) -> int:
        """The code of the close frame, past all others, which are kept in `seen`; the connection must then end."""
        while True:
            opcode, data = await self.frame()
            if opcode == CLOSE:
                break
            self.seen.append((opcode, data))
        await self.gone()
        return struct.unpack("!H", data[:2])[0]

    async def gone(self) -> None:
        """Read to the end."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(OSError):
                while await self.reader.read(1 << 16):
                    pass

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
