"""The backend `kafka` against a real broker: the contracts of a log and of a source, then what is Kafka's own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from pydantic import ValidationError

from adapters.backend.kafka import Config
from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason
from gateway.message import Headers, Message
from gateway.port import Record, Subscription
from gateway.status import outcome_of
from tests.contract.log import LogContract, Seen, SourceContract, everything, fill, soon, take


def config(bootstrap: str, **fields) -> Config:
    return Config(kind="kafka", bootstrap=bootstrap, **fields)


@pytest.fixture
async def log(kafka):
    async with config(kafka).build() as backend:
        yield backend


@pytest.fixture
async def source(log):
    return log


class TestLog(LogContract):
    """The contract of a log."""

    @pytest.fixture
    async def log(self, kafka):
        async with config(kafka).build() as backend:
            yield backend

    @pytest.fixture
    async def new_topic(self, new_topic):
        return new_topic

    @pytest.fixture
    async def overtaken(self, kafka, log, new_topic):
        topic = await new_topic()
        await fill(log, topic, 5)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
        await admin.close()
        return topic, 3


class TestSource(SourceContract):
    """The contract of a source."""

    @pytest.fixture
    async def source(self, log):
        return log

    @pytest.fixture
    async def new_topic(self, new_topic):
        return new_topic
