"""What a caller of a tail says meanwhile. How its stream goes by that is proved in test_tail and test_subscriber."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import CallerError, Reason
from gateway.topic.turn import Turn


async def test_without_credit_everything_may_be_sent():
    turn = Turn(None, None)
    for number in range(100):
        await turn.next(f"0:{number}")


async def test_credit_adds_up_and_what_is_not_sent_gives_it_back():
    turn = Turn(1, None)
    turn.say({"credit": 1})
    await turn.next("0:1")
    await turn.next("0:2")
    waiting = asyncio.get_running_loop().create_task(turn.next("0:3"))
    await asyncio.sleep(0)
    assert not waiting.done()
    turn.say({"credit": "2"})
    async with asyncio.timeout(10):
        await waiting
        turn.unsent("0:3")
        await turn.next("0:4")
        await turn.next("0:5")


@pytest.mark.parametrize("said", [{"credits": 1}, {"credit": 1.5}, {"credit": True}, {"ack": "0:1"}])
async def test_anything_else_is_refused(said):
    with pytest.raises(CallerError) as caught:
        Turn(None, None).say(said)
    assert Reason.MALFORMED == caught.value.reason


async def test_what_is_empty_or_0_is_as_good_as_absent():
    Turn(None, None).say({"credit": 0, "ack": "", "start": ""})
