"""Topics that keep the latest record of each key: made as they must be, or seen to be so."""

from __future__ import annotations

from adapters.backend.kafka.cluster import Cluster
from gateway.topic.log import not_compacted

REPLICATION = 3
"""On how many brokers one is kept, where there are so many."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FOR_EVER = -1


async def make_compacted(cluster: Cluster, topic: str, seconds: float) -> None:
    """See `Log.make_compacted`. Old records go by compaction, and by age once nothing in them can count any more."""
    keep = int(seconds * 1000)
    if not await cluster.topics.has(topic):
        settings = {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(keep),
            # Neither happens to a segment that is still written.
            "segment.ms": str(min(DAY_MS, max(HOUR_MS, keep // 4))),
            "segment.bytes": str(64 << 20),
        }
        await cluster.topics.make(topic, 1, min(REPLICATION, cluster.size), settings)
    partitions = await cluster.topics.leaders(topic)
    if len(partitions) > 1:
        raise not_compacted(f"it has {len(partitions)} partitions")
    said = await cluster.topics.config(topic)
    policy = {one.strip() for one in (said.get("cleanup.policy") or "").split(",")}
    if "compact" not in policy:
        raise not_compacted("its cleanup.policy is not compact")
    if "delete" in policy:
        age, size = int(said.get("retention.ms") or FOR_EVER), int(said.get("retention.bytes") or FOR_EVER)
        if FOR_EVER < age < keep:
            raise not_compacted(f"its retention.ms is shorter than the {keep} that things are kept for")
        if size > FOR_EVER:
            raise not_compacted("its retention.bytes may end what is still kept")
