"""Just enough HTTP/2 (RFC 9113) to say what a gRPC library would not, and to read what comes back: literals, no HPACK table."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Pairs = tuple[tuple[bytes, bytes], ...]
OK: Pairs = ((b":status", b"200"), (b"content-type", b"application/grpc"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(*pairs: tuple[bytes, bytes], end: bool = False, stream: int = 1) -> bytes:
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def _text(value: bytes) -> bytes:
    """RFC 7541 5.2, without Huffman."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, out = len(value) - 127, bytearray([127])
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes([*out, rest]) + value


def request(
    path: bytes = b"/shop.v1.Test/Talk",
    *more: tuple[bytes, bytes],
    kind: bytes = b"application/grpc",
    end: bool = False,
    stream: int = 1,
) -> bytes:
    own = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"test"))
    return headers(*own, (b"te", b"trailers"), (b"content-type", kind), *more, end=end, stream=stream)


def grpc_message(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(body)) + body


def data(payload: bytes, *, end: bool = False, stream: int = 1) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, payload)


@dataclass
class Heard:
    """What the other side said on its first stream: header blocks as they came, data, and whether it was reset."""

    blocks: bytes = b""
    data: bytes = b""
    reset: int | None = None
    closed: bool = False
    streams: set[int] = field(default_factory=set)

    @property
    def status(self) -> int | None:
        """grpc-status: grpcio writes it as a literal the first time on a connection."""
        found = re.search(rb"grpc-status[\x01\x02](\d+)", self.blocks)
        return int(found[1]) if found else None


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))
        await self._writer.drain()

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame; settings and pings are answered on the way."""
        while True:
            head = await self._reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            payload = await self._reader.readexactly(size) if size else b""
            kind, flags = head[3], head[4]
            if kind in {SETTINGS, PING} and not flags & ACK:
                self._writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind not in {SETTINGS, PING, WINDOW_UPDATE}:
                return kind, flags, int.from_bytes(head[5:9], "big"), payload

    async def hear(self, seconds: float = 20) -> Heard:
        """Everything until the stream or the connection ends."""
        heard = Heard()
        async with asyncio.timeout(seconds):
            try:
                while True:
                    kind, flags, stream, payload = await self.frame()
                    heard.streams.add(stream)
                    if kind == DATA:
                        heard.data += payload
                    elif kind in {HEADERS, CONTINUATION}:
                        heard.blocks += payload
                    elif kind == RST_STREAM:
                        heard.reset = int.from_bytes(payload, "big")
                        return heard
                    if kind in {DATA, HEADERS} and flags & END_STREAM:
                        return heard
            except (asyncio.IncompleteReadError, ConnectionError):
                heard.closed = True
                return heard

    async def heard_request(self) -> int:
        """As a server: wait for a whole request; its stream."""
        await self._reader.readexactly(len(PREFACE))
        self._writer.write(frame(SETTINGS, 0, 0))
        while True:
            kind, flags, stream, _ = await self.frame()
            if kind in {DATA, HEADERS} and flags & END_STREAM:
                return stream

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Peer]:
    """A client."""
    host, port = address.rsplit(":", 1)
    peer = Peer(*await asyncio.open_connection(host, int(port)))
    await peer.say(PREFACE, frame(SETTINGS, 0, 0))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def answering(*frames: bytes) -> AsyncIterator[str]:
    """A server that answers each connection's first request with these frames (for stream 1) and, without any, hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            await peer.heard_request()
            await peer.say(*frames)
            if frames:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            await peer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
