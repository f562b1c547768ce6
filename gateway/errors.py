"""What can go wrong, by reason, and whose fault it is.

    GatewayError(reason, message, details=..., outcome=...)
    +-- CallerError      the caller can mend it
    +-- BackendError     the backend, the broker or the way to them

A *reason* is a row of the outcomes table (`status.py`): what a caller is told on each wire follows from it alone. The
message is for the caller: no secret, no class name, no echo of the input. The cause (`raise ... from exc`) is for us.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from gateway.message import NO_HEADERS, Headers


class Reason(StrEnum):
    """Why an exchange was not answered with success. One row of `status.TABLE` each."""

    NOT_FOUND = "not_found"
    NO_METHOD = "no_method"
    WRONG_METHOD = "wrong_method"
    NOT_IMPLEMENTED = "not_implemented"
    UPGRADE_REQUIRED = "upgrade_required"
    MALFORMED = "malformed"
    PROTOCOL = "protocol"
    HALF_DUPLEX = "half_duplex"
    NO_MESSAGE = "no_message"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    UNACCEPTABLE = "unacceptable"
    TOO_LARGE = "too_large"
    URI_TOO_LONG = "uri_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    UNKNOWN_OUTCOME = "unknown_outcome"
    TIMED_OUT = "timed_out"
    SLOW_REQUEST = "slow_request"
    SLOW_CALLER = "slow_caller"
    TAKEN_OVER = "taken_over"
    BAD_ANSWER = "bad_answer"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    BUG = "bug"
    # What a backend said itself, one reason a code of google/rpc/code.proto.
    BACKEND_CANCELLED = "backend_cancelled"
    BACKEND_UNKNOWN = "backend_unknown"
    BACKEND_INVALID_ARGUMENT = "backend_invalid_argument"
    BACKEND_DEADLINE_EXCEEDED = "backend_deadline_exceeded"
    BACKEND_NOT_FOUND = "backend_not_found"
    BACKEND_ALREADY_EXISTS = "backend_already_exists"
    BACKEND_PERMISSION_DENIED = "backend_permission_denied"
    BACKEND_RESOURCE_EXHAUSTED = "backend_resource_exhausted"
    BACKEND_FAILED_PRECONDITION = "backend_failed_precondition"
    BACKEND_ABORTED = "backend_aborted"
    BACKEND_OUT_OF_RANGE = "backend_out_of_range"
    BACKEND_UNIMPLEMENTED = "backend_unimplemented"
    BACKEND_INTERNAL = "backend_internal"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    BACKEND_DATA_LOSS = "backend_data_loss"
    BACKEND_UNAUTHENTICATED = "backend_unauthenticated"


class Outcome(StrEnum):
    """What became of the caller's request. A success is never an error, so it is not here."""

    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: an RFC 6901 pointer into the body ("" for all of it), or a name in path or query, and why."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """What would have been taken: HTTP methods, content types, subprotocols."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """How long, in seconds, before another try makes sense."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer of an HTTP backend, passed on as it is where the caller speaks HTTP too."""

    status: int
    body: bytes
    headers: Headers = NO_HEADERS


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """The status of a gRPC backend: its own message and its `grpc-status-details-bin`, passed on where the caller speaks gRPC."""

    message: str
    details: bytes = b""
    trailers: Headers = NO_HEADERS
    told: tuple[Mapping[str, object], ...] = ()
    """The details as JSON, for callers who speak that."""


@dataclass(frozen=True, slots=True)
class AnswerHeaders:
    """Headers that the answer has on every wire: what a policy marks answers with, what a backend's refusal came with."""

    headers: Headers


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a stream of a topic that ended is gone on with: the cursor to start at."""

    cursor: str


Detail = FieldError | Allowed | RetryAfter | HttpAnswer | RpcStatus | AnswerHeaders | Resume


class GatewayError(Exception):
    """An exchange ended otherwise than in success."""

    def __init__(self, reason: Reason, message: str, *, details: tuple[Detail, ...] = (), outcome: Outcome | None = None) -> None:
        """`outcome` only where a reason's own does not hold: a bad answer to a call that changes nothing is FAILED."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = details
        self.outcome = outcome


class CallerError(GatewayError):
    """The caller can mend it."""


class BackendError(GatewayError):
    """The backend, the broker, or the way to them."""


def stopping() -> CallerError:
    """What a caller is told whose exchange the gateway's end has cut off: what had begun may have been done."""
    return CallerError(Reason.OVERLOADED, "the gateway is stopping; go on elsewhere", outcome=Outcome.UNKNOWN)


def resumable(error: GatewayError, cursor: str | None) -> GatewayError:
    """The same error, which says where the stream that it ends is gone on with, where that is known and it does not say so."""
    if cursor is None or any(isinstance(detail, Resume) for detail in error.details):
        return error
    kind = next((kind for kind in (CallerError, BackendError) if isinstance(error, kind)), GatewayError)
    return kind(error.reason, error.message, details=(*error.details, Resume(cursor)), outcome=error.outcome)


@contextmanager
def translating(*table: tuple[type[BaseException] | tuple[type[BaseException], ...], Reason, str]) -> Iterator[None]:
    """Turn a library's exceptions into reasons, where the library is called: rows of (exception, reason, message)."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as error:
        for kinds, reason, message in table:
            if isinstance(error, kinds):
                raise BackendError(reason, message) from error
        raise
