"""How policies, translation and a backend's handler become one handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.exchange import EndOfMessages, Exchange, Handler, Wrapper, first
from gateway.inside import Inside
from gateway.message import NO_HEADERS, Headers, Message
from gateway.policy import Guard, Policy
from gateway.status import Failure, failure

log = logging.getLogger("polygate")

IN_FLIGHT = 16


def pipeline(policies: Iterable[Policy], handler: Handler) -> Handler:
    """The first policy runs outermost."""
    for policy in reversed(tuple(policies)):
        handler = _around(policy, handler)
    return handler


def _around(policy: Policy, forward: Handler) -> Handler:
    # Bound once: calling the object itself would look its __call__ up for each exchange.
    run = policy.__call__
    return lambda exchange: run(exchange, forward)


class Turn:
    """What the next message of the conversations of one call runs: a reload changes it under those that go on."""

    __slots__ = ("handler", "inside")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.inside = Inside()
        """The conversations."""


def messages(policies: Sequence[Policy], handler: Handler) -> Handler:
    """What each message of a conversation runs. `handler` is `answerable`, so that one's defect is not the end of the others."""
    return pipeline([policy for policy in policies if policy.guards is not Guard.CALL], handler)


def conversation(policies: Sequence[Policy], handler: Handler | Turn) -> Handler:
    """For a caller that may send many to a target that answers one with one: what guards the call stands around the whole,
    what guards messages around each.
    """
    turn = handler if isinstance(handler, Turn) else Turn(messages(policies, handler))
    outer = pipeline([policy for policy in policies if policy.guards is not Guard.MESSAGE], each(turn))

    async def run(exchange: Exchange) -> None:
        await outer(Wrapper(exchange, replace(exchange.call, each=True)))

    return run


def answerable(handler: Handler) -> Handler:
    """The one place where an unknown exception becomes an answer: logged with the exchange's id, INTERNAL to the caller."""

    async def run(exchange: Exchange) -> None:
        try:
            await handler(exchange)
        except GatewayError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            raise _answer(exchange, error, asyncio.current_task()) from error

    return run


def admitted(inside: Inside, handler: Handler, *, lasting: bool) -> Handler:
    """`answerable`, and inside of what may leave before the gateway does. `lasting`: it may go on for ever."""
    running = inside.running

    async def run(exchange: Exchange) -> None:
        task = asyncio.current_task()
        running[task] = lasting
        try:
            await handler(exchange)
        except GatewayError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            raise inside.moved(task) or _answer(exchange, error, task) from error
        finally:
            running.pop(task, None)
            if inside.leaving and not running:
                inside.left()

    return run


def _answer(exchange: Exchange, error: BaseException, task: asyncio.Task[Any] | None) -> GatewayError:
    """What an exception that is none of ours becomes. Raises it where the exchange was cancelled."""
    if isinstance(error, EndOfMessages):
        return GatewayError(Reason.MALFORMED, "a message was expected, and none came")
    # Cancelled by nobody: a library's future was. It would end a task without a word, and its caller would wait for ever.
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    log.error("exchange %s failed", exchange.call.id, exc_info=error)
    return GatewayError(Reason.BUG, f"something went wrong here ({exchange.call.id})")


class _Child(Wrapper):
    """One message of a conversation as an exchange of its own; its replies wait until those before it are sent."""

    def __init__(self, inner: Exchange, message: Message, number: int) -> None:
        super().__init__(inner, inner.call.part(number))
        self._message: Message | None = message
        self._head = NO_HEADERS
        self.replies: list[Message] = []

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        """The conversation is accepted already: what a message is accepted with goes with its reply."""
        self._head = self._head or headers

    async def receive(self) -> Message:
        if self._message is None:
            raise EndOfMessages
        message, self._message = self._message, None
        return message

    async def send(self, message: Message) -> None:
        if self._head and not isinstance(message, Failure):
            own = Headers((*self._head, *message.headers))
            message = Message(message.body, message.content_type, message.key, own, message.cursor, message.timestamp)
        self.replies.append(message)

    def conclude(self, headers: Headers) -> None:
        """The same: the conversation goes on."""


async def _answered(child: _Child, handler: Handler) -> list[Message]:
    try:
        await handler(child)
    except GatewayError as error:
        return [failure(error, child.call.id)]
    return child.replies


def each(handler: Handler | Turn, limit: int = IN_FLIGHT) -> Handler:
    """Every message of the caller becomes an exchange of its own: up to `limit` in flight, answered in order. A failed one is
    answered with the error, and the conversation goes on.
    """
    turn = handler if isinstance(handler, Turn) else Turn(handler)

    async def run(exchange: Exchange) -> None:
        slots = asyncio.Semaphore(limit)

        async def one(message: Message, number: int, before: asyncio.Task[None] | None) -> None:
            replies = await _answered(_Child(exchange, message, number), turn.handler)
            # Its turn comes once the one before has sent: mostly that is long done, and nobody waits.
            if before is not None and not before.done():
                await asyncio.wait((before,))
            for reply in replies:
                await exchange.send(reply)
            slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                number = 0
                last: asyncio.Task[None] | None = None
                try:
                    while True:
                        await slots.acquire()
                        message = await exchange.receive()
                        number += 1
                        last = group.create_task(one(message, number, last))
                except EndOfMessages:
                    pass  # the group waits for those in flight
        except BaseExceptionGroup as errors:
            raise first(errors) from errors

    return run
