"""What a google.rpc.Status says beside code and message: ErrorInfo always, BadRequest and RetryInfo where there is something to
say (AIP-193). No grpcio here: every wire that carries gRPC's errors says it so.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence

from google.protobuf import any_pb2, duration_pb2, json_format
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from google.rpc import error_details_pb2, status_pb2

from gateway.codec import Contract
from gateway.errors import FieldError, GatewayError, Reason, RpcStatus
from gateway.message import NO_HEADERS, Headers
from gateway.status import TABLE, outcome_of, resume, retry_after

DOMAIN = "polygate"
DETAILS = "grpc-status-details-bin"

# google/rpc/error_details.proto, which no contract needs to hold.
_KNOWN = {
    message.full_name: getattr(error_details_pb2, name)
    for name, message in error_details_pb2.DESCRIPTOR.message_types_by_name.items()
}
REASON = "x-reason"
"""The reason of a refusal that has no details."""
PLAIN = frozenset({Reason.NO_METHOD, Reason.NOT_IMPLEMENTED})
"""Refusals that gRPC itself defines: every server says them by the code alone, and the conformance suite takes no details."""

_INDEX = re.compile(r"\.(\d+)(?=\.|\Z)")


def said(error: GatewayError) -> RpcStatus | None:
    """What a gRPC backend said itself, where it did."""
    return next((detail for detail in error.details if isinstance(detail, RpcStatus)), None)


def message_of(error: GatewayError) -> str:
    """The error's message: the backend's own words, where it had some."""
    status = said(error)
    return error.message if status is None else status.message


def status_bytes(error: GatewayError, exchange_id: str) -> bytes:
    """The google.rpc.Status of an error, the backend's own as it came; b"" where that had none."""
    status = said(error)
    if status is not None:
        return status.details
    return b"" if error.reason in PLAIN else _own(error, exchange_id).SerializeToString()


def reason_of(error: GatewayError) -> Headers:
    """The trailer that says the reason of our own errors, where no detail does."""
    return NO_HEADERS if said(error) is not None else Headers(((REASON, error.reason.value),))


def details_of(error: GatewayError, exchange_id: str) -> Sequence[tuple[any_pb2.Any, Mapping[str, object]]]:
    """The details alone, each with what it says in JSON. What nobody can read has none: it never ruins the error."""
    status = said(error)
    if status is None:
        return [(detail, _told(detail, None)) for detail in _own(error, exchange_id).details]
    try:
        return list(zip(status_pb2.Status.FromString(status.details).details, status.told, strict=False))
    except DecodeError:
        return ()


def told(details: bytes, contract: Contract | None) -> tuple[Mapping[str, object], ...]:
    """The details of a serialized google.rpc.Status as JSON; what no type is known of by its bytes, in base64."""
    try:
        return tuple(_told(detail, contract) for detail in status_pb2.Status.FromString(details).details)
    except DecodeError:
        return ()


def _told(detail: any_pb2.Any, contract: Contract | None) -> Mapping[str, object]:
    name = detail.type_url.rpartition("/")[2]
    value = contract.tell(name, detail.value) if contract is not None else None
    if value is None and name in _KNOWN:
        try:
            value = json_format.MessageToDict(_KNOWN[name].FromString(detail.value))
        except (DecodeError, ValueError):
            value = None
    if isinstance(value, dict):
        return {"@type": detail.type_url, **value}
    return {"@type": detail.type_url, "value": b64encode(detail.value).decode() if value is None else value}


def _own(error: GatewayError, exchange_id: str) -> status_pb2.Status:
    row = TABLE[error.reason]
    cursor = resume(error)
    details: list[Proto] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason.value,
            domain=DOMAIN,
            metadata={
                "retryable": str(row.retryable).lower(),
                "outcome": outcome_of(error).value,
                "id": exchange_id,
                **({"cursor": cursor} if cursor is not None else {}),
            },
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
    return status_pb2.Status(code=row.code, message=error.message, details=[_any(detail) for detail in details])


def _any(detail: Proto) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _path(pointer: str) -> str:
    """`/items/0/sku` as `items[0].sku`, which is how a FieldViolation names a field."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/")]
    return _INDEX.sub(r"[\1]", ".".join(parts))
