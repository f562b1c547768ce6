"""How a stream of messages stands in an HTTP body: server-sent events, NDJSON, a JSON array. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
LINES = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
"""What NDJSON is called on the wire. We call it by the first."""
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
NDJSON_HEARTBEAT = b" "
"""White space before the next line's value (RFC 8259 2): a blank line would be a value that is none to many readers."""


def ndjson(body: bytes) -> bytes:
    """One line. JSON has no raw line break inside a token, so one between tokens is as good as a space."""
    if b"\n" in body or b"\r" in body:
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return body + b"\n"


class TooLongError(ValueError):
    """A message is longer than the reader allows."""


class NoArrayError(ValueError):
    """What should be a JSON array is none."""


class Lines:
    """Cuts chunks of bytes into lines, ended by LF, CRLF or (for SSE) a lone CR; never holds more than `limit` bytes of one."""

    def __init__(self, limit: int = MAX_LINE, *, lone_cr: bool = False) -> None:
        self._limit = limit
        self._lone_cr = lone_cr
        self._rest = bytearray()
        """What has come of a line that is not whole yet: a chunk is added to it, never the other way round."""
        self._skip_lf = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without their ends."""
        if self._lone_cr:
            chunk = self._without_cr(chunk)
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise TooLongError(f"a line is longer than {self._limit} bytes")
        for line in lines:
            yield line.removesuffix(b"\r")

    def end(self) -> bytes:
        """What is left when the stream ends: a last line without its end, often empty."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _without_cr(self, chunk: bytes) -> bytes:
        """A CRLF may be cut in two by the chunks: its LF is then dropped from the next."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if chunk:
            self._skip_lf = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


_SPACE = b" \t\n\r"
_QUOTE, _BACKSLASH, _OPENING, _CLOSING, _END = b'"', b"\\", b"[{", b"]}", b"]"
_MAX_DEPTH = 1000
"""Far more than any reader of JSON takes here, and brackets are counted one by one."""
# Up to where an element may end: whole strings are passed over, and inside of brackets commas are. A string that goes on in the
# next chunk is met at its quote. Possessive, so that nothing is looked at twice.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = re.compile(rb'[^"\[\]{},]*+(?:' + _STRING + rb'[^"\[\]{},]*+)*+', re.DOTALL)
# Brackets that hold no others, too.
_DEEP = re.compile(rb'[^"\[\]{}]*+(?:(?:' + _STRING + rb'|[\[{][^"\[\]{}]*+[\]}])[^"\[\]{}]*+)*+', re.DOTALL)
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class Elements:
    """Cuts chunks of bytes into the elements of one JSON array, never holding more than `limit` bytes of one.

    It only finds where an element begins and ends (RFC 8259 5): an element is what stands between two commas outside of strings
    and brackets, and whether that is JSON is for its reader to say. An array all of whose elements are JSON is JSON then. An
    object is there with its last bracket, before its comma has come. Every byte is looked at once.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._element = bytearray()
        self._depth = 0
        """0: before the array; 1: between its brackets; more: inside an element."""
        self._in_string = False
        self._escaped = False
        self._due = False
        """There was a comma, so that an element must follow."""
        self._given = False
        """The element before the next comma was given out already."""
        self._ended = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The elements that this chunk completes. Raises NoArrayError and TooLongError."""
        at = 0
        if self._depth == 0:
            at = len(chunk) - len(chunk.lstrip(_SPACE))
            if at == len(chunk):
                return
            if chunk[at : at + 1] != b"[":
                raise NoArrayError("it does not begin with [")
            self._depth, at = 1, at + 1
        while at < len(chunk) and not self._ended:
            stop = self._next(chunk, at)
            self._keep(chunk[at:stop])
            at = stop + 1
            if stop < len(chunk) and (element := self._mark(chunk[stop:at])) is not None:
                yield element
        if self._ended and chunk[at:].strip(_SPACE):
            raise NoArrayError("something stands behind its end")

    def end(self) -> None:
        """The stream has ended. Raises NoArrayError where the array has not."""
        if not self._ended:
            raise NoArrayError("it has no end")

    def _next(self, chunk: bytes, at: int) -> int:
        """Where the next byte is that may change where the element ends; behind the chunk where none is."""
        if self._escaped:
            return at
        skipped = (_INSIDE if self._in_string else _FLAT if self._depth == 1 else _DEEP).match(chunk, at)
        return at if skipped is None else skipped.end()

    def _keep(self, piece: bytes) -> None:
        element = self._element
        if not element:
            # White space around an element is no part of it, so that there may be any amount.
            piece = piece.lstrip(_SPACE)
        if piece and self._given:
            raise NoArrayError("a comma is missing")
        element += piece
        if len(element) > self._limit:
            raise TooLongError(f"an element is longer than {self._limit} bytes")

    def _mark(self, byte: bytes) -> bytes | None:
        """One byte that may change where the element ends; the element where it does end."""
        if self._in_string:
            if self._escaped or byte == _BACKSLASH:
                self._escaped = not self._escaped
            else:
                self._in_string = False
        elif byte == _QUOTE:
            self._in_string = True
        elif byte in _OPENING:
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise NoArrayError("it is nested too deep")
        elif self._depth == 1:
            return self._between(byte)
        elif byte in _CLOSING:
            self._depth -= 1
        self._keep(byte)
        return self._taken() if self._depth == 1 and byte in _CLOSING and not self._in_string else None

    def _taken(self) -> bytes:
        element = bytes(self._element).rstrip(_SPACE)
        self._element.clear()
        self._given = True
        return element

    def _between(self, byte: bytes) -> bytes | None:
        """A comma or a closing bracket between the array's own."""
        if byte == b"}":
            raise NoArrayError("a } stands in the place of a ]")
        self._ended = byte == _END
        element = None if self._given or not self._element else self._taken()
        if element is None and not self._given and (self._due or not self._ended):
            raise NoArrayError("an element is missing")
        self._due, self._given = True, False
        return element


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
                raise TooLongError(f"an event is longer than {self._limit} bytes")
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
