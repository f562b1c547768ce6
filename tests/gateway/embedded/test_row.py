"""How the file tells records from each other."""

from __future__ import annotations

from gateway.embedded.row import offset_of, record_id


def test_an_id_holds_the_partition_and_the_offset():
    assert 2**40 - 1 == offset_of(record_id(5, 2**40 - 1))
    assert record_id(5, 2**40 - 1) < record_id(6, 0)
