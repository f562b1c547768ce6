"""Health and reflection, over loopback."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from gateway.codec import Contract, Contracts
from gateway.errors import CallerError, Reason
from gateway.listener import View
from gateway.message import PROTOBUF, Many, Message
from gateway.route import Endpoint, Found
from tests.adapters.ingress.grpc_driver import GrpcDriver
from tests.contract.driver import missing


async def answer_ok(exchange):
    await exchange.receive()
    await exchange.send(Message(b"ok", PROTOBUF))


@pytest.mark.slow
async def test_health_follows_the_gateways_readiness():
    driver = GrpcDriver()
    view = missing(CallerError(Reason.NO_METHOD, "no route"))
    async with driver.listening(view):
        stub = health_pb2_grpc.HealthStub(driver.channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        view.ready = False
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_the_health_of_an_unknown_service_is_not_found():
    driver = GrpcDriver()
    async with driver.listening(missing(CallerError(Reason.NO_METHOD, "no route"))):
        stub = health_pb2_grpc.HealthStub(driver.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert grpc.StatusCode.NOT_FOUND is caught.value.code()
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="no.Such"))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_services_that_are_off_are_misses():
    driver = GrpcDriver(health=False)
    async with driver.listening(missing(CallerError(Reason.NO_METHOD, "no route"))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(driver.channel).Check(health_pb2.HealthCheckRequest())
    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
    assert "no_method" == dict(caught.value.trailing_metadata())["x-reason"]


def shop() -> Contracts:
    """Two services with one method each, of which only one has a route."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop.v1", syntax="proto3")
    file.message_type.add(name="Thing")
    for name in ("Stock", "Hidden"):
        service = file.service.add(name=name)
        service.method.add(name="Get", input_type=".shop.v1.Thing", output_type=".shop.v1.Thing")
    serialized = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    names = ("shop.v1.Stock/Get", "shop.v1.Hidden/Get")
    # Two sets may hold the same file.
    return Contracts({name: Contract(name, None, None, Many.NEITHER) for name in names}, (serialized, serialized))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_services_that_have_a_route(version):
    miss = missing(CallerError(Reason.NO_METHOD, "no route"))

    def find(protocol, target, *_more):
        return Found(Endpoint("stock", answer_ok)) if target == "/shop.v1.Stock/Get" else miss.find(protocol, target)

    driver = GrpcDriver()
    async with driver.listening(View(find=find, contracts=shop())):
        call = driver.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        assert "shop.v1.Stock" in names
        assert "shop.v1.Hidden" not in names
        assert "grpc.health.v1.Health" in names
        for symbol in ("shop.v1.Stock", "shop.v1.Thing", "grpc.health.v1.Health"):
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_reflection_of_no_request_at_all_is_malformed():
    driver = GrpcDriver()
    async with driver.listening(missing(CallerError(Reason.NO_METHOD, "no route"))):
        call = driver.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
