"""Cursors that hold across wires, gateways and restarts; gaps, slow callers and acknowledgements as each wire tells them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.system.client import curl, streaming
from tests.system.conftest import LOGS, forget
from tests.system.process import ROOT, Gateway
from tests.system.test_outages import details

NDJSON, SSE, ARRAY = (("-H", f"Accept: {kind}") for kind in ("application/x-ndjson", "text/event-stream", "application/json"))
PATIENCE_S = 20
PROTO = """
syntax = "proto3";
package feed.v1;
import "polygate/v1/polygate.proto";
service Feed {
  rpc Follow(stream polygate.v1.Follow) returns (stream polygate.v1.Event);
  rpc Mine(stream polygate.v1.Follow) returns (stream polygate.v1.Event);
  rpc Hasty(stream polygate.v1.Follow) returns (stream polygate.v1.Event);
}
"""
CONFIG = """
contracts: [feed.binpb]
{state}
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
backends:
  events: {events}
routes:
  - {{name: write, when: {{rest: "POST /{{topic}}"}}, to: {{backend: events, publish: "{{topic}}"}}}}
  - name: feed
    when: {{rest: "GET /feed", grpc: feed.v1.Feed/Follow, websocket: /feed}}
    to: {{backend: events, tail: {topic}, on_gap: tell}}
  - name: mine
    when: {{grpc: feed.v1.Feed/Mine, websocket: /mine}}
    to: {{backend: events, tail: {topic}, start: earliest, on_gap: tell, subscribers: {{name: "{{subscriber}}"}}}}
  - name: named
    when: {{websocket: "/named/{{subscriber}}"}}
    to: {{backend: events, tail: {topic}, start: earliest, on_gap: tell, subscribers: {{name: "{{subscriber}}"}}}}
  - name: strict
    when: {{rest: GET /strict, websocket: /strict}}
    to: {{backend: events, tail: {topic}}}
  - name: hasty
    when: {{rest: GET /hasty, grpc: feed.v1.Feed/Hasty, websocket: /hasty}}
    to: {{backend: events, tail: {topic}, slow: disconnect, behind: {{records: 50}}}}
