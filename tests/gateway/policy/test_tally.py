"""The numbers of exchanges."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.policy.tally import BOUNDS, Tally, tallies, tally_of


def test_an_exchange_is_in_the_bucket_of_the_bound_that_it_has_not_passed():
    tally = Tally()
    for seconds in (BOUNDS[0], BOUNDS[0] * 1.1, BOUNDS[-1] + 1):
        tally.end("acknowledged", "", seconds)
    assert [1, 1, *[0] * (len(BOUNDS) - 2), 1] == tally.buckets


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, ("acknowledged", "")),
        (BackendError(Reason.UNKNOWN_OUTCOME, "no answer"), ("unknown", "unknown_outcome")),
        (BackendError(Reason.UNREACHABLE, "away"), ("dropped", "unreachable")),
        (GatewayError(Reason.OVERLOADED, "cut", outcome=Outcome.UNKNOWN), ("unknown", "overloaded")),
        (ZeroDivisionError(), ("dropped", "cancelled")),
    ],
    ids=["written", "unknown", "refused", "cut", "defect"],
)
async def test_what_was_answered_before_its_fate_was_known_is_counted_by_that(error, outcome):
    tally = Tally()
    fate = asyncio.get_running_loop().create_future()
    if error is None:
        fate.set_result(None)
    else:
        fate.set_exception(error)
    tally.settle(0.1, fate)
    assert {outcome: 1} == tally.outcomes


async def test_what_was_withdrawn_is_dropped():
    tally = Tally()
    fate = asyncio.get_running_loop().create_future()
    fate.cancel()
    tally.settle(0.1, fate)
    assert {("dropped", "cancelled"): 1} == tally.outcomes


def test_a_route_over_a_protocol_counts_on():
    route = uuid4().hex
    assert tally_of("exchanges", route, "rest") is tally_of("exchanges", route, "rest")
    assert tally_of("exchanges", route, "rest") is not tally_of("conversations", route, "rest")
    assert (route, "rest") in tallies()["exchanges"]
