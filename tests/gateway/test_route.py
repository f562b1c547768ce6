"""What every listener is told of a call: how a refusal is made."""

from __future__ import annotations

import pytest

from gateway.errors import Allowed, CallerError, Outcome, Reason
from gateway.exchange import Call, Memory
from gateway.route import Facts, refusal


async def refused(handler):
    with pytest.raises(CallerError) as caught:
        await handler(Memory(call=Call("1", "rest", "GET /")))
    return caught.value


async def test_a_refusal_says_the_same_to_every_call_in_an_error_of_its_own():
    error = CallerError(Reason.WRONG_METHOD, "no", details=(Allowed(("GET",)),), outcome=Outcome.FAILED)
    handler = refusal(error)
    first, second = await refused(handler), await refused(handler)
    assert first is not second
    for one in (first, second):
        assert (error.reason, error.message, error.details, error.outcome) == (one.reason, one.message, one.details, one.outcome)


def test_of_a_call_no_more_is_known_than_was_said():
    facts = Facts("rest", "GET /")
    assert ({}, (), ()) == (facts.params, tuple(facts.headers), facts.query)
