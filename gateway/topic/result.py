"""The verb `results`: the answer to a question that was asked before, by the id that its caller was given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar

from pydantic import Field

from gateway.codec import Contract
from gateway.errors import BackendError, CallerError, FieldError, Reason, RetryAfter
from gateway.exchange import Exchange, Handler
from gateway.framing import SSE
from gateway.message import JSON, Headers, Many, Notice
from gateway.state import State
from gateway.target import Target, TargetConfig
from gateway.topic.answer import Answer, Pending, name_of, read
from gateway.topic.correlation import later
from gateway.topic.preference import MAX_WAIT_S, RPC, preference_of
from gateway.topic.write import DEFAULT_S, Receipt

POLL_S = 1
ID = "id"
WAIT = "wait"


class ResultsOf(TargetConfig):
    """Answer with the reply to a question that was asked through `later`, or with what has become of it so far."""

    verb: ClassVar[str] = "results"
    safe: ClassVar[bool] = True
    own: ClassVar[bool] = True
    awaited: ClassVar[bool] = True

    results: str = Field(min_length=1, examples=["quotes.asked"])
    """The topic that was asked, as the route with `ask:` and `later:` writes it. The question is the one of the path variable or
    field `id`.
    """

    def needs(self) -> AbstractSet[str]:
        return {"state"}

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        if contract is not None and contract.request.binary and ID not in contract.request.fields:
            return (f"{contract.request.name} has no field id, by which a caller could say which answer it wants",)
        return ()


class ResultBelow(ResultsOf):
    """The same at the path of the question, with the id behind: its call alone says it all."""

    reads: ClassVar[bool] = False

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        del contract
        return ()


async def taken(exchange: Exchange, secret: str, state: str, headers: Headers) -> None:
    """Answer that the answer is still to come."""
    head = Headers(((":status", "202"), ("retry-after", str(POLL_S)), ("cache-control", "no-store")))
    await exchange.accept(head.plus(*headers))
    await exchange.send(Notice(Receipt(id=secret, state=state).body(), JSON))


def results(target: Target, spec: ResultsOf) -> Handler:
    """The handler of one results target."""
    content_type, state = target.content_type, target.state

    async def run(exchange: Exchange) -> None:
        assert state is not None  # noqa: S101  it says that it needs it
        call = exchange.call
        secret, wait = await _asked(exchange, target)
        name = name_of(spec.backend, later(spec.results, secret))
        found, kept = await _found(state, name)
        streams = call.accepts == SSE and call.many is not Many.NEITHER
        if streams:
            await exchange.accept(Headers((("cache-control", "no-store"),)))
        if isinstance(found, Pending) and (streams or wait):
            loop = asyncio.get_running_loop()
            until = None if streams else min(call.due(DEFAULT_S), loop.time() + wait)
            found = await _awaited(state, name, kept, until)
        if isinstance(found, Answer):
            message = found.message(content_type)
            await exchange.accept(Headers((("cache-control", "no-store"),)))
            await exchange.send(message)
        elif call.protocol in RPC:
            raise BackendError(Reason.TIMED_OUT, "the answer has not come yet", details=(RetryAfter(POLL_S),))
        else:
            await taken(exchange, secret, "pending", Headers())

    return run


async def _asked(exchange: Exchange, target: Target) -> tuple[str, float]:
    """Which question, and for how many seconds the caller waits: over RPC, whose replies have one type, for as long as it has."""
    call = exchange.call
    fields: Mapping[str, object] = {}
    if ID not in call.params:
        fields = target.fields((await exchange.receive()).body)
    secret = call.params.get(ID) or fields.get(ID)
    if not isinstance(secret, str) or not secret:
        raise CallerError(Reason.MALFORMED, "id is missing", details=(FieldError(f"/{ID}", "is missing"),))
    said = fields.get(WAIT, dict(call.query).get(WAIT))
    if said not in {None, ""}:
        return secret, _seconds(said)
    wait = preference_of(call).wait
    return secret, (float(MAX_WAIT_S) if call.protocol in RPC else 0.0) if wait is None else wait


def _seconds(said: object) -> float:
    text = str(said)
    if not text.isascii() or not text.isdigit() or int(text) > MAX_WAIT_S:
        wrong = f"must be whole seconds, {MAX_WAIT_S} at the most"
        raise CallerError(Reason.MALFORMED, f"{WAIT} {wrong}", details=(FieldError(f"/{WAIT}", wrong),))
    return float(text)


async def _found(state: State, name: str) -> tuple[Pending | Answer, bytes]:
    """What has become of a question. CallerError where there is none of this id, or its time is over."""
    kept = await state.get(name)
    if kept is None:
        raise _gone()
    return read(kept), kept


async def _awaited(state: State, name: str, known: bytes, until: float | None) -> Pending | Answer:
    """What becomes of a question that had no answer yet; the same where nothing does in time."""
    try:
        async with asyncio.timeout_at(until):
            kept = await state.changed(name, known)
    except TimeoutError:
        kept = known
    if kept is None:
        raise _gone()
    return read(kept)


def _gone() -> CallerError:
    return CallerError(Reason.NOT_FOUND, "there is no such answer, or the time is over for which it was kept")
