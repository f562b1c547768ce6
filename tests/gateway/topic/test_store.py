"""The write that goes through the spool."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, Reason
from gateway.exchange import Call
from gateway.message import Message
from gateway.topic.store import stored
from gateway.topic.write import DEFAULT_S
from tests.fake_spool import FakeSpool

CALL = Call("1", "rest", "POST /")


async def test_the_receipt_has_the_id_that_the_spool_gave():
    spool = FakeSpool()
    receipt = await stored(spool)(CALL, "t", Message(b"x", key=b"k"), 2)
    assert ("1", "stored", None) == (receipt.id, receipt.state, receipt.place)
    assert [("t", b"x", 2)] == [(topic, message.body, partition) for topic, message, partition in spool.records]


async def test_it_ends_before_the_call_does():
    spool = FakeSpool()
    now = asyncio.get_running_loop().time()
    await stored(spool)(Call("1", "rest", "POST /", deadline=now + 10), "t", Message(b"x"), None)
    await stored(spool)(CALL, "t", Message(b"x"), None)
    assert now + 9 < spool.deadlines[0] < now + 10
    assert now + DEFAULT_S <= spool.deadlines[1]


async def test_a_spool_that_takes_nothing_is_the_failure_of_the_call():
    spool = FakeSpool()
    spool.broken = BackendError(Reason.OVERLOADED, "full")
    with pytest.raises(BackendError, match="full"):
        await stored(spool)(CALL, "t", Message(b"x"), None)
