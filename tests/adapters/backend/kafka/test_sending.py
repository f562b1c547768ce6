"""The queue in front of a partition, and the budget that all of them share."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from adapters.backend.kafka.record import RECORD_OVERHEAD
from adapters.backend.kafka.sending import FEW, SHARE, Budget, Lane, Sending
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.topic.log import Place

NUMBERS = count()


async def record(route: str = "r", size: int = 1000) -> Sending:
    one = Sending(Message(b"%d" % next(NUMBERS) + bytes(size - RECORD_OVERHEAD - 8)), route)
    one.place = asyncio.get_running_loop().create_future()
    return one


def lane(limit: int = 64 << 10) -> Lane:
    return Lane("t", 0, 1, limit)


async def put(into: Lane, many: int, route: str = "r", size: int = 1000) -> list[Sending]:
    records = [await record(route, size) for _ in range(many)]
    for one in records:
        into.put(one)
    return records


async def until_full(budget: Budget, route: str) -> Reason:
    """Take records for a route until one is refused, and why."""
    with pytest.raises(BackendError) as caught:
        await filling(budget, route)
    return caught.value.reason


async def filling(budget: Budget, route: str) -> None:
    while True:
        budget.take(await record(route))


async def test_records_leave_in_the_order_they_came_a_batch_at_a_time():
    one = lane(limit=10_000)
    records = await put(one, 25)
    taken = [one.take() for _ in range(4)]
    assert records == [each for batch in taken for each in batch]
    assert [] == taken[3]
    assert not one.waits
    assert all(sum(each.size for each in batch) <= 10_000 for batch in taken)


async def test_a_record_larger_than_a_batch_makes_one_of_its_own():
    one = lane(limit=5000)
    records = [*await put(one, 1), *await put(one, 1, size=50_000), *await put(one, 1)]
    assert [[each] for each in records] == [one.take(), one.take(), one.take()]


async def test_a_record_that_is_handed_over_says_so_and_one_that_waits_does_not():
    one = lane(limit=2000)
    first, second, third = await put(one, 3)
    one.take()
    assert [True, True, False] == [each.handed for each in (first, second, third)]


async def test_a_route_that_floods_does_not_hold_up_another():
    one = lane()
    await put(one, 1000, "flood")
    (quiet,) = await put(one, 1, "quiet")
    assert quiet in one.take()


@pytest.mark.parametrize(("small", "large"), [(1000, 1000), (200, 8000), (1000, 60_000)])
async def test_routes_share_by_bytes_whatever_the_size_of_their_records(small, large):
    one = lane()
    await put(one, 4_000_000 // small, "small", small)
    await put(one, 4_000_000 // large, "large", large)
    sent = {"small": 0, "large": 0}
    while sum(sent.values()) < 2_000_000:
        for each in one.take():
            sent[each.route] += each.size
    assert 0.9 < sent["small"] / sent["large"] < 1.1


async def test_each_route_keeps_its_order_among_others():
    one = lane(limit=3000)
    records = {route: await put(one, 40, route, 700) for route in ("a", "b", "c")}
    taken: list[Sending] = []
    while one.waits:
        taken.extend(one.take())
    assert records == {route: [each for each in taken if each.route == route] for route in records}


async def test_a_record_that_was_ended_while_it_waited_is_never_taken():
    one = lane()
    records = await put(one, 6)
    records[0].place.cancel()
    records[3].place.set_result(Place("t", 0, 0, 0))
    one.withdrawn()
    one.withdrawn()
    assert [records[1], records[2], records[4], records[5]] == one.take()
    assert not one.waits


async def test_those_that_were_ended_do_not_pile_up_while_nothing_is_taken():
    one = lane()
    (stays,) = await put(one, 1, "other")
    for _ in range(50):
        for each in await put(one, FEW):
            each.place.cancel()
            one.withdrawn()
    assert 2 * FEW >= sum(len(line.records) for line in one._lines.values())
    assert [stays] == one.take()


async def test_what_is_given_back_goes_before_all_that_waits_and_can_be_withdrawn_again():
    one = lane(limit=2000)
    records = await put(one, 4)
    batch = one.take()
    one.give_back(batch)
    assert [False] * 4 == [each.handed for each in records]
    records[0].place.cancel()
    one.withdrawn()
    assert [records[1:3], records[3:]] == [one.take(), one.take()]


async def test_everything_that_waits_can_be_taken_away_at_once():
    one = lane(limit=1000)
    records = await put(one, 5)
    one.give_back(one.take())
    records[4].place.cancel()
    assert records[:4] == one.emptied()
    assert not one.waits
    assert [] == one.take()


async def test_a_full_budget_is_overload_and_what_is_released_makes_room():
    budget = Budget(10_000)
    first = [await record("a") for _ in range(5)]
    for one in first:
        budget.take(one)
    for _ in range(3):
        budget.take(await record("b"))
    assert Reason.OVERLOADED == await until_full(budget, "b")
    before = budget.held
    for one in first:
        budget.release(one)
        budget.release(one)
    assert before - 5 * 1000 <= budget.held < before
    budget.take(await record("b"))


async def test_one_route_alone_leaves_room_for_another():
    budget = Budget(100_000)
    await until_full(budget, "flood")
    assert 100_000 * SHARE / (SHARE + 1) >= budget.held > 100_000 * SHARE / (SHARE + 1) - 2000
    for _ in range(5):
        budget.take(await record("quiet"))


async def test_a_route_that_holds_nothing_gets_its_first_record_in_while_there_is_room_for_it():
    budget = Budget(10_000)
    budget.take(await record("a", 9_900))
    assert 1 == budget.records


async def test_the_budget_tells_when_nothing_is_held():
    budget = Budget(10_000)
    one = await record()
    budget.take(one)
    assert (1, False) == (budget.records, budget.empty.is_set())
    budget.release(one)
    assert (0, 0, True) == (budget.records, budget.held, budget.empty.is_set())
