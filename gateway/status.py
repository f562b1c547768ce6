"""What a caller is told for each reason, on every wire: one table, and the problem object of RFC 9457 built from it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from gateway.errors import Allowed, AnswerHeaders, FieldError, GatewayError, Outcome, Reason, Resume, RetryAfter, RpcStatus
from gateway.message import PROBLEM, Headers, Message, compact, value


class Code(IntEnum):
    """google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Row(NamedTuple):
    """One reason on every wire. `close` is the WebSocket close code where the socket cannot stay open."""

    code: Code
    http: int
    close: int
    retryable: bool
    outcome: Outcome
    title: str


_F, _U = Outcome.FAILED, Outcome.UNKNOWN

# reason: gRPC code, HTTP status, WebSocket close, retryable, outcome, title
TABLE: dict[Reason, Row] = {
    Reason.NOT_FOUND: Row(Code.NOT_FOUND, 404, 1008, False, _F, "Not found"),
    Reason.NO_METHOD: Row(Code.UNIMPLEMENTED, 404, 1008, False, _F, "Not found"),
    Reason.WRONG_METHOD: Row(Code.UNIMPLEMENTED, 405, 1008, False, _F, "Method not allowed"),
    Reason.NOT_IMPLEMENTED: Row(Code.UNIMPLEMENTED, 501, 1008, False, _F, "Not implemented"),
    Reason.UPGRADE_REQUIRED: Row(Code.UNIMPLEMENTED, 426, 1002, False, _F, "Upgrade required"),
    Reason.MALFORMED: Row(Code.INVALID_ARGUMENT, 400, 1007, False, _F, "Malformed request"),
    Reason.PROTOCOL: Row(Code.INTERNAL, 400, 1002, False, _F, "Protocol error"),
    Reason.HALF_DUPLEX: Row(Code.UNIMPLEMENTED, 505, 1002, False, _U, "HTTP version not supported"),
    Reason.NO_MESSAGE: Row(Code.INTERNAL, 400, 1008, False, _F, "No message"),
    Reason.INVALID: Row(Code.INVALID_ARGUMENT, 422, 1008, False, _F, "Invalid request"),
    Reason.UNSUPPORTED: Row(Code.INVALID_ARGUMENT, 415, 1003, False, _F, "Unsupported media type"),
    Reason.UNSUPPORTED_ENCODING: Row(Code.UNIMPLEMENTED, 415, 1003, False, _F, "Unsupported encoding"),
    Reason.UNACCEPTABLE: Row(Code.INVALID_ARGUMENT, 406, 1003, False, _F, "Not acceptable"),
    Reason.TOO_LARGE: Row(Code.RESOURCE_EXHAUSTED, 413, 1009, False, _F, "Too large"),
    Reason.URI_TOO_LONG: Row(Code.RESOURCE_EXHAUSTED, 414, 1009, False, _F, "URI too long"),
    Reason.HEADERS_TOO_LARGE: Row(Code.RESOURCE_EXHAUSTED, 431, 1009, False, _F, "Header fields too large"),
    Reason.UNAUTHENTICATED: Row(Code.UNAUTHENTICATED, 401, 3000, False, _F, "Unauthenticated"),
    Reason.FORBIDDEN: Row(Code.PERMISSION_DENIED, 403, 3003, False, _F, "Forbidden"),
    Reason.RATE_LIMITED: Row(Code.RESOURCE_EXHAUSTED, 429, 1013, True, _F, "Too many requests"),
    Reason.OVERLOADED: Row(Code.UNAVAILABLE, 503, 1013, True, _F, "Overloaded"),
    Reason.UNREACHABLE: Row(Code.UNAVAILABLE, 503, 1013, True, _F, "Unavailable"),
    Reason.UNKNOWN_OUTCOME: Row(Code.DEADLINE_EXCEEDED, 504, 1011, False, _U, "Outcome unknown"),
    Reason.TIMED_OUT: Row(Code.DEADLINE_EXCEEDED, 504, 1011, True, _F, "Timed out"),
    Reason.SLOW_REQUEST: Row(Code.DEADLINE_EXCEEDED, 408, 3008, True, _F, "Request timeout"),
    Reason.SLOW_CALLER: Row(Code.RESOURCE_EXHAUSTED, 429, 1013, True, _F, "Too slow"),
    Reason.TAKEN_OVER: Row(Code.ABORTED, 409, 1008, False, _F, "Taken over"),
    Reason.BAD_ANSWER: Row(Code.UNAVAILABLE, 502, 1011, False, _U, "Bad answer from the backend"),
    Reason.REFUSED: Row(Code.FAILED_PRECONDITION, 502, 1011, False, _F, "Refused by the backend"),
    Reason.CANCELLED: Row(Code.CANCELLED, 499, 1000, False, _U, "Cancelled by the caller"),
    Reason.BUG: Row(Code.INTERNAL, 500, 1011, False, _U, "Internal error"),
    Reason.BACKEND_CANCELLED: Row(Code.CANCELLED, 499, 1011, False, _U, "Cancelled"),
    Reason.BACKEND_UNKNOWN: Row(Code.UNKNOWN, 500, 1011, False, _U, "Unknown error"),
    Reason.BACKEND_INVALID_ARGUMENT: Row(Code.INVALID_ARGUMENT, 400, 1011, False, _F, "Invalid argument"),
    Reason.BACKEND_DEADLINE_EXCEEDED: Row(Code.DEADLINE_EXCEEDED, 504, 1011, False, _U, "Deadline exceeded"),
    Reason.BACKEND_NOT_FOUND: Row(Code.NOT_FOUND, 404, 1011, False, _F, "Not found"),
    Reason.BACKEND_ALREADY_EXISTS: Row(Code.ALREADY_EXISTS, 409, 1011, False, _F, "Already exists"),
    Reason.BACKEND_PERMISSION_DENIED: Row(Code.PERMISSION_DENIED, 403, 1011, False, _F, "Permission denied"),
    Reason.BACKEND_RESOURCE_EXHAUSTED: Row(Code.RESOURCE_EXHAUSTED, 429, 1011, True, _F, "Resource exhausted"),
    Reason.BACKEND_FAILED_PRECONDITION: Row(Code.FAILED_PRECONDITION, 400, 1011, False, _F, "Failed precondition"),
    Reason.BACKEND_ABORTED: Row(Code.ABORTED, 409, 1011, True, _F, "Aborted"),
    Reason.BACKEND_OUT_OF_RANGE: Row(Code.OUT_OF_RANGE, 400, 1011, False, _F, "Out of range"),
    Reason.BACKEND_UNIMPLEMENTED: Row(Code.UNIMPLEMENTED, 501, 1011, False, _F, "Unimplemented"),
    Reason.BACKEND_INTERNAL: Row(Code.INTERNAL, 500, 1011, False, _U, "Internal error of the backend"),
    Reason.BACKEND_UNAVAILABLE: Row(Code.UNAVAILABLE, 503, 1011, True, _U, "Unavailable"),
    Reason.BACKEND_DATA_LOSS: Row(Code.DATA_LOSS, 500, 1011, False, _U, "Data loss"),
    Reason.BACKEND_UNAUTHENTICATED: Row(Code.UNAUTHENTICATED, 401, 1011, False, _F, "Unauthenticated"),
}

