"""The library's framing, held to our terms: with refusals of our own, for its own say who it is and what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from websockets.extensions import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import LoggerLike, StatusLike, Subprotocol

Refuse = Callable[[int], Response]
"""The answer for a status that the library refuses with."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection is held to, the same for all of a listener."""

    text: str
    """The content type of text frames."""
    binary: str
    """And of binary ones."""
    max_size: int
    max_queue: int
    write_limit: int
    open_timeout: float
    close_timeout: float
    ping_interval: float
    ping_timeout: float
    extensions: Sequence[ServerExtensionFactory]
    subprotocols: tuple[str, ...]
    refuse: Refuse
    logger: LoggerLike


class Framing(ServerProtocol):
    """The library's framing, with answers of our own and no debt of pongs."""

    def __init__(self, terms: Terms) -> None:
        self._refuse = terms.refuse
        self.start = b""
        self.congested = False
        self.owed: Frame | None = None
        super().__init__(
            extensions=terms.extensions,
            subprotocols=cast("Sequence[Subprotocol]", terms.subprotocols) or None,
            max_size=terms.max_size,
            logger=terms.logger,
        )

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """The first of ours that the caller offers; none is no reason to refuse."""
        return next((name for name in self.available_subprotocols or () if name in subprotocols), None)

    def reject(self, status: StatusLike, text: str) -> Response:
        """Every refusal of the library comes through here; its text is dropped."""
        del text
        return self._refuse(int(status))

    def send_response(self, response: Response) -> None:
        self._refuse = _answered
        super().send_response(response)

    def send_eof(self) -> None:
        """What the library takes for no HTTP at all it answers with nothing; we say 400, or 405 to a POST with a body."""
        if self.state is State.CONNECTING and self._refuse is not _answered:
            status = 400 if self.start.startswith(b"GET ") or b" " not in self.start else 405
            self.writes.append(self._refuse(status).serialize())
            self._refuse = _answered
        super().send_eof()

    def send_frame(self, frame: Frame) -> None:
        """While the peer does not read, only the latest ping is owed an answer (RFC 6455, 5.5.3)."""
        if self.congested and frame.opcode is Opcode.PONG:
            self.owed = frame
        else:
            super().send_frame(frame)


def _answered(status: int) -> Response:
    raise AssertionError(f"a second answer to one request: {status}")


class Refusal(asyncio.Protocol):
    """A connection beyond the listener's limit: answered as soon as it is there, with nothing read and no task started."""

    def __init__(self, response: Response, linger: float) -> None:
        self._response = response.serialize()
        self._linger = linger
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._response)
        # Closing while the request is on its way would reset the connection, and the answer with it.
        self._timer = asyncio.get_running_loop().call_later(self._linger, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        del data
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
