"""What is seen of every exchange: a line in the access log, its numbers, and a trace."""

from __future__ import annotations

from asyncio import CancelledError, Future
from functools import partial
from json.encoder import encode_basestring_ascii as quoted
from time import perf_counter
from typing import Any, Literal

from gateway.errors import GatewayError, Reason
from gateway.exchange import Call, Exchange, Handler, Wrapper
from gateway.message import NO_HEADERS, Headers, Message
from gateway.metric import Counter
from gateway.policy import Guard, Policy, PolicyConfig
from gateway.policy.access import LOGS, Clock, Lines
from gateway.policy.tally import Tally, tally_of
from gateway.policy.trace import traced
from gateway.status import outcome_of
from gateway.worker import own

TARGET_CHARS = 1024


class Config(PolicyConfig):
    """Access log line, metrics and `traceparent` for every exchange, and for every message that is an exchange of its own."""

    kind: Literal["observe"] = "observe"
    log: Literal["stdout", "stderr", "none"] = "stdout"
    """Where the access log goes: one JSON object a line."""

    def build(self, route: str, protocol: str) -> Policy:
        return Observe(route, protocol, LOGS.get(self.log))


class Observe:
    """Counts, times, traces and logs one exchange."""

    guards = Guard.BOTH

    def __init__(self, route: str, protocol: str, lines: Lines | None) -> None:
        self._exchanges = tally_of("exchanges", route, protocol)
        self._conversations = tally_of("conversations", route, protocol)
        self._lines = lines
        number = own().number
        worker = f',"worker":{number}' if number else ""
        self._named = f'"route":{quoted(route)},"protocol":{quoted(protocol)}{worker}'

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        tally = self._conversations if call.each else self._exchanges
        headers, trace = traced(call.headers)
        seen = _Seen(exchange, call.but(headers=headers), tally)
        tally.accepted += 1
        started = perf_counter()
        outcome, reason = "unknown", "bug"
        try:
            await forward(seen)
            outcome, reason = seen.success, ""
        except GatewayError as error:
            outcome, reason = outcome_of(error).value, error.reason.value
            raise
        except CancelledError as error:
            # The caller is gone, or the listener ends it and says why: `task.cancel(Reason.OVERLOADED)`.
            why = error.args[0] if error.args else None
            reason = why.value if isinstance(why, Reason) else Reason.CANCELLED.value
            raise
        finally:
            seconds = perf_counter() - started
            if seen.fate is None:
                tally.end(outcome, reason, seconds)
            else:
                outcome, reason = "accepted", ""
                seen.fate.add_done_callback(partial(tally.settle, seconds))
            if self._lines is not None:
                self._lines.add(self._line(call, seen, f'"outcome":"{outcome}","reason":"{reason}"', seconds, trace))

    def _line(self, call: Call, seen: _Seen, result: str, seconds: float, trace: str) -> str:
        """Written by hand: json.dumps of the same object costs three times as much. Only target and peer are the caller's."""
        target = call.target.partition("?")[0][:TARGET_CHARS]
        return (
            f'{{"time":"{_clock()}","id":"{call.id}",{self._named},"target":{quoted(target)},{result},"ms":{seconds * 1000:.3f},'
            f'"messages_in":{seen.messages_in},"messages_out":{seen.messages_out},'
            f'"bytes_in":{seen.bytes_in},"bytes_out":{seen.bytes_out},"trace":"{trace}","peer":{quoted(call.peer)}}}'
        )


class _Seen(Wrapper):
    """Counts what passes, for the log line and, as it passes, for the metrics."""

    __slots__ = ("_tally", "bytes_in", "bytes_out", "fate", "messages_in", "messages_out", "success")

    def __init__(self, inner: Exchange, call: Call, tally: Tally) -> None:
        self.inner = inner
        self.call = call
        self._tally = tally
        self.success = "acknowledged"
        self.fate: Future[Any] | None = None
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0

    async def accept(self, headers: Headers = NO_HEADERS) -> None:
        # 202: kept, to be carried out later.
        if headers and headers.get(":status") == "202":
            self.success = "stored"
        await self.inner.accept(headers)

    async def receive(self) -> Message:
        message = await self.inner.receive()
        size = len(message.body)
        tally = self._tally
        self.messages_in += 1
        self.bytes_in += size
        tally.messages_in += 1
        tally.bytes_in += size
        return message

    async def send(self, message: Message) -> None:
        await self.inner.send(message)
        size = len(message.body)
        tally = self._tally
        self.messages_out += 1
        self.bytes_out += size
        tally.messages_out += 1
        tally.bytes_out += size

    def settle(self, fate: Future[Any]) -> None:
        self.fate = fate


_VALUES_DROPPED = Counter(
    "polygate_header_values_dropped", "Header values that cannot be passed on: no ASCII, no base64.", "protocol"
)
_clock = Clock()


def header_values_dropped(protocol: str, number: int = 1) -> None:
    """Count values of headers that were left out, for no wire could carry them further."""
    _VALUES_DROPPED.add(number, protocol)
