from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from gateway import channel
from gateway.channel import Channel, GoneError


@pytest.fixture
async def ends():
    """Give the maker of two ends, open."""
    async with AsyncExitStack() as stack:

        async def make(one, other):
            left, right = socket.socketpair()
            return await stack.enter_async_context(Channel(left, one)), await stack.enter_async_context(Channel(right, other))

        yield make


async def nothing(_word, _said):
    raise AssertionError("nobody asks this end")


async def test_either_end_asks_and_the_other_answers(ends):
    async def twice(word, said):
        return [word, said, said]

    async def once(word, said):
        return {word: said}

    left, right = await ends(once, twice)
    assert ["a", 1, 1] == await left.ask("a", 1)
    assert {"b": None} == await right.ask("b")


async def test_several_questions_are_open_at_once_and_answered_in_any_order(ends):
    first = asyncio.Event()

    async def answer(word, _said):
        if word == "slow":
            await first.wait()
        return word

    left, _ = await ends(nothing, answer)
    slow = asyncio.get_running_loop().create_task(left.ask("slow"))
    assert "fast" == await left.ask("fast")
    first.set()
    assert "slow" == await slow


async def test_an_answer_may_be_long(ends):
    async def answer(_word, said):
        return said * 1_000_000

    left, _ = await ends(nothing, answer)
    assert 1_000_000 == len(await left.ask("more", "x"))


async def test_who_does_not_answer_in_time_is_gone(ends):
    async def never(_word, _said):
        await asyncio.Event().wait()

    left, _ = await ends(nothing, never)
    with pytest.raises(GoneError, match=r"does not answer within 0\.01 s"):
        await left.ask("anything", seconds=0.01)


async def test_an_answer_that_comes_too_late_is_for_nobody(ends):
    late = asyncio.Event()

    async def answer(word, _said):
        if word == "late":
            await late.wait()
        return word

    left, _ = await ends(nothing, answer)
    with pytest.raises(GoneError):
        await left.ask("late", seconds=0.01)
    late.set()
    assert "next" == await left.ask("next")


async def test_an_end_that_closes_ends_what_was_asked(ends):
    async def never(_word, _said):
        await asyncio.Event().wait()

    left, right = await ends(nothing, never)
    asked = asyncio.get_running_loop().create_task(left.ask("anything"))
    await asyncio.sleep(0)
    await right.__aexit__()
    with pytest.raises(GoneError, match="has ended"):
        await asked
    assert left.gone.is_set()
    with pytest.raises(GoneError, match="has ended"):
        await left.ask("more")


async def test_an_end_that_fails_to_answer_says_so_and_goes_on(ends, caplog):
    async def answer(word, _said):
        if word == "bad":
            raise ValueError("secret")
        return word

    left, _ = await ends(nothing, answer)
    with pytest.raises(GoneError, match="ValueError"):
        await left.ask("bad")
    assert "no answer to another process: bad" in caplog.text
    assert "good" == await left.ask("good")


async def test_what_waits_for_an_end_that_reads_nothing_is_bounded(monkeypatch):
    monkeypatch.setattr(channel, "MAX_UNREAD", 1 << 20)
    said: list[str] = []
    left, right = socket.socketpair()
    with right:
        async with Channel(left, nothing) as one:
            while len(said) < 100 and "reads nothing" not in said:
                try:
                    await one.ask("much", "x" * (1 << 16), seconds=0.001)
                except GoneError as error:
                    said.append(str(error))
    assert "reads nothing" == said[-1]
    assert len(said) < 30
