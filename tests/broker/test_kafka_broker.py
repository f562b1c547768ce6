"""The broker that tests break behaves as its docstrings say: everything else about outages rests on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.kafka_broker import answers


def test_a_paused_broker_hangs_and_goes_on(broker):
    """The port of a paused broker stays open while nothing answers, and after resuming it answers."""
    broker.pause()
    assert not answers(broker.bootstrap, within=0.5)
    broker.resume()
    assert answers(broker.bootstrap, within=5)


def test_a_killed_broker_comes_back_at_the_same_address(broker):
    """A killed broker is gone at once, and starting it again makes it answer where it was."""
    broker.kill()
    assert not answers(broker.bootstrap)
    broker.start()
    assert answers(broker.bootstrap)


def test_the_next_test_finds_the_broker_whole(broker):
    """Whatever the tests above left, this one is given a broker that answers."""
    assert answers(broker.bootstrap)


async def test_the_shared_broker_keeps_records(kafka, new_topic):
    """A record acknowledged by the shared broker is read back from the topic that the fixture made."""
    topic = await new_topic(partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait(topic, b"hello", partition=1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        assert b"hello" == (await consumer.getone()).value


@pytest.mark.broker
@pytest.mark.slow
def test_a_killed_test_run_leaves_no_broker():
    """A process that started a broker and is killed with SIGKILL takes the broker with it, without a word."""
    root = Path(__file__).parents[2]
    script = "import sys; from tests.kafka_broker import own; print(own().bootstrap, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        bootstrap = starter.stdout.readline().strip()
        assert answers(bootstrap)
        starter.kill()
    until = time.monotonic() + 30
    while answers(bootstrap):
        assert time.monotonic() < until
        time.sleep(0.2)
