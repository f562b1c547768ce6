"""A message that comes in fragments (RFC 6455, 5.4)."""

from __future__ import annotations

from websockets.frames import Frame, Opcode

MAX_FRAGMENTS = 4096
"""Of one message: empty ones add nothing to its size."""


class TooManyError(Exception):
    """A message has more fragments than it may."""


class Fragments:
    """Puts one message after the other together. That they come as they should is the library's to see."""

    __slots__ = ("_body", "_count", "_text")

    def __init__(self) -> None:
        self._body = bytearray()
        self._count = 0
        self._text = False

    def add(self, frame: Frame) -> tuple[bytes, bool] | None:
        """The message that is whole with this frame, and whether it is text; None where more is to come. Raises TooManyError."""
        if not self._count:
            self._text = frame.opcode is Opcode.TEXT
        self._body += frame.data
        self._count += 1
        if self._count > MAX_FRAGMENTS:
            raise TooManyError
        if not frame.fin:
            return None
        body = bytes(self._body)
        self._body.clear()
        self._count = 0
        return body, self._text
