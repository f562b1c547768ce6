"""How an error stands in a gRPC answer: the code, the message, and `google.rpc` details in the trailers."""

from __future__ import annotations

from typing import NamedTuple

import grpc

from adapters.grpc.detail import DETAILS, message_of, reason_of, said, status_bytes
from adapters.grpc.metadata import REQUEST_ID, Metadata, metadata_of
from gateway.errors import GatewayError
from gateway.status import TABLE

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Status(NamedTuple):
    """What ends a call."""

    code: grpc.StatusCode
    message: str
    trailers: Metadata


def status_of(error: GatewayError, exchange_id: str) -> Status:
    """An error as gRPC says it. What a gRPC backend said itself goes out as it came."""
    details, theirs = status_bytes(error, exchange_id), said(error)
    own: Metadata = ((DETAILS, details),) if details else metadata_of(reason_of(error))
    trailers = metadata_of(theirs.trailers.without(REQUEST_ID)) if theirs is not None else ()
    return Status(CODES[TABLE[error.reason].code], message_of(error), ((REQUEST_ID, exchange_id), *own, *trailers))