# The reason of each code that a backend may send; a code outside the table is UNKNOWN.
_BY_CODE = {row.code: reason for reason, row in TABLE.items() if reason.value.startswith("backend_")}

# google/rpc/code.proto read from HTTP to gRPC, for an HTTP backend's status on other wires (404 is NOT_FOUND).
# It lacks 408 and 425: the server has not had all of the request in time, or not so early. Another try may do.
_BY_HTTP = {
    400: Reason.BACKEND_INVALID_ARGUMENT,
    401: Reason.BACKEND_UNAUTHENTICATED,
    403: Reason.BACKEND_PERMISSION_DENIED,
    404: Reason.BACKEND_NOT_FOUND,
    408: Reason.BACKEND_DEADLINE_EXCEEDED,
    409: Reason.BACKEND_ABORTED,
    412: Reason.BACKEND_FAILED_PRECONDITION,
    416: Reason.BACKEND_OUT_OF_RANGE,
    425: Reason.BACKEND_UNAVAILABLE,
    429: Reason.BACKEND_RESOURCE_EXHAUSTED,
    499: Reason.BACKEND_CANCELLED,
    501: Reason.BACKEND_UNIMPLEMENTED,
    503: Reason.BACKEND_UNAVAILABLE,
    504: Reason.BACKEND_DEADLINE_EXCEEDED,
}
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)


