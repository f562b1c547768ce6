"""The shop as a process of its own, on the embedded log and on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.system.process import ROOT, Gateway, on_free_ports

SHOP = ROOT / "config/gateway.yaml"
ON_KAFKA = ROOT / "config/examples/kafka.yaml"
LOGS = [pytest.param("local"), pytest.param("kafka", marks=pytest.mark.broker)]


@dataclass
class Shop:
    """A running shop: where it listens, and what the topic of orders is called there."""

    gateway: Gateway
    orders: str = "orders.placed"

    @property
    def rest(self) -> str:
        return self.gateway.url("public")

    @property
    def live(self) -> str:
        return self.gateway.url("live")

    @property
    def rpc(self) -> str:
        return self.gateway.addresses["rpc"]

    @property
    def admin(self) -> str:
        return self.gateway.url("admin")


async def delete(bootstrap: str, *topics: str) -> None:
    """Delete topics: the broker may be somebody's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(topics)
    finally:
        await admin.close()


def forget(bootstrap: str, *topics: str) -> None:
    """`delete` from a fixture that has no event loop."""
    asyncio.run(delete(bootstrap, *topics))


@pytest.fixture(scope="session", params=LOGS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield the shop of the issue's table. All tests share it, so a test looks at records of its own alone."""
    folder = tmp_path_factory.mktemp("shop")
    if request.param == "local":
        with Gateway(on_free_ports(SHOP.read_text()), folder) as gateway:
            yield Shop(gateway)
        return
    kafka = request.getfixturevalue("kafka")
    # Topics of this run's own, for the broker keeps those of the last.
    mark = uuid4().hex[:8]
    topics = [f"{name}-{mark}" for name in ("orders.placed", "quotes.asked", "quotes.answered")]
    config = on_free_ports(ON_KAFKA.read_text()).replace("group: quotes", f"group: quotes-{mark}")
    for topic in topics:
        config = config.replace(topic.removesuffix(f"-{mark}"), topic)
    try:
        with Gateway(config, folder, {"KAFKA_BOOTSTRAP": kafka}) as gateway:
            yield Shop(gateway, topics[0])
    finally:
        forget(kafka, *topics)


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop on the embedded log that is this test's alone, to be stopped or killed."""
    with Gateway(on_free_ports(SHOP.read_text()), tmp_path) as gateway:
        yield Shop(gateway)
