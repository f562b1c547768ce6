"""What the config of a target says unless it says otherwise."""

from __future__ import annotations

from gateway.codec import Contract
from gateway.message import Many
from gateway.target import TargetConfig


def test_a_target_that_calls_streams_as_its_contract_says_and_another_as_its_verb():
    class Call(TargetConfig):
        verb = "call"

    class Feed(TargetConfig):
        verb = "tail"
        streams = Many.REPLIES

    contract = Contract("t.S/M", None, None, Many.BOTH)
    assert Many.BOTH == Call(backend="b").many(contract)
    assert Many.NEITHER == Call(backend="b").many(None)
    assert Many.REPLIES == Feed(backend="b").many(contract)
