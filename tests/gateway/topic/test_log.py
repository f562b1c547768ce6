"""The port of a log, as far as it has code."""

from __future__ import annotations

from gateway.topic.log import rfc3339


def test_a_timestamp_is_written_in_utc_to_the_millisecond():
    assert "1970-01-01T00:00:00.000Z" == rfc3339(0)
    assert "2023-11-14T22:13:20.007Z" == rfc3339(1_700_000_000_007)
