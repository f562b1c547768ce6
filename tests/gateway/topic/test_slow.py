"""What counts as too slow, and who looks for it."""

from __future__ import annotations

import asyncio
from math import inf

from gateway.task import Tasks
from gateway.topic import slow
from gateway.topic.ring import Lag
from gateway.topic.slow import Behind, Watch, passes


def test_the_first_bound_that_is_passed_counts():
    bound = Behind(records=5, bytes="10B", seconds=2).lag()
    assert [False, True, True, True, False] == [
        passes(lag, bound) for lag in (Lag(5, 10, 2.0), Lag(6, 0, 0.0), Lag(0, 11, 0.0), Lag(0, 0, 2.1), None)
    ]
    assert not passes(Lag(1000, 1 << 40, 1e9), Behind().lag())
    assert (1000, inf) == (Behind().lag().records, Behind().lag().seconds)


async def test_only_the_patience_with_a_slow_one_is_ended(monkeypatch):
    monkeypatch.setattr(slow, "LOOK_S", 0.001)
    lags = {"slow": Lag(0, 0, 0.0), "quick": Lag(1, 0, 0.0)}
    ended = []
    async with Tasks() as tasks:
        watch = Watch(tasks)

        async def wait(name):
            try:
                async with asyncio.timeout(None) as patience:
                    with watch.over(lambda: lags[name], Lag(1, 1, 1.0), patience):
                        await asyncio.Event().wait()
            except TimeoutError:
                ended.append(name)

        waiting = [asyncio.get_running_loop().create_task(wait(name)) for name in lags]
        await asyncio.sleep(0.01)
        assert [] == ended
        lags["slow"] = Lag(2, 0, 0.0)
        async with asyncio.timeout(10):
            await waiting[0]
        assert ["slow"] == ended
        waiting[1].cancel()
        await asyncio.wait(waiting)
        # Whoever comes once all have gone is looked after too.
        lags["slow"] = Lag(2, 0, 0.0)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await wait("slow")
