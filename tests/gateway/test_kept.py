"""What the gateway keeps beside its backends."""

from __future__ import annotations

from gateway.kept import NOTHING_KEPT
from gateway.port import Target
from gateway.topic.publish import PublishTo


async def test_a_target_that_needs_nothing_is_given_nothing():
    target = Target("r", PublishTo(backend="b", publish="t"))
    assert target is NOTHING_KEPT.given(target)
