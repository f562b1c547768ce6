"""The embedded log does what every log and source does."""

from __future__ import annotations

import asyncio

import pytest

from adapters.backend.local import Config
from tests.contract.log import LogContract, SourceContract, fill

SETTINGS = {
    "kind": "local",
    "create": False,
    "topics": {"one": {}, "two": {}, "three": {"partitions": 3}, "short": {"retention": {"records": 5}}},
    "retention_every": 0.01,
}


class Topics:
    """Hands out the declared topics."""

    def __init__(self) -> None:
        self.left = {1: ["one", "two"], 3: ["three"]}

    async def __call__(self, *, partitions: int = 1) -> str:
        return self.left[partitions].pop()


@pytest.fixture(params=["file", "memory"])
async def local(request, tmp_path):
    path = str(tmp_path / "var" / "log.db") if request.param == "file" else ":memory:"
    async with Config(path=path, **SETTINGS).build() as backend:
        yield backend


@pytest.fixture
def new_topic():
    return Topics()


class TestLog(LogContract):
    @pytest.fixture
    async def log(self, local):
        return local

    @pytest.fixture
    def new_topic(self):
        return Topics()

    @pytest.fixture
    async def overtaken(self, log):
        await fill(log, "short", 20)
        async with asyncio.timeout(10):
            while (await log.starts("short"))[0] < 15:  # noqa: ASYNC110  retention tells nobody
                await asyncio.sleep(0)
        return "short", 15


class TestSource(SourceContract):
    @pytest.fixture
    async def source(self, local):
        return local

    @pytest.fixture
    def new_topic(self):
        return Topics()
