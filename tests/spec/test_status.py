"""The spec's lines on status: what a gRPC backend's code is over HTTP and gRPC, and how its details survive."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tests.spec.talk import Line, Peer, served

# google/rpc/code.proto.
HTTP = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
DETAILS = "grpc-status-details-bin"


def failing(code: grpc.StatusCode, message: str = "as it was told", *details: any_pb2.Any) -> Peer:
    """A backend whose one method ends with a status."""

    async def one(context: Any) -> None:
        status = status_pb2.Status(code=code.value[0], message=message, details=details)
        await context.abort(code, message, ((DETAILS, status.SerializeToString()),) if details else ())

    peer = Peer()
    peer.methods["One"] = one
    return peer


async def over_rest(peer: Peer) -> tuple[int, dict[str, Any]]:
    async with (
        served(peer) as gateway,
        aiohttp.ClientSession() as session,
        session.post(f"http://{gateway.addresses['rest']}/one", json={"text": "hello"}) as answer,
    ):
        assert "application/problem+json" == answer.content_type
        return answer.status, json.loads(await answer.read())


async def over_grpc(peer: Peer) -> grpc.aio.AioRpcError:
    async with served(peer) as gateway, grpc.aio.insecure_channel(str(gateway.addresses["grpc"])) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/spec.v1.Talk/One")(Line(text="hello").SerializeToString(), timeout=10)
        return raised.value


def packed(message: Any) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail


@pytest.mark.parametrize("name", HTTP)
async def test_a_code_of_the_backend_is_the_http_status_of_code_proto(name):
    status, problem = await over_rest(failing(grpc.StatusCode[name]))
    assert (HTTP[name], name, "as it was told") == (status, problem["code"], problem["detail"])


def test_every_code_of_code_proto_is_told():
    assert {*HTTP, "OK"} == set(code_pb2.Code.keys())


async def test_a_code_of_the_backend_is_passed_through_over_grpc_with_its_message():
    error = await over_grpc(failing(grpc.StatusCode.FAILED_PRECONDITION, "ünfit 100%"))
    assert (grpc.StatusCode.FAILED_PRECONDITION, "ünfit 100%") == (error.code(), error.details())


async def test_status_details_survive_over_grpc_byte_by_byte():
    info = packed(error_details_pb2.ErrorInfo(reason="SOLD_OUT", domain="shop"))
    unknown = any_pb2.Any(type_url="type.googleapis.com/nobody.knows.This", value=b"\x08\x01")
    error = await over_grpc(failing(grpc.StatusCode.ABORTED, "no", info, unknown))
    sent = dict(error.trailing_metadata())[DETAILS]
    assert [info, unknown] == list(status_pb2.Status.FromString(sent).details)


async def test_a_detail_of_a_known_type_is_told_in_json_over_http():
    info = packed(error_details_pb2.ErrorInfo(reason="SOLD_OUT", domain="shop"))
    _, problem = await over_rest(failing(grpc.StatusCode.ABORTED, "no", info))
    assert {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SOLD_OUT", "domain": "shop"} in problem["details"]


async def test_a_detail_of_an_unknown_type_degrades_to_base64_and_never_ruins_the_error():
    unknown = any_pb2.Any(type_url="type.googleapis.com/nobody.knows.This", value=b"\x08\x01")
    status, problem = await over_rest(failing(grpc.StatusCode.ABORTED, "no", unknown))
    assert (409, "no") == (status, problem["detail"])
    assert [{"@type": "type.googleapis.com/nobody.knows.This", "value": "CAE="}] == problem["details"]


async def test_a_detail_that_is_broken_never_ruins_the_error():
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    status, problem = await over_rest(failing(grpc.StatusCode.ABORTED, "no", broken))
    assert (409, "no") == (status, problem["detail"])
