"""By when the first reply is due."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import ClassVar, Literal, cast

from pydantic import Field

from gateway.errors import CallerError, GatewayError, Reason, RpcStatus
from gateway.exchange import Call, EndOfMessages, Exchange, Handler, Wrapper
from gateway.message import NO_HEADERS, Headers, Many, Message
from gateway.policy import Guard, Policy, PolicyConfig


class Config(PolicyConfig):
    """Answer in time, at least with an error (504). It ends with the first reply: a stream may then go on for ever, unless its
    caller has said by when it gives up (`grpc-timeout`).
    """

    refuses: ClassVar[tuple[Reason, ...]] = (Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME, Reason.SLOW_REQUEST)

    kind: Literal["deadline"] = "deadline"
    seconds: float = Field(default=30.0, gt=0, le=86_400, examples=[2.0])
    """How long the first reply may take. A caller that says a shorter time itself (gRPC) gets that."""

    def build(self, route: str, protocol: str) -> Policy:
        del route, protocol
        return Deadline(self.seconds)


class Deadline:
    """Tells the inside when its first reply is due, and is the net below it: a backend ends its own waits a little before.

    A caller that may send many messages is waited for: its time runs from its first message on, not from the handshake.
    """

    guards = Guard.MESSAGE

    def __init__(self, seconds: float) -> None:
        self._line = _Line(seconds)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        many = call.many
        waits = many is Many.REQUESTS or many is Many.BOTH
        line = self._line
        # Of the loop that it was last: to ask which one runs is a system call (before Python 3.12).
        task = None if self._loop is None else asyncio.current_task(self._loop)
        if task is None:
            self._loop = asyncio.get_running_loop()
            task = cast("asyncio.Task[None]", asyncio.current_task(self._loop))
        due = task.get_loop().time() + line.seconds
        own = call.deadline
        if own is not None and (waits or own < due):
            timed = _Timed(exchange, call, line, task)
            line.alone(timed, own)
        elif waits:
            timed = _Timed(exchange, call, line, task)
        else:
            timed = _Timed(exchange, call.but(deadline=due), line, task)
            line.add(timed, due)
        if call.expires is not None and timed.timer is None:
            line.alone(timed, call.expires)
        try:
            await forward(timed)
        except asyncio.CancelledError as error:
            if timed.end():
                raise timed.late() from error
            raise
        finally:
            timed.end()


class _Timed(Wrapper):
    """One exchange against the clock, and how far it has come when its time is up.

    What `asyncio.timeout` does, without a timer and a context of its own for each: see there for why cancellations are counted.
    """

    __slots__ = ("_asked", "_cancelling", "_expired", "_line", "_replied", "_taken", "_task", "timer")

    def __init__(self, inner: Exchange, call: Call, line: _Line, task: asyncio.Task[None]) -> None:
        self.inner = inner
        self.call = call
        self.timer: asyncio.TimerHandle | None = None
        self._line = line
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self._asked = False
        self._taken = False
        self._replied = False

    def expire(self) -> None:
        """The time is up: called by the clock, once, while the inside waits for something."""
        self._expired = True
        self._task.cancel()

    def end(self) -> bool:
        """The clock stops for good. True where our own cancellation, and nobody else's, ended it."""
        self._stop()
        if self.timer is not None:
            self.timer.cancel()
        expired, self._expired = self._expired, False
        return expired and self._task.uncancel() <= self._cancelling

    def late(self) -> GatewayError:
        """What became of it. A net cannot know whether what it cut off has done its work."""
        if self._taken:
            words = "no reply came in time; the request may have been carried out"
            # A caller whose own time is up has given up: there is nothing to tell it beside that.
            own = self.call.expires is not None and self.call.expires == self.call.deadline
            return GatewayError(Reason.UNKNOWN_OUTCOME, words, details=(RpcStatus(words),) if own else ())
        if self._asked:
            return CallerError(Reason.SLOW_REQUEST, "the request did not come in time")
        return GatewayError(Reason.TIMED_OUT, "the time was up before the request was read")

    def _stop(self) -> None:
        self._replied = True
        self._line.remove(self)
        # A time that the caller has set itself is for the whole of a stream.
        if self.timer is not None and self.call.expires is None:
            self.timer.cancel()

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        # A stream that says yes has begun, though its first message may be an hour away.
        many = self.call.many
        if not self._replied and (many is Many.REPLIES or many is Many.BOTH):
            self._stop()
        await self.inner.accept(headers)

    async def receive(self) -> Message:
        if self._taken:
            return await self.inner.receive()
        self._asked = True
        try:
            message = await self.inner.receive()
        except EndOfMessages:
            self._taken = True
            raise
        self._taken = True
        if self.call.deadline is None and not self._replied:
            self._line.add(self, asyncio.get_running_loop().time() + self._line.seconds)
        return message

    async def send(self, message: Message) -> None:
        if not self._replied:
            self._stop()
        await self.inner.send(message)


class _Line:
    """Who waits, soonest first: all wait equally long, so one timer serves them all, and an exchange costs none of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: OrderedDict[_Timed, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, timed: _Timed, due: float) -> None:
        """Expire it at `due`, which is not before that of anyone added earlier."""
        self._due[timed] = due
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._fire)

    @staticmethod
    def alone(timed: _Timed, due: float) -> None:
        """Expire it at a time that its caller has set, out of the line."""
        timed.timer = asyncio.get_running_loop().call_at(due, timed.expire)

    def remove(self, timed: _Timed) -> None:
        """It is done; a no-op where it is not waiting."""
        self._due.pop(timed, None)

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        while self._due:
            timed, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._fire)
                return
            del self._due[timed]
            timed.expire()
