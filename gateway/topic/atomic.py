"""Publishing all or nothing: the messages of one request become records in one transaction, or none does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.errors import CallerError, FieldError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange, Handler
from gateway.message import JSON, NO_HEADERS, Message
from gateway.target import Target
from gateway.task import Tasks
from gateway.topic.idempotency import Idempotency, keyed
from gateway.topic.log import Log, Post
from gateway.topic.once import Once
from gateway.topic.write import DEFAULT_S, Receipt

WriteAll = Callable[[Call, Sequence[Post]], Awaitable[Sequence[Receipt]]]
"""Write some records before the call's deadline, or none. Raises what `Log.append_all` does."""
Posted = Callable[[Call, Message], Post]
"""The record that a message becomes. CallerError where it becomes none."""


def together(source: Log, target: Target, spec: Idempotency | None, tasks: Tasks) -> WriteAll:
    """Written by the log, all or none; once for each idempotency key of a call, where the route has those."""

    async def write(call: Call, posts: Sequence[Post]) -> Sequence[Receipt]:
        places = await source.append_all(posts, call.due(DEFAULT_S), route=target.route)
        return [Receipt(place) for place in places]

    if spec is None:
        return write
    assert target.state is not None  # noqa: S101  the target needs it, so it was given
    key_of, keys = keyed(target, spec), Once(source, target.state, target.route, spec, tasks)

    async def once(call: Call, posts: Sequence[Post]) -> Sequence[Receipt]:
        key = key_of(call, Message(b""))
        return await (write(call, posts) if key is None else keys.run(call, key, posts, lambda marked: write(call, marked)))

    return once


def atomic(write: WriteAll, posted: Posted, *, records: int, size: int) -> Handler:
    """The handler: `records` and `size` (bytes of bodies) bound what one request may hold."""

    async def run(exchange: Exchange) -> None:
        call, posts, left = exchange.call, list[Post](), size
        try:
            while True:
                message = await exchange.receive()
                left -= len(message.body)
                if len(posts) == records or left < 0:
                    _too_many(records, size)
                posts.append(posted(call, message))
        except EndOfMessages:
            if not posts and not exchange.call.many:
                raise
        except CallerError as error:
            raise _at(error, len(posts)) from error
        receipts = await write(call, posts) if posts else ()
        await exchange.accept(receipts[0].head if receipts else NO_HEADERS)
        for receipt in receipts:
            await exchange.send(Message(receipt.body(), JSON, headers=receipt.head))

    return run


def _too_many(records: int, size: int) -> None:
    text = f"a batch that is written as one has {records} messages at most, and {size} bytes"
    raise CallerError(Reason.TOO_LARGE, text)


def _at(error: GatewayError, number: int) -> GatewayError:
    """An error with the place of its message in the batch, as a JSON Pointer into the array (RFC 6901). Nothing was written."""
    fields = [one for one in error.details if isinstance(one, FieldError)]
    rest = tuple(one for one in error.details if not isinstance(one, FieldError))
    told = tuple(FieldError(f"/{number}{one.pointer}", one.detail) for one in fields) or (
        FieldError(f"/{number}", error.message),
    )
    return type(error)(error.reason, error.message, details=(*rest, *told), outcome=error.outcome)
