"""What callers are told, on all three wires, when what stands behind the gateway is away, hangs, or says no.

An outcome is never a lie: success, definite failure, or unknown. The Kafka that is paused and killed here is a real one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from websockets.asyncio.client import connect

from tests.kafka_broker import Broker
from tests.system.client import Rpc, curl, message, reason_of, rpc
from tests.system.conftest import ON_KAFKA, delete
from tests.system.process import ROOT, Gateway, on_free_ports

WIRES = ("rest", "grpc", "websocket")
DEADLINE_S = 2


class Told(NamedTuple):
    """What one caller was told; `status` is the wire's own."""

    status: object
    reason: str
    outcome: str
    retryable: bool = False


class Caller:
    """Asks one gateway over three connections that stay open, as callers do."""

    def __init__(self, gateway: Gateway, client: Rpc, sockets: dict[str, Any]) -> None:
        self.gateway = gateway
        self._client = client
        self._sockets = sockets

    async def rest(self, path: str, **fields: object) -> Told:
        answer = await curl(self.gateway.url("public", path), "--json", json.dumps(fields))
        if answer.status < 400:
            return Told(answer.status, "", "acknowledged")
        told = answer.json
        assert told["retryable"] == ("retry-after" in answer.headers) or answer.status == 504
        return Told(answer.status, told["reason"], told["outcome"], told["retryable"])

    async def grpc(self, method: str, **fields: object) -> Told:
        try:
            await self._client.call(method, **fields)
        except grpc.aio.AioRpcError as error:
            info = details(error)
            return Told(error.code(), reason_of(error), info["outcome"], info["retryable"] == "true")
        return Told(grpc.StatusCode.OK, "", "acknowledged")

    async def websocket(self, path: str, **fields: object) -> Told:
        await self._sockets[path].send(json.dumps(fields))
        told = json.loads(await self._sockets[path].recv())
        if "reason" not in told:
            return Told(200, "", "acknowledged")
        return Told(told["status"], told["reason"], told["outcome"], told["retryable"])

    async def order(self) -> dict[str, Told]:
        """One order on each wire at the same time."""
        who = f"ada-{uuid4().hex[:8]}"
        async with asyncio.TaskGroup() as group:
            by_rest = group.create_task(self.rest(f"/orders/{who}", sku="tea", quantity=2))
            by_grpc = group.create_task(self.grpc("shop.v1.Orders/Place", customer=who, sku="tea", quantity=2))
            by_socket = group.create_task(self.websocket("/orders", customer=who, sku="tea", quantity=2))
        return {"rest": by_rest.result(), "grpc": by_grpc.result(), "websocket": by_socket.result()}

    async def quote(self) -> dict[str, Told]:
        """One question on each wire at the same time."""
        async with asyncio.TaskGroup() as group:
            by_rest = group.create_task(self.rest("/quotes", sku="tea", quantity=2))
            by_grpc = group.create_task(self.grpc("shop.v1.Quotes/Ask", sku="tea", quantity=2))
            by_socket = group.create_task(self.websocket("/quotes", sku="tea", quantity=2))
        return {"rest": by_rest.result(), "grpc": by_grpc.result(), "websocket": by_socket.result()}

    async def until_acknowledged(self) -> None:
        """Order until it is taken again on every wire."""
        async with asyncio.timeout(45):
            while {told.outcome for told in (await self.order()).values()} != {"acknowledged"}:
                pass


def details(error: grpc.aio.AioRpcError) -> dict[str, str]:
    from google.rpc import error_details_pb2, status_pb2

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return dict(info.metadata)
    raise AssertionError(f"no ErrorInfo: {error}")


@asynccontextmanager
async def calling(gateway: Gateway, *paths: str) -> AsyncIterator[Caller]:
    sockets: dict[str, Any] = {}
    async with rpc(gateway.addresses["rpc"]) as client:
        try:
            for path in paths:
                sockets[path] = await connect(gateway.url("live", path))
            yield Caller(gateway, client, sockets)
        finally:
            for one in sockets.values():
                await one.close()


@contextmanager
def shop_on(bootstrap: str, folder: Path, *, create: bool = True, mark: str = "") -> Iterator[Gateway]:
    """The shop on a broker, with a short deadline so that hanging is soon told."""
    config = on_free_ports(ON_KAFKA.read_text())
    if not create:
        config = "\n".join(line for line in config.splitlines() if "create:" not in line)
    for topic in ("orders.placed", "quotes.asked", "quotes.answered"):
        config = config.replace(topic, f"{topic}{mark}")
    with Gateway(
        f"{config}\npolicies: [{{kind: deadline, seconds: {DEADLINE_S}}}]\n", folder, {"KAFKA_BOOTSTRAP": bootstrap}
    ) as gateway:
        yield gateway


