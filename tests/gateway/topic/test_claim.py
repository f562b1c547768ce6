"""What becomes of a key by what becomes of the attempt that holds it. What callers see of it is proved in test_once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, Reason
from gateway.message import Headers, Message
from gateway.topic.attempt import MARK, Attempt, read
from gateway.topic.claim import Claims
from gateway.topic.idempotency import Idempotency
from gateway.topic.log import Place
from gateway.topic.write import Receipt
from tests.fake_log import FakeLog, unreachable
from tests.gateway.topic.kept import shelf, state_log

SINCE = {"orders": {0: 0}}
MINE, OTHER = Attempt("f", "mine", 60.0, since=SINCE), Attempt("f", "other", 60.0, since=SINCE)


@pytest.fixture
def log():
    return FakeLog({"orders": 1})


@pytest.fixture
async def state():
    async with shelf(state_log()) as state:
        yield state


@pytest.fixture
def claims(log, state):
    return Claims(log, state, "r", Idempotency(settle=30))


async def held(state) -> Attempt | None:
    """Who holds the key by now."""
    value = await state.get("idempotency:k")
    return None if value is None else read(value)


def soon() -> float:
    return asyncio.get_running_loop().time() + 20


async def test_of_two_attempts_one_has_the_key_and_the_other_is_told_whose_it_is(claims):
    assert None is await claims.claim("k", MINE, None)
    assert MINE == read(await claims.claim("k", OTHER, None))


async def test_a_key_holds_the_receipts_of_the_attempt_that_has_ended(claims, state):
    receipt = Receipt(Place("orders", 0, 7, 1))

    async def write():
        return [receipt]

    await claims.claim("k", MINE, None)
    assert [receipt] == await claims.write("k", MINE, write)
    assert (receipt,) == (await held(state)).receipts


async def failing(claims, error):
    """An attempt that fails."""

    async def write():
        raise error

    await claims.claim("k", MINE, None)
    with pytest.raises(BackendError):
        await claims.write("k", MINE, write)


async def test_a_definite_failure_lets_the_key_go(claims, state):
    await failing(claims, unreachable())
    assert None is await held(state)


async def test_a_doubt_holds_the_key_for_the_time_that_the_route_says(claims, state):
    await failing(claims, BackendError(Reason.UNKNOWN_OUTCOME, "no answer"))
    doubt = await held(state)
    assert (True, 30) == (doubt.doubt, doubt.wait)
    assert not claims.free("k", doubt.written(), doubt)


async def test_what_an_attempt_has_written_is_found_in_its_topic_and_its_receipt_is_kept(claims, log, state):
    await claims.claim("k", OTHER, None)
    there = OTHER.written()
    assert None is await claims.found("k", there, OTHER, 1, soon())
    place = log.put("orders", Message(b"x", headers=Headers(((MARK, "k.0"),))))
    assert [Receipt(place)] == await claims.found("k", there, OTHER, 1, soon())
    assert (Receipt(place),) == (await held(state)).receipts


async def test_while_the_topic_cannot_be_read_what_another_attempt_has_written_is_unknown(claims, log):
    log.broken = unreachable()
    with pytest.raises(BackendError) as caught:
        await claims.found("k", OTHER.written(), OTHER, 1, soon())
    assert Reason.UNKNOWN_OUTCOME == caught.value.reason


async def test_nobody_takes_an_attempt_of_this_process_for_one_that_is_dead(claims):
    going_on = asyncio.Event()

    async def write():
        await going_on.wait()
        return [Receipt(Place("orders", 0, 7, 1))]

    dead = Attempt("f", "dead", 0.0)
    assert claims.free("k", dead.written(), dead)
    async with asyncio.TaskGroup() as group:
        group.create_task(claims.write("k", dead, write))
        await asyncio.sleep(0)
        assert not claims.free("k", dead.written(), dead)
        going_on.set()


async def test_an_attempt_is_left_alone_anew_once_a_broker_that_was_away_is_back(claims, log):
    there = OTHER.written()
    claims.left("k", there, OTHER)
    await asyncio.sleep(0.01)
    before = claims.left("k", there, OTHER)
    log.broken = unreachable()
    with pytest.raises(BackendError):
        await claims.found("k", there, OTHER, 1, soon())
    assert claims.left("k", there, OTHER) > before
