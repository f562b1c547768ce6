"""A response that is written while its handler runs: a head, then frames, then the end."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from aiohttp.web import BaseRequest, StreamResponse

from adapters.ingress.rest.answer import fields_of, head
from adapters.ingress.rest.connection import watch
from gateway.message import NO_HEADERS, Headers

FLUSH_BYTES = 1 << 16
WAIT_BYTES = 1 << 15


class Outflow:
    """One of them. What is written within one turn of the event loop leaves as one chunk (RFC 9112 7.1).

    It has what aiohttp's server asks of a response: prepare, write_eof, keep_alive.
    """

    __slots__ = (
        "_chunked",
        "_flush",
        "_frames",
        "_loop",
        "_request",
        "_size",
        "clean",
        "idle",
        "keep_alive",
        "opened",
        "trailers",
    )

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._chunked = request.version == (1, 1)
        self._frames: list[bytes] = []
        self._size = 0
        self._flush: asyncio.Handle | None = None
        self.keep_alive: bool | None = request.keep_alive and self._chunked
        self.opened = False
        """The head is out."""
        self.clean = True
        """It has come to its end; otherwise the connection breaks off in mid-body."""
        self.trailers = NO_HEADERS
        """What goes with the end, for a caller that takes it there (RFC 9110 6.5)."""
        self.idle = True
        """Nothing has been written since whoever asks has set this."""

    def force_close(self) -> None:
        """The connection closes after this answer."""
        self.keep_alive = False

    def let_go(self, seconds: float) -> None:
        """The connection closes after this answer, and in so many seconds though the caller has not taken all of it."""
        self.force_close()
        transport = self._request.transport
        if transport is not None:
            self._loop.call_later(seconds, transport.abort)

    def open(self, call_id: str, fields: str, extra: Headers, status: int = 200) -> None:
        """Write the head. `fields` are ours, ready to go, and what frames the body is added to them."""
        self.opened = True
        fields += "transfer-encoding: chunked\r\n" if self._chunked else ""
        fields += "" if self.keep_alive else "connection: close\r\n"
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(head(status, call_id, fields, extra))

    def write(self, frame: bytes) -> None:
        """One frame: it leaves with those of this turn of the loop."""
        self._frames.append(frame)
        self._size += len(frame)
        if self._flush is None:
            self._flush = self._loop.call_soon(self.flush)

    async def pace(self, ahead: int = WAIT_BYTES) -> None:
        """Wait while the caller is slow: more than `ahead` bytes behind."""
        transport = self._request.transport
        if self._size > max(FLUSH_BYTES, ahead) or (transport is not None and transport.get_write_buffer_size() > ahead):
            self.flush()
            await self._request.writer.drain()

    def flush(self) -> None:
        """Write all frames as one chunk; a connection that is gone cancels the handler by itself."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        transport = self._request.transport
        if not self._frames or transport is None or transport.is_closing() or self._request.method == "HEAD":
            return
        chunk = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        self.idle = False
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    @property
    def waiting(self) -> bool:
        """Whether frames wait for their flush."""
        return bool(self._frames)

    async def drained(self) -> None:
        """Write what waits, and wait until the kernel has taken it."""
        self.flush()
        watch(self._request)
        await self._request.writer.drain()

    def close(self) -> None:
        """What is not written yet is dropped with the caller."""
        if self._flush is not None:
            self._flush.cancel()

    async def prepare(self, _request: BaseRequest) -> None:
        """Called once by aiohttp: the head is out already."""

    async def write_eof(self) -> None:
        """Called once by aiohttp: the last chunk (RFC 9112 7.1), unless the stream did not come to its end."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        if not self.clean and not self._chunked:
            # HTTP/1.0 ends a body by closing, so that only a reset says that it is not whole.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif self.clean and self._chunked and self._request.method != "HEAD":
            transport.write(b"0\r\n" + fields_of(self.trailers).encode("latin-1", "replace") + b"\r\n")
        watch(self._request)

    @property
    def response(self) -> StreamResponse:
        """The same, by the name that aiohttp's signatures have for it."""
        return cast("StreamResponse", self)