"""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("proto")
    (folder / "feed.proto").write_text(PROTO)
    roots = [folder, ROOT / "protos", Path(protoc.__file__).parent / "_proto"]
    words = [f"--proto_path={root}" for root in roots]
    assert 0 == protoc.main(["protoc", *words, "--include_imports", f"--descriptor_set_out={folder}/set", f"{folder}/feed.proto"])
    return (folder / "set").read_bytes()


class Rpc:
    """The bidirectional methods, over one connection."""

    def __init__(self, channel: grpc.aio.Channel, contract: bytes) -> None:
        pool = DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(contract).file:
            pool.Add(file)
        self._channel = channel
        self.follow = message_factory.GetMessageClass(pool.FindMessageTypeByName("polygate.v1.Follow"))
        self._event = message_factory.GetMessageClass(pool.FindMessageTypeByName("polygate.v1.Event"))

    async def call(self, method: str, **fields: Any) -> Any:
        encode, decode = self.follow.SerializeToString, self._event.FromString
        call = self._channel.stream_stream(f"/feed.v1.Feed/{method}", request_serializer=encode, response_deserializer=decode)()
        await call.write(self.follow(**fields))
        return call


@asynccontextmanager
async def rpc(gateway: Gateway, contract: bytes) -> AsyncIterator[Rpc]:
    async with grpc.aio.insecure_channel(gateway.addresses["rpc"], options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Rpc(channel, contract)


class Site:
    """A gateway, and what stands in its place afterwards: on Kafka a second one beside it, on `local` itself, killed and started
    again.
    """

    def __init__(self, config: str, topic: str, folder: Path, contract: bytes, *, beside: bool) -> None:
        self._config = config
        self.topic = topic
        self._folder = folder
        self.beside = beside
        self.contract = contract
        self.gateways: list[Gateway] = []
        self.one = self._start("one")

    def _start(self, name: str) -> Gateway:
        folder = self._folder / name if self.beside else self._folder
        folder.mkdir(exist_ok=True)
        (folder / "feed.binpb").write_bytes(self.contract)
        gateway = Gateway(self._config, folder)
        self.gateways.append(gateway)
        return gateway

    def other(self) -> Gateway:
        if not self.beside:
            self.one.kill()
        return self._start("other")


@pytest.fixture(params=LOGS)
def site(request: pytest.FixtureRequest, tmp_path: Path, contract: bytes) -> Iterator[Site]:
    kafka = request.param == "kafka"
    # Topics of its own: the broker may be somebody's.
    topic, kept = (f"{name}-{uuid4().hex[:12]}" for name in ("orders", "kept"))
    if kafka:
        bootstrap = request.getfixturevalue("kafka")
        events = f'{{kind: kafka, bootstrap: "{bootstrap}", create: {{}}}}'
        config = CONFIG.format(events=events, topic=topic, state=f"state: {{backend: events, topic: {kept}}}")
    else:
        config = CONFIG.format(events="{kind: local, path: log.db}", topic=topic, state="state: {path: state.db}")
    site = Site(config, topic, tmp_path, contract, beside=kafka)
    try:
        yield site
    finally:
        for gateway in site.gateways:
            gateway.kill()
        if kafka:
            forget(bootstrap, topic, kept)


async def write(gateway: Gateway, topic: str, *bodies: object) -> None:
    for body in bodies:
        answer = await curl(gateway.url("public", f"/{topic}"), "--json", json.dumps({"topic": topic, "n": body}))
        assert 201 == answer.status


async def events(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_S):
        return [json.loads(await socket.recv()) for _ in range(count)]


async def numbers(socket: ClientConnection, count: int) -> list[int]:
    return [event["body"]["n"] for event in await events(socket, count)]


async def test_a_cursor_of_any_wire_holds_on_every_wire_of_another_gateway_and_after_a_restart(site: Site) -> None:
    one, topic = site.one, site.topic
    await write(one, topic, 0, 1, 2)
    async with streaming(one.url("public", "/feed?start=earliest"), *SSE) as feed:
        cursors = {"sse": (await feed.event())["id"]}
    async with connect(one.url("live", "/feed?start=earliest")) as socket:
        cursors["websocket"] = (await events(socket, 1))[0]["cursor"]
    async with rpc(one, site.contract) as client:
        call = await client.call("Follow", start="earliest")
        cursors["grpc"] = (await call.read()).cursor
        call.cancel()
    other = site.other()
    async with rpc(other, site.contract) as client:
        for cursor in cursors.values():
            async with streaming(other.url("public", "/feed"), *SSE, "-H", f"Last-Event-ID: {cursor}") as feed:
                assert 1 == json.loads((await feed.event())["data"])["n"]
            lines = (await curl(other.url("public", f"/feed?start={cursor}&limit=2"), *NDJSON)).lines
            assert [1, 2] == [line["n"] for line in lines]
            assert [1, 2] == [one["n"] for one in (await curl(other.url("public", f"/feed?start={cursor}"), *ARRAY)).json]
            async with connect(other.url("live", f"/feed?start={cursor}")) as socket:
                assert [1, 2] == await numbers(socket, 2)
            call = await client.call("Follow", start=cursor)
            assert [1, 2] == [json.loads((await call.read()).body)["n"] for _ in range(2)]
            call.cancel()


async def test_what_a_subscriber_has_not_acknowledged_comes_again_on_another_wire_of_another_gateway(site: Site) -> None:
    one, topic = site.one, site.topic
    await write(one, topic, 0, 1, 2, 3)
    async with connect(one.url("live", "/mine?subscriber=ada")) as socket:
        sent = await events(socket, 4)
        await socket.send(json.dumps({"ack": sent[1]["cursor"]}))
        await socket.send(json.dumps({"credit": 5}))
    # The acknowledgement is stored a moment later; until then the earlier ones come again, which at least once allows.
    await settled(one)
    other = site.other()
    async with rpc(other, site.contract) as client:
        call = await client.call("Mine", subscriber="ada")
        got = [await call.read() for _ in range(2)]
        assert [2, 3] == [json.loads(event.body)["n"] for event in got]
        await call.write(client.follow(ack=got[-1].cursor))
        await settled(other)
        call.cancel()
    await write(other, topic, 4)
    async with connect(other.url("live", "/mine?subscriber=ada")) as socket:
        assert [4] == await numbers(socket, 1)


async def test_a_subscriber_that_the_path_names_gives_credit_and_acknowledges(site: Site) -> None:
    one, topic = site.one, site.topic
    await write(one, topic, 0, 1, 2, 3)
    async with connect(one.url("live", "/named/ada?credit=2")) as socket:
        sent = await events(socket, 2)
        await socket.send(json.dumps({"credit": 2}))
        sent += await events(socket, 2)
        await socket.send(json.dumps({"ack": sent[2]["cursor"]}))
        await settled(one, "named")
    async with connect(one.url("live", "/named/ada")) as socket:
        assert [sent[3]["cursor"]] == [event["cursor"] for event in await events(socket, 1)]


async def settled(gateway: Gateway, route: str = "mine") -> None:
    """Until an acknowledgement is stored."""
    stored = f'polygate_tail_acks_total{{route="{route}"}} 1'.encode()
    async with asyncio.timeout(PATIENCE_S):
        while stored not in (await curl(gateway.url("admin", "/metrics"))).body:  # noqa: ASYNC110  asked
            await asyncio.sleep(0.05)


async def test_a_new_connection_of_a_subscriber_takes_over_on_any_gateway(site: Site) -> None:
    async with connect(site.one.url("live", "/mine?subscriber=ada")) as first:
        other = site.other() if site.beside else site.one
        async with connect(other.url("live", "/mine?subscriber=ada")) as second:
            assert "taken_over" == (await events(first, 1))[0]["reason"]
            await first.wait_closed()
            assert 1008 == first.close_code
            await write(other, site.topic, 0)
            assert [0] == await numbers(second, 1)


async def test_credit_is_all_that_is_sent_on_a_websocket_and_over_grpc(site: Site) -> None:
    one = site.one
    await write(one, site.topic, 0, 1, 2)
    async with connect(one.url("live", "/feed?start=earliest&credit=1")) as socket:
        assert [0] == await numbers(socket, 1)
        await socket.send('{"credit": 2}')
        assert [1, 2] == await numbers(socket, 2)
    async with rpc(one, site.contract) as client:
        call = await client.call("Follow", start="earliest", credit=1)
        assert 0 == json.loads((await call.read()).body)["n"]
        await call.write(client.follow(credit=2))
        assert [1, 2] == [json.loads((await call.read()).body)["n"] for _ in range(2)]
        call.cancel()


async def test_an_enveloped_caller_asks_with_its_url_and_its_first_message_and_gives_credit(site: Site) -> None:
    one = site.one
    await write(one, site.topic, 0, 1, 2)
    url = one.url("live", "/strict?start=earliest")
    async with connect(url, subprotocols=[Subprotocol("polygate.v1")]) as socket:
        await socket.send('{"message": {"credit": 1}}')
        assert {"headers"} == json.loads(await socket.recv()).keys()
        assert 0 == json.loads(await socket.recv())["message"]["body"]["n"]
        await socket.send('{"message": {"credit": 2}}')
        assert [1, 2] == [json.loads(await socket.recv())["message"]["body"]["n"] for _ in range(2)]
        await socket.send('{"message": {"ack": "0:1"}}')
        assert "malformed" == json.loads(await socket.recv())["error"]["reason"]


async def test_what_a_websocket_cannot_say_to_a_tail_is_1007_with_the_cursor(site: Site) -> None:
    await write(site.one, site.topic, 0)
    async with connect(site.one.url("live", "/feed?start=earliest")) as socket:
        (event,) = await events(socket, 1)
        await socket.send('{"nonsense": 1}')
        (problem,) = await events(socket, 1)
        assert ("malformed", event["cursor"]) == (problem["reason"], problem["cursor"])
        await socket.wait_closed()
        assert (1007, f"Malformed request; cursor={event['cursor']}") == (socket.close_code, socket.close_reason)


async def test_a_time_is_a_start_on_every_wire(site: Site) -> None:
    one, topic = site.one, site.topic
    await write(one, topic, 0)
    await asyncio.sleep(0.01)
    await write(one, topic, 1, 2)
    async with connect(one.url("live", "/feed?start=earliest")) as socket:
        moment = (await events(socket, 2))[1]["timestamp"]
    lines = (await curl(one.url("public", f"/feed?start={moment}&limit=2"), *NDJSON)).lines
    assert [1, 2] == [line["n"] for line in lines]
    async with connect(one.url("live", f"/feed?start={moment}")) as socket:
        assert [1, 2] == await numbers(socket, 2)
    async with rpc(one, site.contract) as client:
        call = await client.call("Follow", start=moment)
        assert 1 == json.loads((await call.read()).body)["n"]
        call.cancel()


async def test_a_stop_tells_each_caller_where_to_go_on(site: Site) -> None:
    one = site.one
    await write(one, site.topic, 0)
    async with (
        connect(one.url("live", "/feed?start=earliest")) as socket,
        streaming(one.url("public", "/feed?start=earliest"), *NDJSON) as lines,
        streaming(one.url("public", "/feed?start=earliest"), *SSE) as stream,
        rpc(one, site.contract) as client,
    ):
        (event,) = await events(socket, 1)
        cursor = event["cursor"]
        await lines.value()
        await stream.event()
        call = await client.call("Follow", start="earliest")
        await call.read()
        one.terminate()
        assert cursor == (await lines.value())["error"]["cursor"]
        assert cursor == json.loads((await stream.event())["data"])["cursor"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert cursor == details(caught.value)["cursor"]
        await socket.wait_closed()
        assert (1012, f"restarting; cursor={cursor}") == (socket.close_code, socket.close_reason)


async def until_closed(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    """What comes, whatever code it is closed with."""
    with suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def let_go_of(gateway: Gateway) -> None:
    """Wait until the slow caller was: one that reads on before may catch up."""
    async with asyncio.timeout(PATIENCE_S):
        while not any('"route":"hasty"' in line for line in gateway.lines):  # noqa: ASYNC110  a log line wakes nobody
            await asyncio.sleep(0.01)


async def read_on(call: Any, got: list[str]) -> None:
    """Read events until the call ends, by the error that it ends with."""
    while True:
        got.append((await call.read()).cursor)


async def test_a_slow_caller_is_let_go_of_with_its_cursor(site: Site) -> None:
    one, topic = site.one, site.topic
    big = "x" * 100_000
    async with connect(one.url("live", "/hasty"), max_queue=1) as socket:
        await asyncio.sleep(0)
        await asyncio.gather(*(write(one, topic, f"{number}{big}") for number in range(130)))
        await let_go_of(one)
        async with asyncio.timeout(PATIENCE_S):
            got = [json.loads(frame) async for frame in until_closed(socket)]
    assert "slow_caller" == got[-1]["reason"]
    assert (1013, f"Too slow; cursor={got[-1]['cursor']}") == (socket.close_code, socket.close_reason)
    # What it has read is what the cursor says, and what comes after it is there.
    assert len(got) - 1 < 130
    rest = await curl(one.url("public", f"/strict?start={got[-1]['cursor']}"), *ARRAY)
    assert 130 <= len(got) - 1 + len(rest.json)


async def test_a_slow_caller_over_grpc_is_let_go_of_with_its_cursor(site: Site) -> None:
    one, topic = site.one, site.topic
    big = "x" * 100_000
    await write(one, topic, 0)
    async with rpc(one, site.contract) as client, asyncio.timeout(3 * PATIENCE_S):
        call = await client.call("Hasty", start="earliest")
        got = [(await call.read()).cursor]
        await asyncio.gather(*(write(one, topic, f"{number}{big}") for number in range(130)))
        await let_go_of(one)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_on(call, got)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    cursor = details(caught.value)["cursor"]
    # All that was sent whole has come, and what comes after the cursor is there.
    assert cursor in got
    rest = await curl(one.url("public", f"/strict?start={cursor}"), *ARRAY)
    assert 131 == got.index(cursor) + 1 + len(rest.json)


@pytest.fixture
def forgetful(tmp_path: Path, contract: bytes) -> Iterator[Gateway]:
    """A gateway whose topic keeps two records."""
    (tmp_path / "feed.binpb").write_bytes(contract)
    events = "{kind: local, path: log.db, retention: {records: 2}, retention_every: 0.05}"
    gateway = Gateway(CONFIG.format(events=events, topic="orders", state="state: {path: state.db}"), tmp_path)
    yield gateway
    gateway.kill()


async def overtaken(gateway: Gateway) -> str:
    """The cursor of an event whose next ones the topic no longer has."""
    await write(gateway, "orders", *range(6))
    async with asyncio.timeout(PATIENCE_S):
        # Retention goes in steps: until it has taken the last of those that are to go.
        while 422 != (await curl(gateway.url("public", "/strict?start=0:3&limit=1"), *NDJSON)).status:  # noqa: ASYNC110  asked
            await asyncio.sleep(0.05)
    return "0:1"


async def test_a_gap_is_an_event_of_its_own_on_every_wire(forgetful: Gateway, contract: bytes) -> None:
    start = await overtaken(forgetful)
    gap = {"from": "0:1", "to": "0:4", "reason": "retention", "records": 3}
    told = {"cursor": "0:4", "gap": gap}
    url = forgetful.url("public", f"/feed?start={start}")
    async with streaming(url, *SSE) as feed:
        event = await feed.event()
        assert ("gap", "0:4", gap) == (event["event"], event["id"], json.loads(event["data"]))
        assert 4 == json.loads((await feed.event())["data"])["n"]
    async with streaming(url, *NDJSON) as lines:
        assert told == await lines.value()
        assert 4 == (await lines.value())["n"]
    array = (await curl(url, *ARRAY)).json
    assert (told, [4, 5]) == (array[0], [one["n"] for one in array[1:]])
    async with connect(forgetful.url("live", f"/feed?start={start}")) as socket:
        assert [told] == await events(socket, 1)
        assert [4, 5] == await numbers(socket, 2)
    async with rpc(forgetful, contract) as client:
        call = await client.call("Follow", start=start)
        event = await call.read()
        assert ("0:4", "0:1", "0:4", "retention", 3) == (
            event.cursor,
            getattr(event.gap, "from"),
            event.gap.to,
            event.gap.reason,
            event.gap.records,
        )
        assert 4 == json.loads((await call.read()).body)["n"]
        call.cancel()


async def test_a_gap_is_refused_where_the_route_does_not_tell_it(forgetful: Gateway) -> None:
    start = await overtaken(forgetful)
    answer = await curl(forgetful.url("public", f"/strict?start={start}"), *SSE)
    assert (422, "invalid") == (answer.status, answer.json["reason"])


async def test_a_subscriber_whose_place_is_gone_goes_on_over_a_gap(forgetful: Gateway) -> None:
    await write(forgetful, "orders", 0)
    async with connect(forgetful.url("live", "/mine?subscriber=ada")) as socket:
        (event,) = await events(socket, 1)
        await socket.send(json.dumps({"ack": event["cursor"]}))
        await settled(forgetful)
    await overtaken(forgetful)
    async with connect(forgetful.url("live", "/mine?subscriber=ada")) as socket:
        (gap,) = await events(socket, 1)
        assert (event["cursor"], "retention") == (gap["gap"]["from"], gap["gap"]["reason"])
