"""A small client of Connect and gRPC-Web over loopback: what goes over the wire is written out here, byte by byte."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from gateway.codec import NO_CONTRACTS, Contract, Contracts
from gateway.errors import CallerError, Reason
from gateway.exchange import Handler
from gateway.listener import View
from gateway.message import Many
from gateway.pipeline import answerable
from gateway.route import Endpoint, Found, refusal
from tests.adapters.ingress.rest_driver import listening

METHOD = "shop.v1.Stock/Get"
END, TRAILERS = 0x02, 0x80


def framed(*bodies: bytes, flags: int = 0) -> bytes:
    """Messages in envelopes."""
    return b"".join(struct.pack(">BI", flags, len(body)) + body for body in bodies)


def cut(data: bytes) -> list[tuple[int, bytes]]:
    """Envelopes as (flags, body); nothing may be left."""
    found = []
    while data:
        flags, size = struct.unpack(">BI", data[:5])
        assert len(data) >= 5 + size
        found.append((flags, data[5 : 5 + size]))
        data = data[5 + size :]
    return found


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    lists: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def json(self) -> dict:
        return json.loads(self.raw)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        return cut(self.raw)

    @property
    def messages(self) -> list[bytes]:
        """All but the last frame, unpacked."""
        return [gzip.decompress(body) if flags & 1 else body for flags, body in self.frames[:-1]]

    @property
    def end(self) -> dict:
        """The last frame of a Connect stream."""
        flags, body = self.frames[-1]
        assert END == flags
        return json.loads(body)

    @property
    def trailers(self) -> dict[str, str]:
        """The last frame of gRPC-Web."""
        flags, body = self.frames[-1]
        assert TRAILERS == flags
        return dict(line.split(": ", 1) for line in body.decode().split("\r\n") if line)


@dataclass
class Client:
    """Calls the one method of a listener."""

    session: aiohttp.ClientSession
    url: str

    async def ask(
        self, body: bytes | AsyncIterable[bytes] = b"", *, method: str = "POST", path: str = f"/{METHOD}", **headers: str
    ) -> Reply:
        """Header names have underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"{self.url}{path}", data=body, headers=named) as response:
            lists = {name.lower(): response.headers.getall(name) for name in response.headers}
            raw = await response.content.read() if response.status != 204 else b""
            return Reply(response.status, {name: values[0] for name, values in lists.items()}, raw, lists)

    async def unary(self, body: bytes = b"{}", **headers: str) -> Reply:
        """Connect, one message each way."""
        return await self.ask(body, **{"connect_protocol_version": "1", "content_type": "application/json", **headers})

    async def stream(self, body: bytes | AsyncIterable[bytes], **headers: str) -> Reply:
        """A stream of Connect."""
        named = {"connect_protocol_version": "1", "content_type": "application/connect+json", **headers}
        return await self.ask(body, **named)

    async def web(self, body: bytes | AsyncIterable[bytes], **headers: str) -> Reply:
        """GRPC-Web; of its text form, what the text says."""
        kind = headers.get("content_type", "application/grpc-web+json")
        text = kind.startswith("application/grpc-web-text")
        if text and isinstance(body, bytes):
            body = base64.b64encode(body)
        reply = await self.ask(body, **{"content_type": kind, "x_grpc_web": "1", **headers})
        if text:
            pieces = reply.raw.replace(b"=", b"= ").split()
            reply.raw = b"".join(base64.b64decode(piece + b"=" * (-len(piece) % 4)) for piece in _joined(pieces))
        return reply


def _joined(pieces: list[bytes]) -> list[bytes]:
    """A second "=" belongs to the piece before it."""
    found: list[bytes] = []
    for piece in pieces:
        if piece == b"=" and found:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def view(handler: Handler, many: Many = Many.NEITHER, *, safe: bool = False, around: object = None) -> View:
    """METHOD has a route, under the protocols that carry gRPC."""
    endpoint = Endpoint("stock", answerable(handler), many, around=around)  # type: ignore[arg-type]
    contract = Contract(METHOD, None, None, many, safe=safe)  # type: ignore[arg-type]

    def find(protocol: str, target: str, *_facts: object) -> Found:
        if protocol in {"connect", "grpc_web"} and target == f"/{METHOD}":
            return Found(endpoint)
        error = CallerError(Reason.NOT_FOUND if protocol == "rest" else Reason.NO_METHOD, "no route")
        return Found(Endpoint("-", refusal(error)), error=error)

    return View(find, contracts=Contracts({METHOD: contract}, NO_CONTRACTS.files))


@asynccontextmanager
async def calling(
    handler: Handler, many: Many = Many.NEITHER, *, safe: bool = False, **settings: object
) -> AsyncIterator[Client]:
    """A client of a listener whose one method is `handler`."""
    async with (
        listening(view(handler, many, safe=safe), **settings) as address,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Client(session, f"http://{address}")
