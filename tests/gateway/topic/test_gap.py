"""Gaps: what a caller is not sent is told or counted."""

from __future__ import annotations

import json

from gateway.message import JSON
from gateway.topic.gap import Why, between, gap


def test_a_gap_says_where_it_begins_and_ends_why_and_how_large_it_is_at_the_most():
    notice = gap({0: 3, 1: 7}, {0: 5, 1: 7}, Why.RETENTION)
    assert {"from": "0:3,1:7", "to": "0:5,1:7", "reason": "retention", "records": 2} == json.loads(notice.body)
    assert ("gap", "0:5,1:7", JSON) == (notice.name, notice.cursor, notice.content_type)


def test_partitions_that_one_place_does_not_know_hold_nothing_between():
    assert 2 == between({0: 3}, {0: 5, 1: 7})
    assert 0 == between({0: 5}, {0: 3})
