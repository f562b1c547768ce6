"""What a writer is told."""

from __future__ import annotations

import json

from gateway.topic.log import Place
from gateway.topic.write import Receipt


def test_the_receipt_of_a_written_record_is_its_place():
    receipt = Receipt(Place("t", 2, 7, 1_700_000_000_123))
    assert {"topic": "t", "partition": 2, "offset": 7, "timestamp": "2023-11-14T22:13:20.123Z"} == json.loads(receipt.body())
    assert "201" == receipt.head.get(":status")


def test_the_receipt_of_one_that_is_written_later_is_its_id_and_how_safe_it_is():
    receipt = Receipt(id="7", state="stored")
    assert {"id": "7", "state": "stored"} == json.loads(receipt.body())
    assert "202" == receipt.head.get(":status")


def test_a_receipt_says_zeros_too():
    assert b'{"topic":"t","partition":0,"offset":0,"timestamp":"1970-01-01T00:00:00.000Z"}' == Receipt(Place("t", 0, 0, 0)).body()
