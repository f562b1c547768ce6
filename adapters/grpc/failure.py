"""Why a call to a gRPC server failed, as a reason: what the peer said, told apart from what grpcio says of itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

from adapters.grpc.detail import DETAILS, told
from adapters.grpc.metadata import REQUEST_ID, headers_of
from gateway.codec import Contract
from gateway.errors import AnswerHeaders, BackendError, Outcome, Reason, RpcStatus
from gateway.message import NO_HEADERS, Headers
from gateway.status import reason_of_code

T = TypeVar("T")

# What grpcio 1.85 writes where the status is its own, not the peer's. It has no field for that: only the words tell.
_MADE_HERE = re.compile(
    r"(?P<away>failed to connect to all addresses|DNS resolution failed|empty address list)"
    r"|Received http2 header with status: (?P<http>\d+)"
    r"|Stream removed \(|Deadline Exceeded\Z|Internal error from Core"
)
_INTERNAL = "Internal error from Core"
_LOOKS, _LOOK_S = 50, 0.002
# A peer may end a call by itself when the time is up that it was told, a moment before we do.
_CANCELLED_STREAM, _SOON_S = "with error code 8)", 0.05
# RFC 9113 8.7: REFUSED_STREAM is a promise that nothing was done.
_REFUSED_STREAM = "with error code 7)"


def failure_of(
    error: grpc.aio.AioRpcError, *, safe: bool, contract: Contract | None = None, due: float | None = None
) -> BackendError:
    """The error of a call that was made on a connected channel. `safe`: it would have changed nothing. `contract` knows
    the types of its details. `due`: by when the peer was told to answer, as event-loop time.
    """
    text = error.details() or ""
    trailers = error.trailing_metadata()
    # grpcio gives its own status no trailers.
    if not trailers and (made := _MADE_HERE.match(text)):
        if due is not None and _CANCELLED_STREAM in text and asyncio.get_running_loop().time() > due - _SOON_S:
            return late(safe=safe, asked=True)
        return _own(error.code(), text, made, safe=safe)
    return _said(error.code(), text, error.initial_metadata(), trailers, contract)


class LastWord:
    """How a stream really ended. Writing to a peer that has ended already makes grpcio put an error of its own in the place of
    the peer's status, seen where a server refuses a caller that still sends: so it is noted when it comes.
    """

    def __init__(self, rpc: Any) -> None:
        self._status: grpc.aio.AioRpcError | None = None
        rpc.add_done_callback(self._note)

    def _note(self, rpc: Any) -> None:
        details = _at_once(rpc.details())
        if self._status is None and details != _INTERNAL:
            code, head, trailers = _at_once(rpc.code()), _at_once(rpc.initial_metadata()), _at_once(rpc.trailing_metadata())
            self._status = grpc.aio.AioRpcError(code, head, trailers, details)

    async def status(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The peer's status, or the error where it has said none."""
        for _ in range(_LOOKS):
            if error.details() != _INTERNAL or self._status is not None:
                break
            await asyncio.sleep(_LOOK_S)
        return self._status or error


def _at_once(asking: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for: a call that is done knows its status."""
    try:
        asking.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        asking.close()
    raise AssertionError("grpcio calls back when the status is there")


def late(*, safe: bool, asked: bool = False) -> BackendError:
    """The deadline passed after the call was sent. `asked`: it was the caller's own, which the peer was told of as well: then a
    status without details is passed on, which is what the caller makes of it by itself.
    """
    reason = Reason.TIMED_OUT if safe else Reason.UNKNOWN_OUTCOME
    words = "the backend did not answer in time" if safe else "the call was sent, and the backend did not answer in time"
    return BackendError(reason, words, details=(RpcStatus(words),) if asked else ())


def bad_answer(message: str, *, safe: bool) -> BackendError:
    """The backend answered nonsense, or broke off."""
    return BackendError(Reason.BAD_ANSWER, message, outcome=Outcome.FAILED if safe else None)


def answered(metadata: Any) -> Headers:
    """The peer's metadata for the caller. The exchange's id is ours to say."""
    return headers_of(metadata).without(REQUEST_ID) if metadata else NO_HEADERS


def _own(code: grpc.StatusCode, text: str, made: re.Match[str], *, safe: bool) -> BackendError:
    """What grpcio says of itself: its words stay here."""
    if made["away"] or _REFUSED_STREAM in text:
        return BackendError(Reason.UNREACHABLE, "the backend cannot be reached")
    if made["http"]:
        # Not a gRPC server, or a proxy before it: grpcio has read the status by http-grpc-status-mapping.md.
        return BackendError(reason_of_code(code.value[0]), f"the backend answered HTTP {made['http']} in place of gRPC")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(safe=safe, asked=True)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return bad_answer("the backend's answer is too large", safe=safe)
    if code is grpc.StatusCode.UNAVAILABLE:
        return bad_answer("the connection to the backend broke off", safe=safe)
    return bad_answer("the backend's answer cannot be read", safe=safe)


def _said(code: grpc.StatusCode, text: str, initial: Any, trailers: Any, contract: Contract | None) -> BackendError:
    """What the peer said, in its own words."""
    pairs = tuple(trailers or ())
    details = next((value for key, value in pairs if key == DETAILS), b"")
    head = answered(initial)
    marks = (AnswerHeaders(head),) if head else ()
    sent = details if isinstance(details, bytes) else details.encode()
    status = RpcStatus(text, sent, answered(pairs), told(sent, contract))
    return BackendError(reason_of_code(code.value[0]), text or code.name.replace("_", " ").lower(), details=(status, *marks))
