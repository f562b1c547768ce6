"""Errors as gRPC says them."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from gateway.errors import CallerError, FieldError, GatewayError, Reason, RetryAfter, RpcStatus
from gateway.message import Headers
from tests.adapters.ingress.grpc_driver import PATH, GrpcDriver
from tests.contract.driver import serving


async def refused(driver: GrpcDriver, error: GatewayError) -> grpc.aio.AioRpcError:
    async def handler(_exchange):
        raise error

    async with driver.listening(serving(handler)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await driver.channel.unary_unary(PATH)(b"")
    return caught.value


def details_of(error: grpc.aio.AioRpcError) -> list[object]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    kinds = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    }
    found = []
    for packed in status.details:
        detail = kinds[packed.TypeName()]()
        packed.Unpack(detail)
        found.append(detail)
    return found


async def test_an_error_carries_its_reason_and_what_a_retry_may_do():
    error = await refused(GrpcDriver(), GatewayError(Reason.RATE_LIMITED, "slower", details=(RetryAfter(2.5),)))
    info, retry = details_of(error)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is error.code()
    assert error.details() == "slower"
    assert (info.reason, info.domain) == ("rate_limited", "polygate")
    assert (info.metadata["retryable"], info.metadata["outcome"]) == ("true", "failed")
    assert info.metadata["id"] == dict(error.trailing_metadata())["x-request-id"]
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (2, 500_000_000)


async def test_wrong_fields_are_told_by_their_paths():
    wrong = (FieldError("/items/0/sku", "is missing"), FieldError("", "is empty"))
    error = await refused(GrpcDriver(), CallerError(Reason.INVALID, "no", details=wrong))
    _, bad = details_of(error)
    assert [("items[0].sku", "is missing"), ("", "is empty")] == [(one.field, one.description) for one in bad.field_violations]


async def test_the_status_of_a_grpc_backend_goes_through_as_it_is():
    raw = status_pb2.Status(code=5, message="theirs").SerializeToString()
    said = RpcStatus("no such tea", raw, Headers((("x-shelf", "3"), ("x-request-id", "theirs"))))
    error = await refused(GrpcDriver(), GatewayError(Reason.BACKEND_NOT_FOUND, "other", details=(said,)))
    trailers = dict(error.trailing_metadata())
    assert (grpc.StatusCode.NOT_FOUND, "no such tea") == (error.code(), error.details())
    assert (raw, "3") == (trailers["grpc-status-details-bin"], trailers["x-shelf"])
    assert trailers["x-request-id"] != "theirs"