UNKNOWN = {
    "rest": Told(504, "unknown_outcome", "unknown"),
    "grpc": Told(grpc.StatusCode.DEADLINE_EXCEEDED, "unknown_outcome", "unknown"),
    "websocket": Told(504, "unknown_outcome", "unknown"),
}
UNREACHABLE = {
    "rest": Told(503, "unreachable", "failed", retryable=True),
    "grpc": Told(grpc.StatusCode.UNAVAILABLE, "unreachable", "failed", retryable=True),
    "websocket": Told(503, "unreachable", "failed", retryable=True),
}
REFUSED = {
    "rest": Told(502, "refused", "failed"),
    "grpc": Told(grpc.StatusCode.FAILED_PRECONDITION, "refused", "failed"),
    "websocket": Told(502, "refused", "failed"),
}
TOO_LARGE = {
    "rest": Told(413, "too_large", "failed"),
    "grpc": Told(grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large", "failed"),
    "websocket": Told(413, "too_large", "failed"),
}


async def test_a_broker_that_hangs_is_504_for_what_had_gone_out_and_then_503_at_once_until_it_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    with shop_on(broker.bootstrap, tmp_path) as gateway:
        async with calling(gateway, "/orders", "/quotes", "/stock") as caller:
            await caller.until_acknowledged()
            broker.pause()
            told = await caller.order()
            # What waits behind a request that is not answered has not gone out, and never will: a definite failure.
            assert all(one in (UNKNOWN[wire], UNREACHABLE[wire]) for wire, one in told.items())
            assert "unknown" in {one.outcome for one in told.values()}
            assert UNREACHABLE == await caller.order()
            assert UNREACHABLE == await caller.quote()
            assert 503 == (await curl(gateway.url("public", "/orders?start=earliest"))).status
            # What needs no broker goes on, and the process is well.
            assert 200 == (await curl(gateway.url("public", "/stock/tea"))).status
            assert 200 == (await curl(gateway.url("admin", "/livez"))).status
            ready = await curl(gateway.url("admin", "/readyz"))
            assert (503, False, True) == (ready.status, *(ready.json["backends"][name]["ready"] for name in ("events", "stub")))
            assert ready.json["backends"]["events"]["reason"]
            broker.resume()
            await caller.until_acknowledged()
            assert 200 == (await curl(gateway.url("admin", "/readyz"))).status


async def test_a_broker_that_was_killed_is_503_and_what_it_had_acknowledged_is_there_when_it_is_back(
    broker: Broker, tmp_path: Path
) -> None:
    with shop_on(broker.bootstrap, tmp_path) as gateway:
        async with calling(gateway, "/orders", "/quotes") as caller:
            await caller.until_acknowledged()
            before = (await curl(gateway.url("public", "/orders"), "-H", "Accept: application/json")).json
            broker.kill()
            # Nothing tells it from a slow one in the first moment; then it is away.
            first = await caller.order()
            assert {told.outcome for told in first.values()} <= {"unknown", "failed"}
            assert UNREACHABLE == await caller.order()
            assert UNREACHABLE == await caller.quote()
            broker.start()
            await caller.until_acknowledged()
            after = (await curl(gateway.url("public", "/orders"), "-H", "Accept: application/json")).json
            assert before == after[: len(before)]
            asked = await caller.quote()
            while {told.outcome for told in asked.values()} != {"acknowledged"}:
                asked = await caller.quote()


async def test_a_gateway_starts_without_its_broker_and_serves_once_that_is_there(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    with shop_on(broker.bootstrap, tmp_path) as gateway:
        async with calling(gateway, "/orders") as caller:
            assert UNREACHABLE == await caller.order()
            assert 503 == (await curl(gateway.url("admin", "/readyz"))).status
            broker.start()
            await caller.until_acknowledged()


async def test_a_topic_that_is_not_there_is_refused_with_502(kafka: str, tmp_path: Path) -> None:
    with shop_on(kafka, tmp_path, create=False, mark=f"-{uuid4().hex[:8]}") as gateway:
        async with calling(gateway, "/orders", "/quotes") as caller:
            assert REFUSED == await caller.order()
            assert REFUSED == await caller.quote()
            answer = await curl(gateway.url("public", "/orders"))
            assert (502, "refused") == (answer.status, answer.json["reason"])
            assert REFUSED == await caller.order()


async def test_a_record_over_the_broker_s_limit_is_413_before_it_is_sent(kafka: str, tmp_path: Path) -> None:
    mark = f"-{uuid4().hex[:8]}"
    sku = "x" * 1_048_300  # under a listener's limit of 1 MiB, over Kafka's own
    try:
        with shop_on(kafka, tmp_path, mark=mark) as gateway:
            async with calling(gateway, "/orders") as caller:
                await caller.until_acknowledged()
                body = json.dumps({"sku": sku, "quantity": 2}).encode()
                answer = await curl(gateway.url("public", "/orders/ada"), "-H", "Content-Type: application/json", data=body)
                told = Told(answer.status, answer.json["reason"], answer.json["outcome"])
                assert TOO_LARGE["rest"] == told
                assert TOO_LARGE["grpc"] == await caller.grpc("shop.v1.Orders/Place", customer="ada", sku=sku, quantity=2)
                assert TOO_LARGE["websocket"] == await caller.websocket("/orders", customer="ada", sku=sku, quantity=2)
                await caller.until_acknowledged()
    finally:
        await delete(kafka, *(f"{topic}{mark}" for topic in ("orders.placed", "quotes.asked", "quotes.answered")))


# Synchronous backends


BEHIND = """
contracts: [{root}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
backends:
  web: {{kind: http, url: "http://{web}"}}
  peer: {{kind: grpc, address: "{peer}"}}
policies: [{{kind: deadline, seconds: 1}}]
routes:
  - name: quote
    when: {{rest: POST /web, grpc: shop.v1.Quotes/Ask, websocket: /web}}
    to: {{backend: web, call: POST /quotes}}
  - name: read
    when: {{rest: GET /web}}
    to: {{backend: web, call: GET /quotes}}
  - name: stock
    when: {{rest: POST /peer, grpc: shop.v1.Orders/Place, websocket: /peer}}
    contract: shop.v1.Quotes/Ask
    to: {{backend: peer, call: shop.v1.Quotes/Ask}}
"""


async def asked(gateway: Gateway, path: str, method: str) -> dict[str, Told]:
    """One question to a backend on each wire."""
    async with calling(gateway, path) as caller, asyncio.TaskGroup() as group:
        calls = {"rest": caller.rest(path, sku="tea", quantity=2), "websocket": caller.websocket(path, sku="tea", quantity=2)}
        if method:
            calls["grpc"] = caller.grpc(method, sku="tea", quantity=2)
        tasks = {wire: group.create_task(call) for wire, call in calls.items()}
    return {wire: task.result() for wire, task in tasks.items()}


def behind(web: str, peer: str) -> str:
    text = BEHIND.format(root=ROOT, web=web, peer=peer)
    # Its method goes by HTTP in this config; the gRPC backend is asked over the other two wires.
    return text.replace(", grpc: shop.v1.Orders/Place", "")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_backend_that_is_down_is_503_and_nothing_was_sent(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with Gateway(behind(nobody, nobody), tmp_path) as gateway:
        assert UNREACHABLE == await asked(gateway, "/web", "shop.v1.Quotes/Ask")
        expected = {wire: UNREACHABLE[wire] for wire in ("rest", "websocket")}
        assert expected == await asked(gateway, "/peer", "")


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and whatever comes, and never says a word."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            try:
                while True:
                    taken.append(listening.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


@contextmanager
def hanging() -> Iterator[str]:
    """A gRPC server whose method takes the request and never returns."""
    released = threading.Event()

    def wait(body: bytes, _context: object) -> bytes:
        released.wait()
        return body

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(wait)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.v1.Quotes", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        released.set()
        server.stop(0).wait()


@pytest.mark.slow
async def test_a_backend_that_hangs_is_504_unknown_unless_the_call_was_read_only(tmp_path: Path) -> None:
    with silent() as web, hanging() as peer, Gateway(behind(web, peer), tmp_path) as gateway:
        assert UNKNOWN == await asked(gateway, "/web", "shop.v1.Quotes/Ask")
        assert {wire: UNKNOWN[wire] for wire in ("rest", "websocket")} == await asked(gateway, "/peer", "")
        answer = await curl(gateway.url("public", "/web?sku=tea"))
        assert (504, "timed_out", "failed") == (answer.status, answer.json["reason"], answer.json["outcome"])


@pytest.mark.slow
async def test_a_grpc_backend_whose_port_says_nothing_is_503_for_nothing_was_sent(tmp_path: Path) -> None:
    with silent() as peer, Gateway(behind(peer, peer), tmp_path) as gateway:
        answers = await asked(gateway, "/peer", "")
        assert {"failed"} == {told.outcome for told in answers.values()}, answers


def test_the_wires_are_all_asked() -> None:
    assert set(WIRES) == UNKNOWN.keys() == UNREACHABLE.keys() == REFUSED.keys() == TOO_LARGE.keys()
    assert message("shop.v1.AskQuote", sku="tea", quantity=2)
