"""Pauses between tries."""

from __future__ import annotations

import pytest

from gateway import backoff as module
from gateway.backoff import Backoff, pause


@pytest.mark.parametrize(("tries", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (6, 2.0), (2000, 2.0), (10**9, 2.0)])
def test_pauses_grow_to_a_bound_with_jitter(tries, longest):
    pauses = [pause(tries, (0.1, 2.0)) for _ in range(100)]
    assert all(longest / 2 <= one <= longest for one in pauses)
    assert 1 < len(set(pauses))


async def test_who_fails_again_waits_twice_as_long_until_something_has_worked(monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    backoff = Backoff((1.0, 3.0))
    for _ in range(3):
        await backoff.wait()
    assert [1.0, 2.0, 3.0] == waited
    assert 3.0 == backoff.seconds
    backoff.reset()
    await backoff.wait()
    assert 1.0 == waited[-1]
