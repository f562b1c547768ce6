"""The access log: lines gathered and written in chunks, so that a line costs an exchange no system call, and a reader of our
output that has stalled costs it nothing but lines.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable

FLUSH_BYTES = 64 << 10
FLUSH_S = 0.1
MAX_BYTES = 1 << 20
# POSIX: a pipe that polls as writable takes so many bytes without blocking, and in one piece: other workers write to it too.
_PIECE = select.PIPE_BUF


class Lines:
    """Lines for one file descriptor. Holds MAX_BYTES at the most; what comes then is dropped, counted, and the count written."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._lines: list[str] = []
        self._size = 0
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self._untold = 0
        self.dropped = 0

    def add(self, line: str) -> None:
        """One line, without its end, all ASCII. It is written within FLUSH_S, while the loop runs, or by `flush`."""
        if self._size + len(self._rest) >= MAX_BYTES:
            self.dropped += 1
            self._untold += 1
            return
        self._lines.append(line)
        self._size += len(line) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._due)
        elif self._size >= FLUSH_BYTES and not self._rest:
            self.write()

    def write(self) -> bool:
        """Write what can be written without waiting. Whether that was all."""
        data = self._rest + self._taken()
        at = 0
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        try:
            while at < len(data) and poll.poll(0):
                # Whole lines, for those of other workers to stand between; one that is longer may be cut by theirs.
                end = at + _PIECE
                end = data.rfind(b"\n", at, end) + 1 or end
                at += os.write(self._file, data[at:end])
        except BlockingIOError:
            pass  # somebody made it non-blocking: what is left waits
        except OSError:
            # Nobody reads our output any more, which is no reason to fail an exchange.
            self.dropped += data.count(b"\n", at)
            at = len(data)
        self._rest = data[at:]
        return not self._rest

    def flush(self, seconds: float = 1.0) -> None:
        """Write everything, waiting so long at the most for a reader that is slow. For the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        while not self.write() and (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)

    def _due(self) -> None:
        self._timer = None if self.write() else asyncio.get_running_loop().call_later(FLUSH_S, self._due)

    def _taken(self) -> bytes:
        """The lines as bytes; once what was left over is gone, with one more that tells how many were dropped."""
        if not self._rest and self._untold:
            self._lines.append(f'{{"dropped_lines":{self._untold}}}')
            self._untold = 0
        lines, self._lines, self._size = self._lines, [], 0
        return "".join(f"{line}\n" for line in lines).encode("ascii")


_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


class Clock:
    """The time of day in RFC 3339, to the millisecond; formatted anew once a second."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = 0
        self._next = 0
        self._text = ""

    def __call__(self) -> str:
        now = self._now()
        if not self._second <= now < self._next:
            self._second = int(now)
            self._next = self._second + 1
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._second))
        return self._text + _MILLISECONDS[int((now - self._second) * 1000)]


LOGS = {"stdout": Lines(1), "stderr": Lines(2)}


def flush() -> None:
    """Write what the access logs still hold. For the end of the process."""
    for lines in LOGS.values():
        lines.flush()
