"""Who may begin while the gateway is behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.admission import LEAST, Admission, OverloadConfig
from gateway.errors import CallerError, Reason
from gateway.status import retry_after


class Call:
    """One that waits to begin."""

    def __init__(self, name, told):
        self.name = name
        self.told = told

    def admit(self):
        self.told.append(("admitted", self.name))

    def refuse(self):
        self.told.append(("refused", self.name))


@pytest.fixture
async def admission():
    with Admission() as admission:
        admission.config = OverloadConfig(late=0.02, patience=0.05)
        yield admission


async def fall_behind(admission):
    """Hold the event loop up until the gateway notices."""
    async with asyncio.timeout(10):
        while not admission.late:
            time.sleep(0.1)  # noqa: ASYNC251  that is the fault
            await asyncio.sleep(0)


async def test_while_timers_are_in_time_nobody_waits(admission):
    assert not admission.late
    await admission.turn()


async def test_once_they_are_late_calls_wait_and_the_newest_begin_first(admission):
    await fall_behind(admission)
    told = []
    for number in range(3):
        admission.wait(Call(number, told))
    async with asyncio.timeout(10):
        while len(told) < 3:  # noqa: ASYNC110  one look each time around the loop is what is proved
            await asyncio.sleep(0)
    assert [("admitted", 2), ("admitted", 1), ("admitted", 0)] == told


async def test_one_whose_beginning_goes_wrong_holds_up_no_other(admission):
    class Broken(Call):
        def admit(self):
            raise ValueError(self.name)

    wrong = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: wrong.append(str(context["exception"])))
    await fall_behind(admission)
    told = []
    admission.wait(Call("before", told))
    admission.wait(Broken("broken", told))
    async with asyncio.timeout(10):
        while not told:  # noqa: ASYNC110  one look each time around the loop is what is proved
            await asyncio.sleep(0)
    assert (["broken"], [("admitted", "before")]) == (wrong, told)


async def test_a_round_begins_as_many_as_can_be_answered_in_time_and_who_has_waited_for_long_is_refused(admission):
    await fall_behind(admission)
    told = []
    for number in range(500):
        admission.wait(Call(number, told))
    async with asyncio.timeout(20):
        while len(told) < 500:
            time.sleep(0.03)  # noqa: ASYNC251  every round is late
            await asyncio.sleep(0.001)
    first = told[:LEAST]
    assert [("admitted", number) for number in range(499, 499 - LEAST, -1)] == first
    refused = [number for what, number in told if what == "refused"]
    assert refused == sorted(refused)
    assert len(refused) > 250


async def test_a_task_that_is_refused_is_told_to_come_again(admission):
    await fall_behind(admission)
    admission.config = OverloadConfig(late=10, patience=0.01)
    admission._window = -500  # no round may begin any for a while
    with pytest.raises(CallerError) as refused:
        await admission.turn()
    assert Reason.OVERLOADED is refused.value.reason
    assert retry_after(refused.value) is not None


async def test_it_is_over_once_timers_are_in_time_again(admission):
    await fall_behind(admission)
    async with asyncio.timeout(10):
        while admission.late:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)
        await admission.turn()


async def test_leaving_refuses_who_still_waits():
    told = []
    with Admission() as admission:
        admission.late = True
        admission.wait(Call("a", told))
    assert [("refused", "a")] == told
