"""The gateway's state in a topic: the contract of states over the fake log and the embedded one, then what breaks."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager

import pytest

from gateway.embedded import Embedded, Settings
from gateway.errors import BackendError, Reason
from gateway.message import Message
from gateway.topic import shelf as module
from gateway.topic.shelf import Shelf
from tests.contract.state import LONG_S, MAX_BYTES, PATIENCE_S, SharedContract, StateContract
from tests.fake_log import FakeLog, unreachable
from tests.patience import until

TOPIC = "state"


def clock():
    """Timestamps as a log gives them."""
    return (int(time.time() * 1000) for _ in itertools.count())


def shelf(log, **settings):
    return Shelf(log, TOPIC, **{"max_bytes": MAX_BYTES, "max_age": 86_400, **settings})


class TestOverTheFakeLog(StateContract, SharedContract):
    @pytest.fixture
    async def opened(self):
        log = FakeLog({}, clock())
        return lambda: shelf(log)


class TestOverTheEmbeddedLog(StateContract):
    @pytest.fixture
    async def opened(self, tmp_path):
        @asynccontextmanager
        async def opened():
            async with Embedded(Settings(str(tmp_path / "state.db"))) as log, shelf(log) as state:
                yield state

        return opened


async def ends_with(awaitable):
    with pytest.raises(BackendError) as caught:
        await awaitable
    return caught.value.reason


async def test_a_log_that_is_away_at_first_is_read_once_it_is_there():
    log = FakeLog({}, clock())
    log.broken = unreachable()
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.tried()
        assert Reason.UNREACHABLE == await ends_with(state.get("a"))
        assert Reason.UNREACHABLE == await ends_with(state.claim("a", b"1", LONG_S))
        log.broken = None
        while True:
            try:
                assert await state.claim("a", b"1", LONG_S) is None
                break
            except BackendError:
                await asyncio.sleep(0.01)
        assert b"1" == await state.get("a")


async def test_a_log_that_goes_away_is_not_asked_in_vain_and_nothing_is_forgotten():
    log = FakeLog({}, clock())
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.put("a", b"1", LONG_S)
        log.broken = unreachable()
        assert Reason.UNREACHABLE == await ends_with(state.get("a"))
        assert Reason.UNREACHABLE == await ends_with(state.put("b", b"1", LONG_S))
        assert Reason.UNREACHABLE == await ends_with(state.claim("b", b"1", LONG_S))
        log.broken = None
        assert b"1" == await state.get("a")


async def test_a_topic_that_is_none_to_keep_things_in_is_refused():
    log = FakeLog({TOPIC: 1}, clock())
    async with shelf(log) as state:
        await state.tried()
        assert Reason.REFUSED == await ends_with(state.get("a"))


async def test_a_topic_that_was_made_anew_is_read_anew():
    log = FakeLog({}, clock())
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        for key in ("a", "b"):
            await state.put(key, b"1", LONG_S)
        assert b"1" == await state.get("a")
        log.remake(TOPIC)
        while True:
            try:
                if await state.get("a") is None:
                    break
            except BackendError:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)
        await state.put("a", b"2", LONG_S)
        assert b"2" == await state.get("a")


async def test_records_of_others_in_the_topic_say_nothing():
    log = FakeLog({}, clock())
    await log.make_compacted(TOPIC, 1)
    log.put(TOPIC, Message(b"foreign", key=b"a"))
    async with shelf(log) as state:
        assert await state.get("a") is None


class Doubtful(FakeLog):
    """A log that does not tell whether it has written, or that is slow to be read."""

    def __init__(self):
        super().__init__({}, clock())
        self.doubt = False
        self.stalls = asyncio.Event()
        self.stalls.set()

    async def append(self, topic, message, deadline, *, partition=None, route=""):
        place = await super().append(topic, message, deadline, partition=partition, route=route)
        if self.doubt:
            raise BackendError(Reason.UNKNOWN_OUTCOME, "no word of it")
        return place

    async def changed(self):
        await super().changed()
        await self.stalls.wait()


async def claimed(state, key, value):
    """Claim a key that another claim is about to let go."""
    while await state.claim(key, value, LONG_S) is not None:  # noqa: ASYNC110  that tells nobody
        await asyncio.sleep(0)


async def test_a_claim_in_doubt_is_none_and_its_key_is_let_go_once_it_is_found():
    log = Doubtful()
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.tried()
        log.doubt = True
        assert Reason.UNREACHABLE == await ends_with(state.claim("a", b"1", LONG_S))
        log.doubt = False
        await claimed(state, "a", b"2")
        assert b"2" == await state.get("a")


async def test_a_claim_that_is_not_met_in_time_is_none_and_its_key_is_let_go_once_it_is_found(monkeypatch):
    log = Doubtful()
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.tried()
        monkeypatch.setattr(module, "WRITE_S", 0.05)
        log.stalls.clear()
        assert Reason.UNREACHABLE == await ends_with(state.claim("a", b"1", LONG_S))
        monkeypatch.undo()
        log.stalls.set()
        await claimed(state, "a", b"2")
        assert b"2" == await state.get("a")


async def test_a_claim_that_cannot_be_let_go_is_told_and_stays_until_its_time_is_over(caplog):
    log = Doubtful()
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.tried()

        async def drop(_key, *, known=None):
            del known
            raise unreachable()

        state.drop, log.doubt = drop, True
        assert Reason.UNREACHABLE == await ends_with(state.claim("a", b"1", LONG_S))
        await until(lambda: "a claim that nobody waits for stays" in caplog.text)
        assert b"1" == await state.get("a")


async def test_what_cannot_be_let_go_of_in_the_log_is_let_go_of_later(monkeypatch, caplog):
    monkeypatch.setattr(module, "SWEEP_S", 0.01)
    log = FakeLog({}, clock())
    forget, tries = log.forget, []

    async def away(topic, offsets):
        tries.append(list(offsets))
        if len(tries) == 1:
            raise unreachable()
        await forget(topic, offsets)

    log.forget = away
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        for number in range(2):
            await state.put("a", b"%d" % number, LONG_S)
        await until(lambda: len(log.topics[TOPIC][0]) == 1)
        assert b"1" == await state.get("a")
    assert [[0], [0]] == tries[:2]
    assert "cannot be let go yet" in caplog.text


async def test_a_defect_while_reading_is_told_and_the_state_is_read_on(monkeypatch, caplog):
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.01))
    log = FakeLog({}, clock())
    async with shelf(log) as state, asyncio.timeout(PATIENCE_S):
        await state.put("a", b"1", LONG_S)
        log.broken = RuntimeError("a defect")
        log.wake()
        await until(lambda: "the gateway's state cannot be read" in caplog.text)
        log.broken = None
        await state.put("a", b"2", LONG_S)
        assert b"2" == await state.get("a")


async def test_what_is_over_goes_from_the_log_too(tmp_path):
    settings = Settings(str(tmp_path / "state.db"))
    async with asyncio.timeout(PATIENCE_S), Embedded(settings) as log, shelf(log) as state:
        for number in range(50):
            await state.put("a", b"%d" % number, LONG_S)
        await state.put("b", b"1", LONG_S)
        await state.drop("b")
        await state.put("c", b"1", LONG_S)
        while await held(log) > 2:  # noqa: ASYNC110  what is let go tells nobody
            await asyncio.sleep(0.05)
    async with Embedded(settings) as log, shelf(log) as state:
        assert [b"49", None, b"1"] == [await state.get(key) for key in "abc"]


async def held(log):
    """How many records a topic holds."""
    end = (await log.ends(TOPIC))[0]
    number = 0
    async with log.reading(TOPIC, {0: 0}) as reader:
        while reader.at[0] < end:
            number += len(await reader.read())
    return number
