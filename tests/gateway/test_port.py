"""What the config of a backend says unless it says otherwise."""

from __future__ import annotations

from typing import ClassVar

from gateway.codec import Contract
from gateway.message import Many
from gateway.port import BackendConfig


class Config(BackendConfig):
    kind: str = "plain"
    verbs: ClassVar = {}

    def build(self, name="-"):
        raise NotImplementedError


def test_a_backend_has_no_place_no_storage_and_no_call_of_its_own_unless_it_says_so():
    config = Config()
    assert () == config.hosts()
    assert config.owns() is None
    assert {} == config.calling(Contract("t.S/M", None, None, Many.NEITHER))
    assert not Config.consumable
