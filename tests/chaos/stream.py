"""Callers that read the topic while it is written, over three wires: whose stream never ends, and misses nothing."""

from __future__ import annotations

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import quote

import aiohttp
import grpc
import grpc.aio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.chaos.caller import ANSWER_S
from tests.system.client import Rpc, message


class Stream(ABC):
    """One caller of the route `feed`."""

    def __init__(self, addresses: dict[str, str], *, again: bool = False) -> None:
        """`again`: where it ends, it is gone on with by another, after the last that was seen."""
        self.addresses = addresses
        self.seen: set[str] = set()
        self.again = again
        self.cursor = ""
        self.ends = 0
        self.ended = ""
        self.open = asyncio.Event()

    @abstractmethod
    def bodies(self) -> AsyncIterator[str]:
        """The bodies of the records, as JSON; `open` is set once the stream is there. Ends, or raises, where the stream does."""

    async def run(self) -> None:
        """Read until cancelled."""
        why = ""
        while not why or (self.again and self.open.is_set()):
            self.ends += bool(why)
            self.open.clear()
            why = "it ended"
            try:
                async for body in self.bodies():
                    self.seen.add(json.loads(body)["sku"])
            except (aiohttp.ClientError, WebSocketException, grpc.aio.AioRpcError, OSError, EOFError) as error:
                why = repr(error)
        self.ended = f"{type(self).__name__}: {why}"
        self.open.set()


class Events(Stream):
    """Server-sent events."""

    async def bodies(self) -> AsyncIterator[str]:
        timeout = aiohttp.ClientTimeout(total=None)
        headers = {"accept": "text/event-stream", **({"last-event-id": self.cursor} if self.cursor else {})}
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{self.addresses['public']}/feed", headers=headers) as answer,
        ):
            answer.raise_for_status()
            self.open.set()
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    self.cursor = value
                elif name == "data" and "reason" not in (body := json.loads(value)):
                    yield value
                elif name == "data":
                    self.cursor = body.get("cursor", self.cursor)


class Frames(Stream):
    """A WebSocket."""

    async def bodies(self) -> AsyncIterator[str]:
        start = f"?start={quote(self.cursor)}" if self.cursor else ""
        async with connect(f"ws://{self.addresses['live']}/feed{start}", ping_interval=None, open_timeout=ANSWER_S) as socket:
            self.open.set()
            try:
                while True:
                    event = json.loads(await socket.recv())
                    self.cursor = event["cursor"]
                    yield json.dumps(event["body"])
            except ConnectionClosed as closed:
                if found := re.search(r"cursor=(\S+)", closed.rcvd.reason if closed.rcvd is not None else ""):
                    self.cursor = found[1]
                raise


class Watch(Stream):
    """A gRPC server stream."""

    async def bodies(self) -> AsyncIterator[str]:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(self.addresses["rpc"], options=options) as channel:
            call = Rpc(channel).method("shop.v1.Orders/Watch")(message("shop.v1.WatchOrders"))
            with suppress(asyncio.CancelledError):
                await call.initial_metadata()
            self.open.set()
            async for event in call:
                yield event.body.decode()


STREAMS: tuple[type[Stream], ...] = (Events, Frames, Watch)
