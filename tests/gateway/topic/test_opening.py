"""What a caller asks of a tail."""

from __future__ import annotations

import pytest

from gateway.errors import CallerError, Reason
from gateway.message import Message
from gateway.topic.opening import Start, forward, milliseconds_of, place
from tests.fake_log import FakeLog


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1000),
        ("2026-11-21T14:00:00+02:00", 1_795_262_400_000),
        ("2026-11-21T12:00:00Z", 1_795_262_400_000),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01T00:00:00.0001Z", 1),
        ("1969-12-31T23:59:59.25Z", -750),
    ],
)
def test_a_time_is_read_by_rfc_3339(text, milliseconds):
    assert milliseconds == milliseconds_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21",
        "2026-11-21T12:00:00",
        "2026-11-21 12:00:00Z",
        "2026-13-21T12:00:00Z",
        "2026-11-21T24:00:00Z",
        "0:5",
        "",
        "\u0661970-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_no_time(text):
    assert milliseconds_of(text) is None


async def test_a_start_is_a_place():
    log = FakeLog({"t": 2})
    places = [log.put("t", Message(b"x"), partition) for partition in (0, 1, 0, 1)]
    assert Start({0: 2, 1: 2}) == await place(log, "t", "latest")
    assert Start({0: 0, 1: 0}) == await place(log, "t", "earliest")
    assert Start({0: 1, 1: 0}) == await place(log, "t", "0:1")
    log.drop("t", 2, 1)
    assert Start({0: 1, 1: 2}, {0: 1, 1: 1}) == await place(log, "t", "0:1,1:1")
    assert Start({0: 2, 1: 2}) == await place(log, "t", "2099-01-01T00:00:00Z")
    assert places[2].timestamp == 1_700_000_000_002
    assert Start({0: 1, 1: 3 - 1}) == await place(log, "t", "2023-11-14T22:13:20.002Z")


@pytest.mark.parametrize("start", ["yesterday", "2026-11-21", "-15m", "0:9", "7:0"])
async def test_a_start_that_is_none_is_refused(start):
    with pytest.raises(CallerError) as caught:
        await place(FakeLog({"t": 1}), "t", start)
    assert (Reason.MALFORMED, "/start") == (caught.value.reason, caught.value.details[0].pointer)


def test_a_place_is_moved_on_to_where_the_topic_begins_and_never_back():
    assert {0: 5, 1: 3, 2: 0} == forward({0: 5, 1: 1}, {0: 2, 1: 3, 2: 0})
