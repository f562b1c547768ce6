"""The calls of the gRPC listener.

No method is registered, so a path is routed when its HEADERS come, before any message: refusals, the deadline of the first
message and admission are ours. A method with one reply runs in grpcio's stream-unary form: like stream-stream it runs at
HEADERS time, and like unary-unary it sends reply and status in one batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote

import grpc

from adapters.grpc.conversation import Conversation, Patience
from adapters.grpc.metadata import REQUEST_ID, headers_of
from adapters.grpc.status import status_of
from gateway.errors import CallerError, GatewayError, Outcome, Reason, resumable
from gateway.exchange import Call, new_id
from gateway.listener import View
from gateway.message import PROTOBUF, Headers, Many
from gateway.route import Endpoint, Found
from gateway.status import marks
from gateway.task import spread

log = logging.getLogger("polygate")

# How soon a stream that is being sent to is looked at again when a drain ends it.
CUT_AGAIN_S = 0.1


class Calls(grpc.GenericRpcHandler):
    """All calls of one listener, each from its HEADERS to its status."""

    def __init__(self, view: View, services: Mapping[str, Endpoint], limit: int, first_message_s: float) -> None:
        """`services`: our own, by path, which are there where no route is; `limit`: how many calls there may be at once."""
        self._view = view
        self._services = services
        self._limit = limit
        self._running: dict[asyncio.Task[Any], Conversation] = {}
        self._draining = False
        self._emptied = asyncio.Event()
        self.patience = Patience(first_message_s)

    def service(self, details: Any) -> Any:
        """The handler of a call, asked for by grpcio when its HEADERS come. May not raise: grpcio would tell the caller what."""
        target = details.method
        headers = headers_of(details.invocation_metadata)
        found = self._find(target, headers)

        # Made per call, for the context that a handler is given does not know its method. grpcio runs an `async def` only.
        async def run(_requests: object, context: Any) -> bytes:
            return await self._run(found, target, headers, context)

        many = found.endpoint.many
        if many is Many.REPLIES or many is Many.BOTH:
            return grpc.stream_stream_rpc_method_handler(run)
        return grpc.stream_unary_rpc_method_handler(run)

    def _find(self, target: str, headers: Headers) -> Found:
        found = self._view.find("grpc", target, headers)
        if found.error is not None and target in self._services:
            return Found(self._services[target])
        return found

    async def _run(self, found: Found, target: str, headers: Headers, context: Any) -> bytes:
        """Run one call to its end. Returns what a method with one reply replies; an error leaves as grpcio's AbortError."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        exchange_id = new_id()
        conversation: Conversation | None = None
        try:
            call = self._call(exchange_id, found, target, headers, context)
            conversation = Conversation(call, context, self.patience)
            handler = found.endpoint.handler
            if len(self._running) >= self._limit:
                handler = self._view.refuse("grpc", GatewayError(Reason.OVERLOADED, "too many calls at once")).handler
            self._running[task] = conversation
            if self._view.admission.late:
                await self._view.admission.turn()
            await handler(conversation)
            context.set_trailing_metadata(((REQUEST_ID, exchange_id), *conversation.trailers))
        except GatewayError as error:
            if conversation is not None and (head := marks(error)):
                with suppress(CallerError):  # gone: abort() finds that out by itself
                    await conversation.accept(head)
            return await _refuse(context, error, exchange_id, conversation)
        except asyncio.CancelledError:
            cut = conversation is not None and conversation.cut
            if not cut and task.cancelling():
                raise
            # Cut by the drain, or cancelled by nobody: grpcio sends no status for a CancelledError, and the caller would hang.
            for _ in range(task.cancelling()):
                task.uncancel()
            return await _refuse(context, _stopping() if cut else _bug(exchange_id), exchange_id, conversation)
        except Exception:
            # grpcio would tell the caller the exception's class and text.
            log.exception("exchange %s failed", exchange_id)
            return await _refuse(context, _bug(exchange_id), exchange_id, conversation)
        finally:
            self._running.pop(task, None)
            if self._draining and not self._running:
                self._emptied.set()
        return conversation.reply or b""

    @staticmethod
    def _call(exchange_id: str, found: Found, target: str, headers: Headers, context: Any) -> Call:
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        return Call(
            id=exchange_id,
            protocol="grpc",
            target=target,
            headers=headers,
            params=found.params,
            many=found.endpoint.many,
            deadline=deadline,
            expires=deadline,
            peer=_host(context.peer()),
            accepts=PROTOBUF,
        )

    async def end(self, until: float) -> None:
        """Let those that run end, and at `until` end them ourselves: grpcio's own grace drops them without a status.

        A stream of replies has no end of its own, nor has one of a topic: each is ended in its turn, over the first half of the
        time that is left.
        """
        left = until - asyncio.get_running_loop().time()
        self._draining = True
        streams = [task for task, one in self._running.items() if one.call.many is Many.REPLIES or one.cursor is not None]
        spread(streams, left / 2, self._cut)
        try:
            async with asyncio.timeout_at(until):
                if self._running:
                    await self._emptied.wait()
        except TimeoutError:
            log.warning("grpc: %d calls outlasted the drain", len(self._running))
        for task in list(self._running):
            self._cut(task, wait=False)

    def _cut(self, task: asyncio.Task[Any], *, wait: bool = True) -> None:
        """End a call, once what is being sent to it has left."""
        conversation = self._running.get(task)
        if conversation is None or conversation.cut:
            return
        if wait and conversation.sending:
            asyncio.get_running_loop().call_later(CUT_AGAIN_S, self._cut, task)
        else:
            conversation.cut = True
            task.cancel(Reason.OVERLOADED)


async def _refuse(context: Any, error: GatewayError, exchange_id: str, conversation: Conversation | None) -> bytes:
    status = status_of(resumable(error, conversation.cursor if conversation is not None else None), exchange_id)
    await context.abort(status.code, status.message, status.trailers)
    raise AssertionError("abort() raises")


def _stopping() -> GatewayError:
    # What had begun may have been done.
    return GatewayError(Reason.OVERLOADED, "the gateway is stopping", outcome=Outcome.UNKNOWN)


def _bug(exchange_id: str) -> GatewayError:
    return GatewayError(Reason.BUG, f"something went wrong here ({exchange_id})")


def _host(peer: str) -> str:
    """The address of `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`; "" for a Unix socket."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    return unquote(rest.rpartition(":")[0]).strip("[]")
