"""A gateway in this process, in front of a real gRPC server that does what a test tells it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google.api
import grpc
import grpc.aio
import grpc_tools
import yaml
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

from gateway.plan import plan
from gateway.server import Gateway

HERE = Path(__file__).parent
PROTO = HERE / "talk.proto"
METHODS = ("One", "Replies", "Requests", "Both", "Upload", "Download")


def _compiled() -> bytes:
    """talk.proto with what it imports, compiled once: a gateway that starts for each test need not do it again."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        roots = [HERE, Path(grpc_tools.__file__).parent / "_proto", Path(google.api.__path__[0]).parents[1]]
        words = [f"--proto_path={root}" for root in roots]
        assert 0 == protoc.main(["protoc", *words, "--include_imports", f"--descriptor_set_out={out}", PROTO.name])
        return out.read_bytes()


DESCRIPTORS = _compiled()


def _classes() -> dict[str, Any]:
    """The messages of talk.proto, without generated code."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS)
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = ("spec.v1.Line", "spec.v1.Piece", "google.api.HttpBody")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


_FOUND = _classes()
Line, Piece, HttpBody = (_FOUND[name] for name in ("spec.v1.Line", "spec.v1.Piece", "google.api.HttpBody"))
Behaviour = Callable[[Any], Awaitable[None]]


async def lines(context: Any, kind: Any = Line) -> AsyncIterator[Any]:
    """Every request of a call."""
    while (body := await context.read()) is not grpc.aio.EOF:
        yield kind.FromString(body)


async def say(context: Any, text: str = "", number: int = 0) -> None:
    await context.write(Line(text=text, number=number).SerializeToString())


async def one(context: Any) -> None:
    """The line itself."""
    await context.write(await context.read())


async def replies(context: Any) -> None:
    """The line's number of lines."""
    line = Line.FromString(await context.read())
    for number in range(line.number):
        await say(context, line.text, number)


async def requests(context: Any) -> None:
    """How many lines there were, and what they said."""
    said = [line.text async for line in lines(context)]
    await say(context, ",".join(said), len(said))


async def both(context: Any) -> None:
    """Every line, at once."""
    async for line in lines(context):
        await say(context, line.text, line.number)


async def upload(context: Any) -> None:
    """The bytes that came, by name and type, and in how many pieces."""
    pieces = [piece async for piece in lines(context, Piece)]
    data = b"".join(piece.file.data for piece in pieces)
    names = {(piece.name, piece.file.content_type) for piece in pieces}
    await say(context, f"{sorted(names)} {len(data)} {data[:10]!r}", len(pieces))


async def download(context: Any) -> None:
    """What was asked for, three times, of a type that only the first says."""
    text = Line.FromString(await context.read()).text.encode()
    for number in range(3):
        body = HttpBody(data=text, content_type="text/x-shout" if number == 0 else "text/plain")
        await context.write(body.SerializeToString())


@dataclass
class Peer(grpc.GenericRpcHandler):
    """The server, and what it has seen."""

    methods: dict[str, Behaviour] = field(
        default_factory=lambda: {
            "One": one,
            "Replies": replies,
            "Requests": requests,
            "Both": both,
            "Upload": upload,
            "Download": download,
        }
    )
    metadata: list[tuple[tuple[str, str | bytes], ...]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """A call was taken from it."""

    def service(self, details: Any) -> Any:
        behaviour = self.methods[details.method.rpartition("/")[2]]
        self.metadata.append(tuple((pair.key, pair.value) for pair in details.invocation_metadata))

        async def run(_requests: object, context: Any) -> None:
            try:
                await behaviour(context)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        return grpc.stream_stream_rpc_method_handler(run)


def config(address: str) -> dict[str, Any]:
    """Every method of the service on every wire."""
    bind = {"bind": "127.0.0.1:0"}
    rest = {
        "Upload": [{"call": "POST /upload/{name}", "body": "file"}],
        "Download": ["GET /download/{text}"],
    }
    return {
        "contracts": ["talk.binpb"],
        "listeners": {kind: {"kind": kind, **bind} for kind in ("rest", "grpc", "websocket")},
        "backends": {"peer": {"kind": "grpc", "address": address}},
        "policies": [{"kind": "observe", "log": "none"}],
        "routes": [
            {
                "name": name,
                "when": {
                    "rest": rest.get(name, [f"POST /{name.lower()}"]),
                    "grpc": f"spec.v1.Talk/{name}",
                    **({"websocket": f"/{name.lower()}"} if name not in rest else {}),
                },
                "to": {"backend": "peer", "call": f"spec.v1.Talk/{name}"},
            }
            for name in METHODS
        ],
    }


@asynccontextmanager
async def served(peer: Peer, change: Callable[[dict[str, Any]], None] = lambda _config: None) -> AsyncIterator[Gateway]:
    """The gateway, listening; `change` may change its config."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((peer,))
    wanted = config(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    change(wanted)
    await server.start()
    try:
        async with gateway_of(wanted) as gateway:
            yield gateway
    finally:
        await server.stop(None)


@asynccontextmanager
async def gateway_of(wanted: dict[str, Any]) -> AsyncIterator[Gateway]:
    """A gateway with this config."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "talk.binpb").write_bytes(DESCRIPTORS)
        file = Path(folder) / "gateway.yaml"
        file.write_text(yaml.safe_dump(wanted, sort_keys=False))
        async with Gateway(plan(file, {})) as gateway:
            yield gateway


VIAS = ("grpc", "websocket", "http")
"""How the gateway reaches the gRPC server: itself, or through another gateway, in envelopes or in NDJSON both ways."""
_STREAMS: dict[str, dict[str, object]] = {
    "One": {},
    "Replies": {"stream": "ndjson"},
    "Requests": {"stream_requests": True},
    "Both": {"stream": "ndjson", "stream_requests": True},
}


@asynccontextmanager
async def served_via(
    via: str, peer: Peer, change: Callable[[dict[str, Any]], None] = lambda _config: None
) -> AsyncIterator[Gateway]:
    """The gateway that callers call, and behind it what `via` says."""
    if via == "grpc":
        async with served(peer, change) as gateway:
            yield gateway
        return
    async with served(peer) as behind:
        wanted = config("127.0.0.1:1")
        if via == "websocket":
            wanted["backends"]["peer"] = {"kind": "websocket", "url": f"ws://{behind.addresses['websocket']}"}
        else:
            wanted["backends"]["peer"] = {"kind": "http", "url": f"http://{behind.addresses['rest']}"}
        wanted["routes"] = [route for route in wanted["routes"] if route["name"] in _STREAMS]
        for route in wanted["routes"]:
            path = f"/{route['name'].lower()}"
            route["contract"] = f"spec.v1.Talk/{route['name']}"
            if via == "websocket":
                route["to"] = {"backend": "peer", "call": path, "subprotocol": "polygate.v1"}
            else:
                route["to"] = {"backend": "peer", "call": f"POST {path}", **_STREAMS[route["name"]]}
        change(wanted)
        async with gateway_of(wanted) as gateway:
            yield gateway
