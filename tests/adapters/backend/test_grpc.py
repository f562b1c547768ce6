"""The gRPC backend, against grpcio's own server over loopback, and against peers that speak HTTP/2 badly."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from adapters.backend.grpc import CallTo, Config
from gateway.codec import Contract
from gateway.errors import BackendError, GatewayError, Reason, RpcStatus
from gateway.exchange import Call, Memory, new_id
from gateway.message import PROTOBUF, Headers, Many, Message
from gateway.status import reason_of_code
from gateway.target import Target
from tests.contract.backend import CallContract, Rig
from tests.kafka_broker import free_port

Behaviour = Callable[[Any, Any], Any]


class Peer(grpc.GenericRpcHandler):
    """A gRPC server whose methods are raw coroutines, by name."""

    def __init__(self, methods: dict[str, Behaviour]) -> None:
        self.methods = methods
        self.metadata: list[dict[str, str | bytes]] = []
        self.address = ""

    def service(self, details):
        self.metadata.append(dict(details.invocation_metadata))
        behaviour = self.methods.get(details.method.rpartition("/")[2])
        return behaviour and grpc.stream_stream_rpc_method_handler(behaviour)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def backend(self, **settings: object) -> Config:
        return Config.model_validate({"kind": "grpc", "address": self.address, **settings})


def target(method: str, many: Many = Many.NEITHER, **settings: object) -> Target:
    contract = Contract(f"shop.v1.Test/{method}", None, None, many)
    spec = CallTo.model_validate({"backend": "peer", "call": contract.name})
    return Target("route", spec, contract, PROTOBUF, **settings)


async def echo(_requests, context):
    while (body := await context.read()) is not grpc.aio.EOF:
        await context.write(b"<" + body + b">")


async def three(_requests, context):
    await context.read()
    for number in range(3):
        await context.write(b"%d" % number)


async def fail(_requests, context):
    await context.read()
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such sku")


async def empty(_requests, context):
    """OK without a message: nonsense for a unary method."""
    await context.read()


class TestContract(CallContract):
    @pytest.fixture
    async def rig(self):
        arrived, left = asyncio.Event(), asyncio.Event()

        async def hang(_requests, context):
            await context.read()
            arrived.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                left.set()

        peer = Peer({"Echo": echo, "Three": three, "Fail": fail, "Hang": hang, "Empty": empty})
        async with peer.serving():
            yield Rig(
                backend=peer.backend(),
                answers=target("Echo"),
                request=Message(b"hi", PROTOBUF),
                reply=Message(b"<hi>", PROTOBUF),
                fails=target("Fail"),
                fails_as=Reason.BACKEND_NOT_FOUND,
                hangs=target("Hang"),
                arrived=arrived,
                left=left,
                nonsense=target("Empty"),
                streams=target("Three", Many.REPLIES),
                stream=tuple(Message(b"%d" % number, PROTOBUF) for number in range(3)),
                talks=target("Echo", Many.BOTH),
                away=Config(kind="grpc", address=f"127.0.0.1:{free_port()}"),
            )


# What goes to the peer and comes back


def call(*headers: tuple[str, str], many: Many = Many.NEITHER, seconds: float | None = 20, own: float | None = None) -> Call:
    """`seconds` as the gateway allows, `own` as the caller has said."""
    now = asyncio.get_running_loop().time()
    deadline = None if seconds is None else now + (own or seconds)
    expires = None if own is None else now + own
    return Call(new_id(), "rest", "POST /x", Headers(headers), many=many, deadline=deadline, expires=expires)


@asynccontextmanager
async def calling(*, many: Many = Many.NEITHER, safe: bool = False, **methods: Behaviour) -> AsyncIterator[tuple[Peer, Any]]:
    """A peer, and a handler bound to its one method."""
    peer = Peer({"Get": methods.pop("get")})
    async with peer.serving(), peer.backend(**methods).build() as backend:
        yield peer, backend.handler(target("Get", many, safe=safe))


async def fails(handler: Any, exchange: Memory) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await handler(exchange)
    return caught.value


async def test_headers_go_on_as_metadata_less_what_is_the_callers_own():
    async with calling(get=echo, metadata={"Authorization": "Bearer ours"}) as (peer, handler):
        sent = call(
            ("x-tenant", "7"),
            ("traceparent", "00-1"),
            ("authorization", "theirs"),
            ("cookie", "secret"),
            ("connection", "close"),
            ("x-request-id", "theirs"),
            ("accept-encoding", "br"),
        )
        await handler(Memory(Message(b"", PROTOBUF), call=sent))
    [got] = peer.metadata
    assert ("7", "00-1", "Bearer ours") == (got["x-tenant"], got["traceparent"], got["authorization"])
    assert sent.id == got["x-request-id"]
    assert not {"cookie", "connection"} & got.keys()


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES])
async def test_the_peers_metadata_is_what_the_call_is_accepted_with(many):
    async def get(_requests, context):
        await context.read()
        await context.send_initial_metadata((("x-shelf", "3"), ("x-request-id", "theirs")))
        await context.write(b"1")

    async with calling(get=get, many=many) as (_, handler):
        memory = Memory(Message(b"", PROTOBUF), call=call(many=many))
        await handler(memory)
    assert memory.headers is not None
    assert memory.headers.get("x-shelf") == "3"
    assert memory.headers.get("x-request-id") is None


async def test_the_peer_is_told_of_the_callers_own_timeout_and_of_no_other():
    left = []

    async def get(_requests, context):
        left.append(context.time_remaining())
        await echo(_requests, context)

    async with calling(get=get) as (_, handler):
        await handler(Memory(Message(b"", PROTOBUF), call=call(own=5)))
        await handler(Memory(Message(b"", PROTOBUF), call=call(seconds=5)))
    assert 4 < left[0] < 5
    assert left[1] is None


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REQUESTS, Many.REPLIES, Many.BOTH])
async def test_the_peers_trailing_metadata_goes_with_the_end_and_its_initial_with_the_yes(many):
    async def get(_requests, context):
        await context.read()
        await context.send_initial_metadata((("x-shelf", "3"), ("x-shelf", "4")))
        context.set_trailing_metadata((("x-left", "1"), ("x-left", "2"), ("x-request-id", "theirs")))
        await context.write(b"1")

    async with calling(get=get, many=many) as (_, handler):
        memory = Memory(Message(b"", PROTOBUF), call=call(many=many))
        await handler(memory)
    assert ("3", "4") == memory.headers.all("x-shelf")
    assert (("x-left", "1"), ("x-left", "2")) == memory.trailers


async def test_a_stream_without_a_reply_is_accepted_with_the_peers_metadata():
    async def get(_requests, context):
        await context.read()
        await context.send_initial_metadata((("x-shelf", "3"),))

    async with calling(get=get, many=Many.REPLIES) as (_, handler):
        memory = Memory(Message(b"", PROTOBUF), call=call(many=Many.REPLIES))
        await handler(memory)
    assert "3" == memory.headers.get("x-shelf")
    assert [] == memory.replies


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES])
async def test_the_callers_own_timeout_is_a_status_without_details(many):
    async def get(_requests, context):
        await context.read()
        await asyncio.Event().wait()

    async with calling(get=get, many=many) as (_, handler):
        error = await fails(handler, Memory(Message(b"", PROTOBUF), call=call(many=many, own=0.2)))
    assert Reason.UNKNOWN_OUTCOME is error.reason
    assert [RpcStatus(error.message)] == list(error.details)


async def test_the_peers_status_comes_with_its_message_details_and_trailers():
    async def get(_requests, context):
        await context.read()
        trailers = (("grpc-status-details-bin", b"\x08\x09"), ("x-shelf", "3"))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no tea", trailers)

    async with calling(get=get) as (_, handler):
        error = await fails(handler, Memory(Message(b"", PROTOBUF), call=call()))
    assert Reason.BACKEND_FAILED_PRECONDITION == error.reason
    [status] = error.details
    assert ("no tea", b"\x08\x09", "3") == (status.message, status.details, status.trailers.get("x-shelf"))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
@pytest.mark.parametrize("many", [Many.NEITHER, Many.BOTH])
async def test_every_code_of_the_peer_is_its_own_reason(code, many):
    async def get(_requests, context):
        await context.read()
        await context.abort(code, "theirs")

    async with calling(get=get, many=many) as (_, handler):
        memory = Memory(Message(b"", PROTOBUF), call=call(many=many))
        error = await fails(handler, memory)
    assert reason_of_code(code.value[0]) == error.reason
    assert error.message == "theirs"
    assert memory.headers is None


async def test_a_refusal_while_requests_still_come_is_the_peers_own():
    async def get(_requests, context):
        await context.read()
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "enough")

    async with calling(get=get, many=Many.BOTH) as (_, handler):
        exchange = Memory(*[Message(b"x" * 10_000, PROTOBUF)] * 2000, call=call(many=Many.BOTH))
        assert Reason.BACKEND_PERMISSION_DENIED == (await fails(handler, exchange)).reason


async def test_many_requests_get_their_one_reply():
    async def get(_requests, context):
        count = 0
        while await context.read() is not grpc.aio.EOF:
            count += 1
        await context.write(b"%d" % count)

    async with calling(get=get, many=Many.REQUESTS) as (_, handler):
        memory = Memory(*[Message(b"x", PROTOBUF)] * 7, call=call(many=Many.REQUESTS))
        await handler(memory)
    assert [b"7"] == [message.body for message in memory.replies]


@pytest.mark.parametrize("many", [Many.REQUESTS, Many.BOTH, Many.REPLIES])
async def test_a_stream_that_is_left_is_taken_from_the_peer(many):
    arrived, left = asyncio.Event(), asyncio.Event()

    async def get(_requests, context):
        await context.read()
        arrived.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            left.set()

    async with calling(get=get, many=many) as (_, handler), asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(handler(Memory(Message(b"", PROTOBUF), call=call(many=many, seconds=None))))
        await arrived.wait()
        running.cancel()
        await left.wait()


async def test_the_first_reply_of_a_stream_is_due_and_the_rest_is_not():
    go_on = asyncio.Event()

    async def get(_requests, context):
        await context.read()
        await context.write(b"1")
        await go_on.wait()
        await context.write(b"2")

    class Waiting(Memory):
        async def send(self, message):
            await super().send(message)
            if len(self.replies) == 1:
                asyncio.get_running_loop().call_later(0.4, go_on.set)

    async with calling(get=get, many=Many.REPLIES) as (_, handler):
        memory = Waiting(Message(b"", PROTOBUF), call=call(many=Many.REPLIES, seconds=0.3))
        await handler(memory)
    assert [b"1", b"2"] == [message.body for message in memory.replies]


async def test_a_stream_without_a_first_reply_in_time_is_unknown():
    async def get(_requests, context):
        await context.read()
        await asyncio.get_running_loop().create_future()

    async with calling(get=get, many=Many.REPLIES) as (_, handler):
        error = await fails(handler, Memory(Message(b"", PROTOBUF), call=call(many=Many.REPLIES, seconds=0.3)))
    assert Reason.UNKNOWN_OUTCOME == error.reason


async def test_a_deadline_that_is_over_already_sends_nothing():
    async with calling(get=echo) as (peer, handler):
        await handler(Memory(Message(b"", PROTOBUF), call=call()))
        error = await fails(handler, Memory(Message(b"", PROTOBUF), call=call(seconds=0)))
    assert Reason.TIMED_OUT == error.reason
    assert len(peer.metadata) == 1


@pytest.mark.slow
async def test_a_slow_caller_makes_the_peer_wait():
    stalled = asyncio.get_running_loop().create_future()

    async def get(_requests, context):
        await context.read()
        for number in range(4096):
            writing = asyncio.ensure_future(context.write(bytes(1 << 16)))  # noqa: TID251
            await asyncio.wait({writing}, timeout=1)
            if not writing.done():
                stalled.set_result(number)
                await writing
                return
        stalled.set_result(4096)

    class Slow(Memory):
        async def send(self, message):
            await stalled

    async with calling(get=get, many=Many.REPLIES) as (_, handler):
        await handler(Slow(Message(b"", PROTOBUF), call=call(many=Many.REPLIES)))
    # Each of 64 KiB: two that are read, one in the window, and what the peer itself holds.
    assert stalled.result() <= 8


async def test_a_peer_that_comes_back_is_called_again():
    peer = Peer({"Get": echo})
    port = free_port()
    config = Config(kind="grpc", address=f"127.0.0.1:{port}", connect_s=1)
    async with config.build() as backend, asyncio.timeout(20):
        handler = backend.handler(target("Get"))
        assert Reason.UNREACHABLE == (await fails(handler, Memory(Message(b"", PROTOBUF), call=call()))).reason
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((peer,))
        server.add_insecure_port(config.address)
        await server.start()
        while True:
            try:
                await backend.check()
                break
            except BackendError:
                await asyncio.sleep(0.05)
        memory = Memory(Message(b"", PROTOBUF), call=call())
        await handler(memory)
        await server.stop(None)
    assert [b"<>"] == [message.body for message in memory.replies]


async def test_a_peer_that_takes_connections_and_says_nothing_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        async with Config(kind="grpc", address=address, connect_s=0.3).build() as backend:
            error = await fails(backend.handler(target("Get")), Memory(Message(b"", PROTOBUF), call=call()))
    assert Reason.UNREACHABLE == error.reason


async def test_tls_knows_the_peer_by_its_certificate(certificate):
    chain, key = certificate
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Peer({"Get": echo}),))
    pair = (key.read_bytes(), chain.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], chain.read_bytes(), require_client_auth=True)
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    ours = {"ca": chain, "certificate": chain, "key": key}
    async with Config(kind="grpc", address=address, tls=ours).build() as backend:
        memory = Memory(Message(b"", PROTOBUF), call=call())
        await backend.handler(target("Get"))(memory)
    assert len(memory.replies) == 1
    async with Config(kind="grpc", address=address, tls={**ours, "server_name": "elsewhere"}, connect_s=1).build() as backend:
        with pytest.raises(BackendError):
            await backend.check()
    await server.stop(None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """One that is its own authority: the files of certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "tls.crt", folder / "tls.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return paths
