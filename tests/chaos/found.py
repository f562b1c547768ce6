"""What stands in a topic in the end, read without the gateway."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition


def in_file(path: Path, topic: str) -> list[list[str]]:
    """The ids of the records in each partition of an embedded log, in order."""
    ids: dict[int, list[str]] = defaultdict(list)
    with sqlite3.connect(path) as db:
        rows = db.execute(
            "SELECT number, body FROM record JOIN partition ON record.id >> 40 = partition.id WHERE topic = ? ORDER BY record.id",
            (topic,),
        )
        for number, body in rows:
            ids[number].append(json.loads(body)["sku"])
    return list(ids.values())


async def on_kafka(bootstrap: str, topic: str, count: int) -> list[list[str]]:
    """The same of a topic of so many partitions on Kafka."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        ids: dict[int, list[str]] = defaultdict(list)
        while [one for one in partitions if await consumer.position(one) < ends[one]]:
            for one, records in (await consumer.getmany(timeout_ms=200)).items():
                ids[one.partition] += [json.loads(record.value)["sku"] for record in records]
        return list(ids.values())
    finally:
        await consumer.stop()
