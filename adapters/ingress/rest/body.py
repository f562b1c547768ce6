"""A REST body that holds many messages, read while it comes: the lines of NDJSON, the elements of a JSON array, or the pieces of
a google.api.HttpBody. Anything else in it is one message.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from aiohttp.streams import EMPTY_PAYLOAD

from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.request import ClosingError, coding, go_on, media_type, read_some
from gateway.errors import CallerError, Reason
from gateway.exchange import EndOfMessages
from gateway.framing import LINES, Elements, Lines, NoArrayError, TooLongError
from gateway.message import JSON, Message

PIECE = 1 << 16
"""How much is unpacked and cut at a time: what a small compressed body may make of itself before somebody has taken it."""
# What a line's end and blank lines behind it come to. A small compressed body may be millions of them.
_BLANKS = re.compile(rb"\n[ \t\r\n]*\n")


class _Framing(Protocol):
    """Where one message ends and the next begins."""

    @property
    def many(self) -> bool:
        """Whether there may be more than one."""

    def feed(self, piece: bytes) -> Iterable[bytes]:
        """The messages that this piece completes."""

    def end(self) -> Iterable[bytes]:
        """The message that the end of the body completes."""


class Body:
    """The messages of one request. `raw`: its bytes are of any media type, and every piece of them is a message."""

    def __init__(self, asked: Asked, *, raw: bool) -> None:
        headers = asked.headers
        self._request = asked.request
        self._limit = asked.limits.body
        self._seconds = asked.limits.seconds
        given = headers.get("content-type")
        kind = (given or "") if raw else media_type(given) if given else JSON
        self._kind = JSON if kind in LINES and not raw else kind
        self._framing = _framing(kind, asked.limits.body, raw=raw)
        encoding = coding(headers)
        self._inflate = _Inflate(encoding) if encoding else None
        self._pieces: Iterator[bytes] = iter(())
        self._ready: Iterator[bytes] = iter(())
        self._begun = False
        self._ended = False

    @property
    def many(self) -> bool:
        """Whether it is an array or lines, as far as it was read, rather than one message."""
        return self._framing.many

    async def receive(self) -> Message:
        """The next message. Raises EndOfMessages after the last, and CallerError where it does not come or is none."""
        found = self._next()
        if found is None:
            try:
                async with asyncio.timeout(self._seconds):
                    found = await self._wait()
            except TimeoutError as error:
                raise ClosingError(Reason.SLOW_REQUEST, f"no message came within {self._seconds:g} s") from error
        return Message(found, self._kind)

    def _next(self) -> bytes | None:
        try:
            return next(self._ready, None)
        except TooLongError as error:
            raise ClosingError(Reason.TOO_LARGE, f"a message has {self._limit} bytes at most") from error
        except NoArrayError as error:
            raise ClosingError(Reason.MALFORMED, f"the body is no whole JSON array: {error}") from error

    async def _wait(self) -> bytes:
        while not self._ended:
            piece = next(self._pieces, None)
            if piece is not None:
                self._ready = self._cut(piece)
                # Nothing else here waits while there is more to cut: other callers have their turn, and our own time its end.
                await asyncio.sleep(0)
            elif chunk := await self._chunk():
                self._pieces = _sliced(chunk) if self._inflate is None else self._inflate.feed(chunk)
            else:
                self._ended = True
                self._ready = self._last()
            if (found := self._next()) is not None:
                return found
        raise EndOfMessages

    def _cut(self, piece: bytes) -> Iterator[bytes]:
        yield from self._framing.feed(piece)

    def _last(self) -> Iterator[bytes]:
        if self._inflate is not None and self._begun:
            self._inflate.end()
        yield from self._framing.end()

    async def _chunk(self) -> bytes:
        if self._request.content is EMPTY_PAYLOAD:
            return b""
        self.go_on()
        return await read_some(self._request)

    def go_on(self) -> None:
        """Its bytes are wanted: a caller who waits for that is told now, since later there is an answer on its way."""
        if not self._begun and self._request.content is not EMPTY_PAYLOAD:
            self._begun = True
            go_on(self._request)


def _sliced(chunk: bytes) -> Iterator[bytes]:
    return (chunk[at : at + PIECE] for at in range(0, len(chunk), PIECE))


def _framing(kind: str, limit: int, *, raw: bool) -> _Framing:
    if raw:
        return _Pieces()
    if kind in LINES:
        return _Records(limit)
    return _Values(limit) if kind == JSON else _Whole(limit)


class _Pieces:
    """Bytes as they come; no bytes at all are one empty message."""

    many = True

    def __init__(self) -> None:
        self._empty = True

    def feed(self, piece: bytes) -> Iterable[bytes]:
        self._empty = False
        return (piece,)

    def end(self) -> Iterable[bytes]:
        return (b"",) if self._empty else ()


class _Records:
    """A line each; an empty line is none."""

    many = True

    def __init__(self, limit: int) -> None:
        self._lines = Lines(limit)

    def feed(self, piece: bytes) -> Iterable[bytes]:
        return (line for line in self._lines.feed(_BLANKS.sub(b"\n", piece)) if line.strip())

    def end(self) -> Iterable[bytes]:
        line = self._lines.end()
        return (line,) if line.strip() else ()


class _Whole:
    """All of it is one message, and so is nothing."""

    many = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterable[bytes]:
        self._held += piece
        if len(self._held) > self._limit:
            raise TooLongError
        return ()

    def end(self) -> Iterable[bytes]:
        return (bytes(self._held),)


class _Values:
    """The elements of a JSON array; any other JSON is one message."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._elements: Elements | None = None
        self._whole = _Whole(limit)
        self._begun = False

    @property
    def many(self) -> bool:
        return self._elements is not None

    def feed(self, piece: bytes) -> Iterable[bytes]:
        if not self._begun:
            start = piece.lstrip(b" \t\r\n")
            if not start:
                return ()
            self._begun = True
            self._elements = Elements(self._limit) if start.startswith(b"[") else None
        return self._elements.feed(piece) if self._elements is not None else self._whole.feed(piece)

    def end(self) -> Iterable[bytes]:
        if self._elements is None:
            return self._whole.end()
        self._elements.end()
        return ()


class _Inflate:
    """A compressed body, unpacked as it comes."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if encoding == "deflate" else zlib.MAX_WBITS | 16)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What it holds, in pieces."""
        inflate = self._inflate
        while True:
            try:
                piece = inflate.decompress(chunk, PIECE)
            except zlib.error as error:
                raise ClosingError(Reason.MALFORMED, f"the body is not {self._encoding}") from error
            if piece:
                yield piece
            chunk = inflate.unconsumed_tail
            if not chunk and len(piece) < PIECE:
                break
        if inflate.unused_data:
            raise ClosingError(Reason.MALFORMED, f"the body is not one whole {self._encoding} stream")

    def end(self) -> None:
        """The body has ended. CallerError where the stream in it has not."""
        if not self._inflate.eof:
            raise CallerError(Reason.MALFORMED, f"the body is not one whole {self._encoding} stream")
