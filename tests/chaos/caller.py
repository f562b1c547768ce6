"""Callers that write one record after the other, each with a key of its own, over three wires, and note what they were told."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import aiohttp
import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from tests.chaos.ledger import ONCE, Attempt, Told
from tests.system.client import Rpc

ANSWER_S = 30
"""More than a gateway takes to start where many start at once: who connects to a socket that outlives it waits for it."""
PAUSE_S = 0.02
PACE_S = 0.002

Result = tuple[Told, str]


def told(answer: dict[str, Any]) -> Result:
    """What a receipt or a problem object says."""
    if "outcome" in answer:
        return Told(answer["outcome"]), answer["reason"]
    return Told(answer.get("state") or Told.ACKNOWLEDGED), ""


class Wire(ABC):
    """How one caller reaches the gateway; made anew after it broke."""

    connections = 0
    """How many it has made, where that can be known."""

    @abstractmethod
    async def write(self, mode: str, key: str, record: str, token: str | None) -> Result:
        """One record; `token` is its idempotency key. Raises nothing that a broken gateway may cause."""

    @abstractmethod
    async def close(self) -> None:
        """Let the connection go."""


class Rest(Wire):
    """Connections that are kept alive."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self._url = f"http://{addresses['public']}"
        traces = aiohttp.TraceConfig()
        traces.on_connection_create_start.append(self._connects)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S), trace_configs=[traces])

    async def _connects(self, *_: object) -> None:
        self.connections += 1

    async def write(self, mode: str, key: str, record: str, token: str | None) -> Result:
        headers = {"idempotency-key": f'"{token}"'} if token else {}
        body = {"sku": record, "quantity": 1}
        try:
            async with self._session.post(f"{self._url}/{mode}/{key}", json=body, headers=headers) as answer:
                return told(await answer.json(content_type=None))
        except aiohttp.ClientConnectorError as error:
            return Told.REFUSED, repr(error)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Told.UNKNOWN, repr(error)

    async def close(self) -> None:
        await self._session.close()


class Socket(Wire):
    """One WebSocket, a frame a record."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self._url = f"ws://{addresses['live']}"
        self._open: ClientConnection | None = None

    async def write(self, mode: str, key: str, record: str, token: str | None) -> Result:
        del token
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._open is None:
                    self.connections += 1
                    self._open = await connect(f"{self._url}/{mode}", ping_interval=None, open_timeout=None)
        except (WebSocketException, InvalidStatus, OSError, TimeoutError, EOFError) as error:
            return Told.REFUSED, repr(error)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._open.send(json.dumps({"customer": key, "sku": record, "quantity": 1}))
                return told(json.loads(await self._open.recv()))
        except (WebSocketException, OSError, TimeoutError, EOFError) as error:
            await self.close()
            return Told.UNKNOWN, repr(error)

    async def close(self) -> None:
        one, self._open = self._open, None
        if one is not None:
            one.transport.abort()


class Grpc(Wire):
    """Unary calls on one channel. A contract stands for one mode: broker."""

    def __init__(self, addresses: dict[str, str]) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100), ("grpc.enable_retries", 0)]
        self._channel = grpc.aio.insecure_channel(addresses["rpc"], options=options)
        self._client = Rpc(self._channel)

    async def write(self, mode: str, key: str, record: str, token: str | None) -> Result:
        del mode, token
        try:
            await self._client.call("shop.v1.Orders/Place", customer=key, sku=record, quantity=1)
        except grpc.aio.AioRpcError as error:
            return _status(error)
        return Told.ACKNOWLEDGED, ""

    async def close(self) -> None:
        await self._channel.close()


def _status(error: grpc.aio.AioRpcError) -> Result:
    """What the gateway's own details say; where there are none the wire broke."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return Told(info.metadata["outcome"]), info.reason.lower()
    if "failed to connect" in (error.details() or "").lower():
        return Told.REFUSED, repr(error.details())
    return Told.UNKNOWN, repr(error.details())


WIRES: dict[str, Callable[[dict[str, str]], Wire]] = {"rest": Rest, "websocket": Socket, "grpc": Grpc}


class Writer:
    """One caller. It waits for each answer, so that its records have an order."""

    def __init__(self, name: str, mode: str, wire: str, addresses: dict[str, str], note: Callable[[Attempt], None]) -> None:
        self._name = name
        self._mode = mode
        self._wire = WIRES[wire](addresses)
        self._note = note

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop, and until the last is answered."""
        number = 0
        try:
            while not stop.is_set():
                number += 1
                result, why = await self._written(number, stop)
                self._note(Attempt(self._mode, self._name, number, result, why, self._wire.connections))
                await asyncio.sleep(PAUSE_S if result in {Told.FAILED, Told.REFUSED, Told.UNKNOWN} else PACE_S)
        finally:
            await self._wire.close()

    async def _written(self, number: int, stop: asyncio.Event) -> Result:
        """In the mode `once` the same record with the same key is tried until its outcome is known."""
        record = f"{self._name}/{number}"
        token = record if self._mode == ONCE else None
        result = await self._wire.write(self._mode, self._name, record, token)
        while token is not None and result[0] is not Told.ACKNOWLEDGED and not stop.is_set():
            await asyncio.sleep(PAUSE_S)
            after = await self._wire.write(self._mode, self._name, record, token)
            # Once a try may have written it, that none is known to have failed says nothing.
            result = after if after[0] is Told.ACKNOWLEDGED or result[0] is not Told.UNKNOWN else result
        return result
