"""Every listener with every target, one message and streams: one table, on the embedded log and on a real Kafka.

A pair that makes no sense is in the table too, with the reason for which its config is refused.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
import yaml
from websockets.asyncio.client import connect

from gateway.message import Many
from gateway.plan import plan
from gateway.source import ConfigError
from tests.contract.schema import methods
from tests.system.client import curl
from tests.system.conftest import LOGS, forget
from tests.system.process import ROOT, Gateway

LINE, RECEIPT, EVENT, WATCH = "test.v1.Line", "polygate.v1.Receipt", "polygate.v1.Event", "shop.v1.WatchOrders"


@dataclass(frozen=True)
class Target:
    """One column: where a route leads, and what one message `{"text": "a"}` is answered with."""

    to: dict[str, Any]
    many: Many = Many.NEITHER
    request: str = LINE
    reply: str = LINE
    answers: int = 1


TARGETS = {
    "StubOne": Target({"backend": "stub", "call": "echo"}),
    "StubReplies": Target({"backend": "stub", "call": "twice"}, Many.REPLIES, answers=2),
    "StubRequests": Target({"backend": "stub", "call": "echo"}, Many.REQUESTS),
    "StubBoth": Target({"backend": "stub", "call": "echo"}, Many.BOTH),
    "GrpcOne": Target({"backend": "peer", "call": "test.v1.GrpcOne/Run"}),
    "GrpcReplies": Target({"backend": "peer", "call": "test.v1.GrpcReplies/Run"}, Many.REPLIES, answers=2),
    "GrpcRequests": Target({"backend": "peer", "call": "test.v1.GrpcRequests/Run"}, Many.REQUESTS),
    "GrpcBoth": Target({"backend": "peer", "call": "test.v1.GrpcBoth/Run"}, Many.BOTH),
    "HttpOne": Target({"backend": "web", "call": "POST /one"}),
    "HttpSse": Target({"backend": "web", "call": "POST /sse", "stream": "sse"}, Many.REPLIES, answers=2),
    "HttpNdjson": Target({"backend": "web", "call": "POST /ndjson", "stream": "ndjson"}, Many.REPLIES, answers=2),
    "Publish": Target({"backend": "log", "publish": "published"}, reply=RECEIPT),
    "Ask": Target({"backend": "log", "ask": "asked", "reply_to": "answered"}),
    "Tail": Target({"backend": "log", "tail": "tailed"}, Many.REPLIES, WATCH, EVENT),
}
LISTENERS = ("rest", "grpc", "websocket", "topic")
REFUSED = {
    **{
        ("topic", name): "the target streams replies, and a topic caller of this route gets one"
        for name, target in TARGETS.items()
        if target.many & Many.REPLIES
    },
}
PAIRS = [(listener, name) for listener in LISTENERS for name in TARGETS]
CONTRACTS = methods(
    (ROOT / "protos/shop.binpb").read_bytes(), **{name: (one.request, one.reply, one.many) for name, one in TARGETS.items()}
)


def when(listener: str, name: str) -> dict[str, str]:
    calls = {"rest": f"POST /{name}", "grpc": f"test.v1.{name}/Run", "websocket": f"/{name}", "topic": f"in.{name}"}
    if name == "Tail":
        calls["rest"] = "GET /Tail"
    return {listener: calls[listener]}


def route(listener: str, name: str) -> dict[str, Any]:
    target = TARGETS[name]
    return {"name": f"{name}-{listener}", "when": when(listener, name), "contract": f"test.v1.{name}/Run", "to": target.to}


def config(log: dict[str, Any], peer: str, web: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    consumed = [f"in.{name}" for listener, name in pairs if listener == "topic"]
    bind = {"bind": "127.0.0.1:0"}
    return {
        "contracts": ["methods.binpb"],
        "listeners": {
            **{kind: {"kind": kind, **bind} for kind in ("rest", "grpc", "websocket")},
            "topic": {
                "kind": "topic",
                "backend": "log",
                "topics": [*consumed, "asked"],
                "group": "pairs",
                "reply_to": ["replies", "answered"],
            },
        },
        "backends": {
            "log": log,
            "peer": {"kind": "grpc", "address": peer},
            "web": {"kind": "http", "url": web},
            "stub": {"kind": "stub", "answers": {"echo": {"echo": True}, "twice": {"echo": True, "repeat": 2}}},
        },
        "routes": [
            *(route(listener, name) for listener, name in pairs),
            # How a record gets to a topic with a reply topic in its headers: by being a question.
            *(
                {
                    "name": f"to-{name}",
                    "when": {"rest": f"POST /in/{name}"},
                    "to": {"backend": "log", "ask": f"in.{name}", "reply_to": "replies"},
                }
                for listener, name in pairs
                if listener == "topic"
            ),
            {"name": "answer", "when": {"topic": "asked"}, "to": {"backend": "stub", "call": "echo"}},
            {"name": "to-tail", "when": {"rest": "POST /to-tail"}, "to": {"backend": "log", "publish": "tailed"}},
        ],
    }


@contextmanager
def grpc_peer() -> Iterator[str]:
    """A gRPC server that answers in the four ways, in threads of its own."""
    forms: dict[str, Any] = {
        "GrpcOne": grpc.unary_unary_rpc_method_handler(lambda body, _: body),
        "GrpcReplies": grpc.unary_stream_rpc_method_handler(lambda body, _: iter([body, body])),
        "GrpcRequests": grpc.stream_unary_rpc_method_handler(lambda bodies, _: list(bodies)[-1]),
        "GrpcBoth": grpc.stream_stream_rpc_method_handler(lambda bodies, _: bodies),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(f"test.v1.{name}", {"Run": form}) for name, form in forms.items()]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


class Web(BaseHTTPRequestHandler):
    """Answers a JSON body with itself: once, or twice as a stream."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind, whole = {
            "/one": ("application/json", body),
            "/sse": ("text/event-stream", b"data: " + body + b"\n\ndata: " + body + b"\n\n"),
            "/ndjson": ("application/x-ndjson", body + b"\n" + body + b"\n"),
        }[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def web_peer() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.fixture(scope="module", params=LOGS)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("pairs")
    (folder / "methods.binpb").write_bytes(CONTRACTS)
    pairs = [pair for pair in PAIRS if pair not in REFUSED]
    with grpc_peer() as peer, web_peer() as web:
        if request.param == "local":
            text = yaml.safe_dump(config({"kind": "local", "path": ":memory:"}, peer, web, pairs), sort_keys=False)
            with Gateway(text, folder) as running:
                yield running
            return
        # Topics and a group of this run's own.
        kafka, mark = request.getfixturevalue("kafka"), uuid4().hex[:8]
        made = config({"kind": "kafka", "bootstrap": kafka, "create": {}}, peer, web, pairs)
        made["listeners"]["topic"]["group"] = f"pairs-{mark}"
        names = {*made["listeners"]["topic"]["topics"], "replies", "answered", "published", "tailed"}
        topics = {name: f"{name}-{mark}" for name in names}
        try:
            with Gateway(yaml.safe_dump(renamed(made, topics), sort_keys=False), folder) as running:
                yield running
        finally:
            forget(kafka, *topics.values())


def renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [renamed(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


Values = list[dict[str, Any]]


async def by_rest(gateway: Gateway, name: str, sent: Values) -> Values:
    if name == "Tail":
        return (await curl(f"http://{gateway.addresses['rest']}/Tail?start=earliest&limit=1")).lines
    # A stream is an array by this Accept, one message itself.
    body = sent if TARGETS[name].many & Many.REQUESTS else sent[0]
    answer = await curl(f"http://{gateway.addresses['rest']}/{name}", "--json", json.dumps(body))
    assert answer.status in {200, 201}, answer
    return answer.json if TARGETS[name].many & Many.REPLIES else [answer.json]


async def by_websocket(gateway: Gateway, name: str, sent: Values) -> Values:
    if TARGETS[name].many is Many.REQUESTS:
        # Only an envelope can say that there are no more.
        async with connect(f"ws://{gateway.addresses['websocket']}/{name}", subprotocols=["polygate.v1"]) as socket:
            for frame in (*({"message": value} for value in sent), {"end": True}):
                await socket.send(json.dumps(frame))
            return [frame["message"] for frame in [json.loads(text) async for text in socket] if "message" in frame]
    query = "?start=earliest&limit=1" if name == "Tail" else ""
    async with connect(f"ws://{gateway.addresses['websocket']}/{name}{query}") as socket:
        for value in [] if name == "Tail" else sent:
            await socket.send(json.dumps(value))
        count = TARGETS[name].answers * (1 if TARGETS[name].many is Many.REPLIES else len(sent))
        return [json.loads(await socket.recv()) for _ in range(count)]


async def by_grpc(gateway: Gateway, name: str, sent: Values) -> Values:
    from google.protobuf import descriptor_pb2, json_format, message_factory
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(CONTRACTS).file:
        pool.Add(file)
    target = TARGETS[name]
    ask, answer = (message_factory.GetMessageClass(pool.FindMessageTypeByName(one)) for one in (target.request, target.reply))
    requests = [ask(start="earliest", limit=1)] if name == "Tail" else [ask(**value) for value in sent]
    async with grpc.aio.insecure_channel(gateway.addresses["grpc"]) as channel:
        kind = f"{'stream' if target.many & Many.REQUESTS else 'unary'}_{'stream' if target.many & Many.REPLIES else 'unary'}"
        call = getattr(channel, kind)(
            f"/test.v1.{name}/Run", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString
        )(iter(requests) if target.many & Many.REQUESTS else requests[0], timeout=20)
        replies = [one async for one in call] if target.many & Many.REPLIES else [await call]
    return [json_format.MessageToDict(one, always_print_fields_with_no_presence=True) for one in replies]


async def by_topic(gateway: Gateway, name: str, sent: Values) -> Values:
    answer = await curl(f"http://{gateway.addresses['rest']}/in/{name}", "--json", json.dumps(sent[0]))
    assert 200 == answer.status, answer
    return [answer.json]


CALLERS: dict[str, Callable[[Gateway, str, Values], Any]] = {
    "rest": by_rest,
    "websocket": by_websocket,
    "grpc": by_grpc,
    "topic": by_topic,
}


@pytest.mark.parametrize(("listener", "name"), [pair for pair in PAIRS if pair not in REFUSED])
async def test_the_pair_works(gateway: Gateway, listener: str, name: str) -> None:
    target = TARGETS[name]
    # Over a wire that can, two messages where the target takes many; one where it takes one.
    several = listener != "topic" and target.many & Many.REQUESTS
    sent = [{"text": "a"}, {"text": "b"}] if several else [{"text": "a"}]
    if name == "Tail":
        assert 201 == (await curl(f"http://{gateway.addresses['rest']}/to-tail", "--json", '{"text": "a"}')).status
    got = await CALLERS[listener](gateway, name, sent)
    if name == "Publish":
        assert ["published"] == [answer["topic"].partition("-")[0] for answer in got]
    elif name == "Tail":
        (event,) = got
        # gRPC has its event's body in bytes, REST the bare body.
        body = event.get("body", event)
        assert body in ({"text": "a"}, "eyJ0ZXh0IjogImEifQ==")
    elif target.many is Many.REQUESTS:
        assert sent[-1:] == got
    elif target.many is Many.REPLIES:
        assert sent * target.answers == got
    else:
        assert sent == got


@pytest.mark.parametrize(("listener", "name"), list(REFUSED))
def test_the_pair_is_refused_when_the_config_is_loaded(tmp_path: Path, listener: str, name: str) -> None:
    (tmp_path / "methods.binpb").write_bytes(CONTRACTS)
    file = tmp_path / "gateway.yaml"
    log = {"kind": "local", "path": ":memory:"}
    file.write_text(yaml.safe_dump(config(log, "127.0.0.1:1", "http://127.0.0.1:1", [(listener, name)]), sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        plan(file, {})
    assert REFUSED[listener, name] in str(caught.value)
    assert "gateway.yaml:" in str(caught.value)


def test_no_pair_is_left_out() -> None:
    assert len(LISTENERS) * len(TARGETS) == len(PAIRS)
    assert set(REFUSED) < set(PAIRS)
