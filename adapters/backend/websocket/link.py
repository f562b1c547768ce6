"""One connection to a WebSocket server: opened once, never redirected, and why it did not open or has closed, as a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from gateway.errors import BackendError, CallerError, Detail, GatewayError, HttpAnswer, Outcome, Reason
from gateway.message import Headers
from gateway.status import reason_of_http

NORMAL, NO_CODE = 1000, 1005
_ERRORS = range(400, 600)
# What the peer means by closing (RFC 6455 7.4.1, the registry, and our own listener's codes); what is not here is UNKNOWN.
_CODES: Mapping[int, Reason] = {
    1001: Reason.BACKEND_UNAVAILABLE,
    1003: Reason.BACKEND_INVALID_ARGUMENT,
    1007: Reason.BACKEND_INVALID_ARGUMENT,
    1008: Reason.BACKEND_FAILED_PRECONDITION,
    1011: Reason.BACKEND_INTERNAL,
    1012: Reason.BACKEND_UNAVAILABLE,
    1013: Reason.BACKEND_UNAVAILABLE,
    1014: Reason.BACKEND_UNAVAILABLE,
    3000: Reason.BACKEND_UNAUTHENTICATED,
    3003: Reason.BACKEND_PERMISSION_DENIED,
    3008: Reason.BACKEND_DEADLINE_EXCEEDED,
}
_TOO_LARGE = 1009


class Link(ClientConnection):
    """The library's connection, but that silence of a peer that we do not read is no sign of death."""

    async def keepalive(self) -> None:
        """Ping every so often. The library would drop a peer whose answer stands behind messages that nobody has taken yet."""
        if self.ping_interval is None:
            return
        while True:
            await asyncio.sleep(self.ping_interval)
            if self.recv_messages.paused:
                continue
            try:
                pong = await self.ping()
                async with asyncio.timeout(self.ping_timeout):
                    await pong
            except ConnectionClosed:
                return
            except TimeoutError:
                if not self.recv_messages.paused:
                    self.transport.abort()
                    return


class Opening(connect):
    """The library's way to a connection, but that it follows no redirect: where a backend is, the config says."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def unopened(error: Exception, back: frozenset[str]) -> GatewayError:
    """Why there is no connection: nothing has been asked yet, so nothing was done. `back`: headers that go back to the caller."""
    if not isinstance(error, InvalidHandshake):
        return BackendError(Reason.UNREACHABLE, "the backend cannot be reached")
    if not isinstance(error, InvalidStatus) or error.response.status_code not in _ERRORS:
        return BackendError(Reason.BAD_ANSWER, "the backend does not open a WebSocket here", outcome=Outcome.FAILED)
    response = error.response
    pairs = [(name.lower(), value) for name, value in response.headers.raw_items()]
    kept = Headers(pair for pair in pairs if (pair[0] in back or pair[0] == "content-type") and pair[1].isascii())
    details: tuple[Detail, ...] = (HttpAnswer(response.status_code, bytes(response.body or b""), kept),)
    text = f"the backend answered {response.status_code}"
    return BackendError(reason_of_http(response.status_code), text, details=details, outcome=Outcome.FAILED)


def closed(error: ConnectionClosed, outcome: Outcome | None) -> GatewayError | None:
    """Why the peer has closed; None where it has simply finished. `outcome`: of what is no word of the peer's."""
    if error.rcvd is None or error.rcvd_then_sent is False:
        if error.sent is not None and error.sent.code == _TOO_LARGE:
            return BackendError(Reason.BAD_ANSWER, "a message of the backend is too large", outcome=outcome)
        if error.sent is not None and error.rcvd is None:
            return BackendError(Reason.BAD_ANSWER, "what the backend sends cannot be read", outcome=outcome)
    if error.rcvd is None:
        return BackendError(Reason.BAD_ANSWER, "the connection to the backend broke off", outcome=outcome)
    code, words = error.rcvd.code, error.rcvd.reason
    if code in {NORMAL, NO_CODE}:
        return None
    if code == _TOO_LARGE:
        return CallerError(Reason.TOO_LARGE, "a message is larger than the backend takes")
    reason = _CODES.get(code, Reason.BACKEND_UNKNOWN)
    return BackendError(reason, f"the backend closed with {code}" + (f": {words}" if words else ""), outcome=outcome)
