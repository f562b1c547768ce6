"""What is kept of a key, and what is found of it in a topic."""

from __future__ import annotations

import pytest

from gateway.message import Headers, Message
from gateway.topic.attempt import MARK, Attempt, Overtaken, find, read
from gateway.topic.log import Place
from gateway.topic.write import Receipt
from tests.fake_log import FakeLog

ATTEMPT = Attempt("f", "me", 35.5, since={"orders": {0: 3, 1: 0}})


def test_an_attempt_is_read_as_it_was_written():
    assert read(ATTEMPT.written()) == ATTEMPT


def test_receipts_of_every_kind_are_read_as_they_were_written():
    receipts = (Receipt(Place("orders", 1, 7, 1_700_000_000_123)), Receipt(id="a-1", state="stored"))
    assert receipts == read(ATTEMPT.ended(receipts).written()).receipts


def mark(number, key="k"):
    return Message(b"x", headers=Headers(((MARK, f"{key}.{number}"),)))


async def test_marked_records_are_found_wherever_they_stand():
    log = FakeLog({"orders": 3, "bills": 1})
    log.put("orders", mark(0), 0)
    since = {"orders": await log.ends("orders"), "bills": {0: 0}}
    for number, partition in enumerate((1, 0)):
        log.put("orders", mark(9, "other"), partition)
        log.put("orders", mark(number), partition)
    log.put("bills", mark(2))
    found = await find(log, "k", since, 3)
    assert [("orders", 1, 1), ("orders", 0, 2), ("bills", 0, 0)] == [
        (one.place.topic, one.place.partition, one.place.offset) for one in found
    ]


class Unheard(FakeLog):
    """Of a gateway that has heard of a topic's second partition only once somebody else has named it to it."""

    heard = 1

    async def starts(self, topic, *, named=()):
        self.heard = max(self.heard, len(named))
        return {number: start for number, start in (await super().starts(topic)).items() if number < self.heard}

    async def ends(self, topic):
        return {number: end for number, end in (await super().ends(topic)).items() if number < self.heard}


async def test_records_are_found_in_a_partition_of_which_another_gateway_has_heard_before():
    """Else they were written once more."""
    log = Unheard({"orders": 2})
    log.put("orders", mark(0), 1)
    assert [Place("orders", 1, 0, 1_700_000_000_000)] == [one.place for one in await find(log, "k", {"orders": {0: 0, 1: 0}}, 1)]


async def test_nothing_is_found_where_not_all_are_there():
    log = FakeLog({"orders": 1})
    assert await find(log, "k", {"orders": {0: 0}}, 1) is None
    log.put("orders", mark(0))
    assert await find(log, "k", {"orders": {0: 1}}, 1) is None
    assert await find(log, "k", {"orders": {0: 0}}, 2) is None


async def test_a_topic_that_has_lost_the_place_tells_nothing():
    log = FakeLog({"orders": 1})
    for _ in range(3):
        log.put("orders", mark(0, "other"))
    log.drop("orders", 2)
    with pytest.raises(Overtaken):
        await find(log, "k", {"orders": {0: 1}}, 1)


async def test_where_no_place_was_known_the_whole_topic_tells_unless_it_has_lost_some():
    log = FakeLog({"orders": 1})
    log.put("orders", mark(0, "other"))
    log.put("orders", mark(0))
    assert [1] == [one.place.offset for one in await find(log, "k", {"orders": {}}, 1)]
    log.drop("orders", 1)
    with pytest.raises(Overtaken):
        await find(log, "k", {"orders": {}}, 1)
