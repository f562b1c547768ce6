"""How an error stands in a gRPC answer: the code, the message, and `google.rpc` details in the trailers."""

from __future__ import annotations

import re
from typing import NamedTuple

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message as Proto
from google.rpc import error_details_pb2, status_pb2

from adapters.grpc.metadata import REQUEST_ID, Metadata, metadata_of
from gateway.errors import FieldError, GatewayError, RpcStatus
from gateway.status import TABLE, outcome_of, retry_after

DOMAIN = "polygate"
DETAILS = "grpc-status-details-bin"

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_INDEX = re.compile(r"\.(\d+)(?=\.|\Z)")


class Status(NamedTuple):
    """What ends a call."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def status_of(error: GatewayError, exchange_id: str) -> Status:
    """An error as gRPC says it. What a gRPC backend said itself goes out as it came."""
    code = CODES[TABLE[error.reason].code]
    said = next((detail for detail in error.details if isinstance(detail, RpcStatus)), None)
    if said is None:
        return Status(code, error.message, ((REQUEST_ID, exchange_id), (DETAILS, _details(error, exchange_id))))
    own: Metadata = ((DETAILS, said.details),) if said.details else ()
    theirs = metadata_of(said.trailers.without(REQUEST_ID))
    return Status(code, said.message, ((REQUEST_ID, exchange_id), *own, *theirs))


def _details(error: GatewayError, exchange_id: str) -> bytes:
    """A google.rpc.Status: ErrorInfo always, BadRequest and RetryInfo where there is something to say (AIP-193)."""
    row = TABLE[error.reason]
    details: list[Proto] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason.value,
            domain=DOMAIN,
            metadata={"retryable": str(row.retryable).lower(), "outcome": outcome_of(error).value, "id": exchange_id},
        )
    ]
    fields = [detail for detail in error.details if isinstance(detail, FieldError)]
    if fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=_path(one.pointer), description=one.detail) for one in fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    seconds = retry_after(error)
    if seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status: Proto = status_pb2.Status(code=row.code, message=error.message, details=[_any(detail) for detail in details])
    return status.SerializeToString()


def _any(detail: Proto) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _path(pointer: str) -> str:
    """`/items/0/sku` as `items[0].sku`, which is how a FieldViolation names a field."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/")]
    return _INDEX.sub(r"[\1]", ".".join(parts))
