"""The channel to a peer. A call is made only once that is connected, which is waited for here: so a peer that is away is a
definite failure, and whatever goes wrong later is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from adapters.grpc.metadata import REQUEST_ID, Metadata, forwarded, metadata_of
from gateway.errors import BackendError, Reason
from gateway.exchange import Call
from gateway.task import Tasks


class Link:
    """The way to the server at an address, and what goes with every call."""

    def __init__(self, address: str, connect_s: float, fixed: Metadata) -> None:
        self._address = address
        self._connect_s = connect_s
        self._fixed = fixed
        self._taken = frozenset(name for name, _ in fixed)
        self._tasks = Tasks()
        self._settling: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel

    @asynccontextmanager
    async def over(self, channel: grpc.aio.Channel) -> AsyncIterator[None]:
        """Go over this channel, which its owner closes."""
        self._channel = channel
        async with self._tasks:
            yield

    def method(self, kind: str, path: str) -> Callable[..., Any]:
        """A raw method of the channel: its serializers stay unset, so that bytes go in and out."""
        multicallable: Callable[..., Any] = getattr(self._channel, kind)(path)
        return multicallable

    async def connected(self, until: float) -> None:
        """Wait for the connection until it is there or has failed. BackendError(UNREACHABLE) at the latest at `until`."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        if state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            if self._settling is None or self._settling.done():
                self._settling = self._tasks.spawn(self._settle(), f"connecting to {self._address}")
            now = asyncio.get_running_loop().time()
            await asyncio.wait({self._settling}, timeout=max(min(until - now, self._connect_s), 0))
            if self._channel.get_state() is grpc.ChannelConnectivity.READY:
                return
        raise BackendError(Reason.UNREACHABLE, "the backend cannot be reached")

    async def _settle(self) -> None:
        """One watcher, however many calls wait: until connecting has worked or failed."""
        pending = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
        while (state := self._channel.get_state(try_to_connect=True)) in pending:
            await self._channel.wait_for_state_change(state)

    def metadata(self, call: Call) -> Metadata:
        """What goes to the peer: the caller's headers, our own in their place, and the exchange's id."""
        sent = metadata_of(pair for pair in forwarded(call.headers) if pair[0] not in self._taken)
        return (*sent, *self._fixed, (REQUEST_ID, call.id))
