"""The write that falls back to the spool where the broker is away, and keeps the order of each key while it does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.exchange import Call
from gateway.message import Message
from gateway.status import outcome_of
from gateway.target import Spool
from gateway.topic.store import stored
from gateway.topic.write import DEFAULT_S, Receipt, Write, lane

# Of what a call has left, a half and at the most so much is kept back for storing.
RESERVE_S = 2.0
# The definite failures that say nothing of the record itself.
_AWAY = frozenset({Reason.UNREACHABLE, Reason.OVERLOADED})


@dataclass(slots=True, eq=False)
class _Turn:
    """One record on its way."""

    verdict: asyncio.Future[bool] | None = None
    """Whether it may be stored; None while it is with the broker."""
    failed: bool = False
    """The broker surely has not written it, and will not."""
    overtaken: bool = False
    """A later one of its key is written, or may be."""


class _Lane:
    """The records of one key that are on their way, in the order in which they came.

    One that the broker did not take may be stored only if no later one is written, or may be. So it waits for those; and what
    comes while it waits goes behind it.
    """

    def __init__(self) -> None:
        self.turns: list[_Turn] = []

    @property
    def falling(self) -> bool:
        """Whether one of them is to be stored."""
        return any(turn.verdict is not None for turn in self.turns)

    async def may_store(self, turn: _Turn, until: float) -> bool:
        """Whether a record that is not written keeps its order if it is stored now. False once it is `until`."""
        loop = asyncio.get_running_loop()
        turn.verdict = loop.create_future()
        loop.call_soon(self._decide)  # once this one waits as well: they go on in the order in which they are told
        try:
            async with asyncio.timeout_at(until):
                return await turn.verdict
        except TimeoutError:
            return False

    def end(self, turn: _Turn) -> None:
        """It is answered."""
        at = self.turns.index(turn)
        if not turn.failed:
            for before in self.turns[:at]:
                before.overtaken = True
        del self.turns[at]
        self._decide()

    def _decide(self) -> None:
        if any(turn.verdict is None for turn in self.turns):
            return
        for turn in self.turns:
            if turn.verdict is not None and not turn.verdict.done():
                turn.verdict.set_result(not turn.overtaken)


def falling_back(write: Write, spool: Spool) -> Write:
    """Written as it is told or, where it surely was not and will not be for the broker is away, stored."""
    store = stored(spool)
    lanes: dict[object, _Lane] = {}

    async def run(call: Call, topic: str, record: Message, partition: int | None) -> Receipt:
        if spool.holds(topic, record, partition=partition):
            return await store(call, topic, record, partition)
        key = lane(topic, record.key, partition) or object()
        kept = lanes.setdefault(key, _Lane())
        failure = _WAITS if kept.falling else None
        turn = _Turn(failed=failure is not None)
        kept.turns.append(turn)
        try:
            if failure is None:
                try:
                    return await write(_earlier(call), topic, record, partition)
                except GatewayError as error:
                    turn.failed = outcome_of(error) is Outcome.FAILED
                    if error.reason not in _AWAY:
                        raise
                    failure = error
            if not await kept.may_store(turn, call.due(DEFAULT_S)):
                raise failure
            return await store(call, topic, record, partition)
        finally:
            kept.end(turn)
            if not kept.turns:
                del lanes[key]

    return run


_WAITS: GatewayError = BackendError(Reason.UNREACHABLE, "the broker does not answer, and records of its key wait before this one")


def _earlier(call: Call) -> Call:
    """The call with less time, so that some is left for storing."""
    now, due = asyncio.get_running_loop().time(), call.due(DEFAULT_S)
    return call.but(deadline=due - min((due - now) / 2, RESERVE_S))
