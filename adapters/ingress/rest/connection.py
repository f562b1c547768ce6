"""aiohttp's connection, where its own behaviour is not what we promise: slow heads, parser errors, a limit on connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from adapters.ingress.rest.request import ClosingError
from gateway.admission import Admission, refusal
from gateway.errors import CallerError, GatewayError, Reason

if TYPE_CHECKING:
    from adapters.ingress.rest.answer import Answer

AnswerError = Callable[[GatewayError], "Answer"]


def reason_of(error: BaseException | None, max_line: int) -> GatewayError:
    """What a request that the parser could not read is answered with; always the last on its connection."""
    if isinstance(error, LineTooLong):
        if error.args and str(max_line) in map(str, error.args):
            return ClosingError(Reason.URI_TOO_LONG, f"a target has {max_line} bytes at most")
        return ClosingError(Reason.HEADERS_TOO_LARGE, "a header field is too large")
    if isinstance(error, BadHttpMethod) and "HTTPS" not in str(error):
        return ClosingError(Reason.NOT_IMPLEMENTED, "this method is not known")
    if isinstance(error, BadHttpMessage) and "Too many headers" in str(error):
        return ClosingError(Reason.HEADERS_TOO_LARGE, "there are too many header fields")
    return ClosingError(Reason.MALFORMED, "this is not a request that HTTP/1.1 allows")


class Connection(RequestHandler):
    """One caller's connection. A head must be whole `head_seconds` after its first byte, and of an answer some must be taken
    every `write_seconds`.
    """

    __slots__ = ("_drip", "_held", "_stall", "peer", "server")

    def __init__(self, server: Listening, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.server = server
        self.peer = ""
        self._drip: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101  TCP or TLS, never UDP
        self.server.open.add(self)
        if len(self.server.open) > self.server.max_connections:
            self._last_words(CallerError(Reason.OVERLOADED, "there are too many connections"))

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come, and none is worked on."""
        return self._waiter is not None and not self._waiter.done() and not self._messages and self._drip is None

    def watch(self) -> None:
        """An answer has ended: cut its caller off once it takes nothing of what waits for it for `write_seconds`."""
        transport = self.transport
        if transport is not None and self._stall is None and transport.get_write_buffer_size():
            self._look(transport, inf)

    def _look(self, transport: asyncio.WriteTransport, waited: float) -> None:
        waits = transport.get_write_buffer_size()
        self._stall = None
        if waits >= waited:
            transport.abort()
        elif waits:
            self._stall = self._loop.call_later(self.server.write_seconds, self._look, transport, waits)

    def _last_words(self, error: GatewayError) -> None:
        if self.transport is not None:
            self.transport.write(self.server.answer_error(error).last())
            self.watch()
        self.force_close()

    def _too_slow(self) -> None:
        self._last_words(CallerError(Reason.SLOW_REQUEST, f"the head did not come within {self.server.head_seconds:g} s"))

    def data_received(self, data: bytes) -> None:
        if self.server.admission.late and self._drip is None and self._current_request is None and not self._messages:
            # The first bytes of a request: nothing of it is looked at before its turn, and no more of it is read.
            assert self.transport is not None  # noqa: S101  who has data has one
            self._held = data
            self.transport.pause_reading()
            self.server.admission.wait(self)
            return
        self._take(data)

    def admit(self) -> None:
        """See `Waiter`."""
        if self.transport is not None and not self.transport.is_closing():
            held, self._held = self._held, b""
            self.transport.resume_reading()
            try:
                self._take(held)
            except BaseException:
                self.transport.abort()  # as it does itself where its caller's bytes are the cause
                raise

    def refuse(self) -> None:
        """See `Waiter`."""
        if self.transport is not None and not self.transport.is_closing():
            self._held = b""
            self._last_words(refusal())

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        # A request is on its way while nothing is queued and nothing runs.
        if self._messages or self._current_request is not None or self._waiter is None or self._waiter.done():
            if self._drip is not None:
                self._drip.cancel()
                self._drip = None
        elif self._drip is None:
            loop = asyncio.get_running_loop()
            self._drip = loop.call_later(self.server.head_seconds, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._drip, self._stall):
            if timer is not None:
                timer.cancel()
        self._drip = self._stall = None
        self.server.open.discard(self)
        if not self.server.open:
            self.server.emptied.set()
        super().connection_lost(exc)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """Answer what the parser refused, or a bug of this very file, with a problem object in place of a page."""
        del request, message
        if status == 500:  # noqa: PLR2004  aiohttp's word for a handler that raised
            self.log_exception("the REST listener failed", exc_info=exc)
            return self.server.answer_error(GatewayError(Reason.BUG, "something went wrong here")).response
        return self.server.answer_error(reason_of(exc, self.max_line_size)).response


def watch(request: BaseRequest) -> None:
    """Look after the connection of a request whose answer has ended."""
    if isinstance(request.protocol, Connection):
        request.protocol.watch()


class Listening(Server):
    """aiohttp's low-level server with our connections."""

    def __init__(
        self,
        handler: Callable[[BaseRequest], Awaitable[StreamResponse]],
        answer_error: AnswerError,
        admission: Admission,
        *,
        max_connections: int,
        head_seconds: float,
        write_seconds: float,
        **settings: Any,
    ) -> None:
        # A caller who is gone cancels the handler: without this a stream to nobody would go on.
        super().__init__(handler, handler_cancellation=True)
        self.answer_error = answer_error
        self.admission = admission
        self.max_connections = max_connections
        self.head_seconds = head_seconds
        self.write_seconds = write_seconds
        self._settings = settings
        self.open: set[Connection] = set()
        self.emptied = asyncio.Event()

    def close_idle(self) -> None:
        """Close the connections that ask for nothing."""
        for connection in [one for one in self.open if one.idle]:
            connection.force_close()

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._settings)
