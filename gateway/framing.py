"""How a stream of messages stands in an HTTP body: server-sent events, NDJSON, a JSON array. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: `name` is "message" unless the sender said otherwise."""

    data: str
    name: str = "message"
    id: str | None = None


def sse(body: bytes, *, id: str | None = None, name: str | None = None) -> bytes:  # noqa: A002  the field's name
    """One event (WHATWG HTML 9.2.5). A line break inside the body starts another `data:` line."""
    lines = []
    if name is not None:
        lines.append(b"event: " + name.encode())
    if id is not None:
        lines.append(b"id: " + id.encode())
    if b"\n" in body or b"\r" in body:
        text = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines.extend(b"data: " + line for line in text.split(b"\n"))
    else:
        lines.append(b"data: " + body)
    return b"\n".join(lines) + b"\n\n"


SSE_HEARTBEAT = b":\n\n"


def ndjson(body: bytes) -> bytes:
    """One line. JSON has no raw line break inside a token, so one between tokens is as good as a space."""
    if b"\n" in body or b"\r" in body:
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return body + b"\n"


class LineTooLongError(ValueError):
    """A line is longer than the reader allows."""


class Lines:
    """Cuts chunks of bytes into lines, ended by LF, CRLF or (for SSE) a lone CR; never holds more than `limit` bytes of one."""

    def __init__(self, limit: int = MAX_LINE, *, lone_cr: bool = False) -> None:
        self._limit = limit
        self._lone_cr = lone_cr
        self._rest = b""
        self._skip_lf = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without their ends."""
        if self._lone_cr:
            chunk = self._without_cr(chunk)
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest
        for line in (*lines, rest):
            if len(line) > self._limit:
                raise LineTooLongError(f"a line is longer than {self._limit} bytes")
        for line in lines:
            yield line.removesuffix(b"\r")

    def end(self) -> bytes:
        """What is left when the stream ends: a last line without its end, often empty."""
        rest, self._rest = self._rest, b""
        return rest

    def _without_cr(self, chunk: bytes) -> bytes:
        """A CRLF may be cut in two by the chunks: its LF is then dropped from the next."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if chunk:
            self._skip_lf = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Events:
    """Reads server-sent events out of chunks of bytes (WHATWG HTML 9.2.6)."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._lines = Lines(limit, lone_cr=True)
        self._limit = limit
        self._started = False
        self._clear()
        self._id: str | None = None

    def _clear(self) -> None:
        self._data: list[str] = []
        self._size = -1  # joined, n lines have n - 1 breaks
        self._name = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes. What stands before the end of the stream without a blank line is dropped."""
        for raw in self._lines.feed(chunk):
            line = raw.decode("utf-8", "replace")
            if not self._started:
                self._started = True
                line = line.removeprefix("\ufeff")
            if line:
                self._field(line)
            else:
                if self._data:
                    yield Event("\n".join(self._data), self._name or "message", self._id)
                self._clear()

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value) + 1
            if self._size > self._limit:
                raise LineTooLongError(f"an event is longer than {self._limit} bytes")
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
