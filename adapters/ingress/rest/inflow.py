"""A request body that is read while it comes: the envelopes of Connect's streams and of gRPC-Web."""

from __future__ import annotations

import asyncio

from aiohttp.web import BaseRequest

from adapters.ingress.rest.envelope import COMPRESSED, Decode, Envelopes
from adapters.ingress.rest.request import ClosingError, go_on, inflated, read_some
from gateway.errors import CallerError, Reason


class Inflow:
    """One of them. `seconds`: within which each message must come, from when it is asked for."""

    def __init__(self, request: BaseRequest, decode: Decode, *, limit: int, seconds: float, gzip: bool) -> None:
        self._request = request
        self._decode = decode
        self._limit = limit
        self._seconds = seconds
        self._gzip = gzip
        self._envelopes = Envelopes(limit)
        self._asked = False
        self.ended = False
        """The caller has said that it sends no more."""

    async def receive(self) -> bytes | None:
        """The next message, unpacked; None at the end. Raises CallerError: SLOW_REQUEST where it does not come."""
        found = self._envelopes.next()
        if found is None:
            try:
                async with asyncio.timeout(self._seconds):
                    found = await self._wait()
            except TimeoutError as error:
                raise ClosingError(Reason.SLOW_REQUEST, f"no message came within {self._seconds:g} s") from error
        return None if found is None else self._unpacked(*found)

    async def _wait(self) -> tuple[int, bytes] | None:
        while not self.ended:
            chunk = await self._read()
            if chunk:
                self._envelopes.feed(self._decode(chunk))
                if (found := self._envelopes.next()) is not None:
                    return found
            else:
                self.ended = True
        if not self._envelopes.empty:
            raise CallerError(Reason.MALFORMED, "the body ends in the middle of a message")
        return None

    async def _read(self) -> bytes:
        if not self._asked:
            self._asked = True
            go_on(self._request)
        return await read_some(self._request)

    def _unpacked(self, flags: int, body: bytes) -> bytes:
        if flags & ~COMPRESSED:
            raise CallerError(Reason.MALFORMED, "a message has flags that this protocol does not know")
        if not flags:
            return body
        if not self._gzip:
            raise CallerError(Reason.PROTOCOL, "a message is compressed, and the head names no encoding")
        return inflated(body, "gzip", self._limit) if body else body
