"""The fake log does what every log does, so what is tested on it holds on the others."""

from __future__ import annotations

import pytest

from tests.contract.log import LogContract, fill
from tests.fake_log import FakeLog


class TestFakeLog(LogContract):
    @pytest.fixture
    async def log(self):
        return FakeLog({"one": 1, "three": 3})

    @pytest.fixture
    def new_topic(self):
        async def make(*, partitions: int = 1) -> str:
            return {1: "one", 3: "three"}[partitions]

        return make

    @pytest.fixture
    async def overtaken(self, log):
        await fill(log, "one", 9)
        log.drop("one", 4)
        return "one", 4