def reason_of_code(code: int) -> Reason:
    """The reason of a status code that a gRPC backend sent."""
    return _BY_CODE.get(code, Reason.BACKEND_UNKNOWN)  # type: ignore[call-overload,no-any-return]


def reason_of_http(status: int) -> Reason:
    """The reason of an error status that an HTTP backend sent."""
    if status in _BY_HTTP:
        return _BY_HTTP[status]
    if status in _CLIENT_ERRORS:
        return Reason.BACKEND_FAILED_PRECONDITION
    return Reason.BACKEND_INTERNAL if status in _SERVER_ERRORS else Reason.BACKEND_UNKNOWN


def outcome_of(error: GatewayError) -> Outcome:
    """FAILED: nothing was done. UNKNOWN: it may have been."""
    return error.outcome or TABLE[error.reason].outcome


def retry_after(error: GatewayError) -> float | None:
    """Seconds until another try makes sense; None where it makes none."""
    for detail in error.details:
        if isinstance(detail, RetryAfter):
            return detail.seconds
    return 1.0 if TABLE[error.reason].retryable else None


def allowed(error: GatewayError) -> tuple[str, ...]:
    """What would have been taken: the methods of `Allow`, the types that are served."""
    return next((detail.names for detail in error.details if isinstance(detail, Allowed)), ())


def marks(error: GatewayError) -> Headers:
    """The headers that the answer to an error has by its details."""
    return Headers(pair for detail in error.details if isinstance(detail, AnswerHeaders) for pair in detail.headers)


def resume(error: GatewayError) -> str | None:
    """The cursor that a stream of a topic is gone on with at; None for any other."""
    return next((detail.cursor for detail in error.details if isinstance(detail, Resume)), None)


def problem(error: GatewayError, exchange_id: str) -> dict[str, object]:
    """The RFC 9457 object of an error, the same on every wire that answers in JSON."""
    row = TABLE[error.reason]
    answer: dict[str, object] = {
        "type": f"urn:polygate:reason:{error.reason.value}",
        "title": row.title,
        "status": row.http,
        "detail": error.message,
        "reason": error.reason.value,
        "code": row.code.name,
        "retryable": row.retryable,
        "outcome": outcome_of(error).value,
        "id": exchange_id,
    }
    fields = [{"pointer": detail.pointer, "detail": detail.detail} for detail in error.details if isinstance(detail, FieldError)]
    told = next((detail.told for detail in error.details if isinstance(detail, RpcStatus)), ())
    cursor = resume(error)
    answer |= {"cursor": cursor} if cursor is not None else {}
    return answer | ({"errors": fields} if fields else {}) | ({"details": list(told)} if told else {})


def problem_body(error: GatewayError, exchange_id: str) -> bytes:
    """The problem object as JSON."""
    return compact(problem(error, exchange_id)).encode()


@value
class Failure(Message):
    """An error sent as a message, where the conversation goes on. A wire that has no such thing raises `error`."""

    error: GatewayError | None = None


def failure(error: GatewayError, exchange_id: str) -> Failure:
    """The error reply to one message among many."""
    return Failure(problem_body(error, exchange_id), PROBLEM, error=error)
