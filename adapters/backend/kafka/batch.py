"""Batches of records as Kafka takes them, and what a broker's answer says of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from adapters.backend.kafka.sending import Identity, Sending
from adapters.backend.kafka.wire import Broker, Settings

MAGIC = 2
ALL_REPLICAS = -1
SEQUENCES = 1 << 31
# The builder's own bound; ours is `Lane.limit`.
_NO_BOUND = (1 << 31) - 1
CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

TOO_LARGE = frozenset({errors.MessageSizeTooLargeError, errors.RecordListTooLargeError})
# The broker looked before it wrote, and did not write. The leader may have moved, or its replicas may come back.
AGAIN = frozenset({errors.UnknownTopicOrPartitionError, errors.NotEnoughReplicasError})
# The broker does not go on from where this identity has come to, and did not write.
LOST = frozenset(
    {
        errors.OutOfOrderSequenceNumber,
        errors.UnknownProducerId,
        errors.InvalidProducerEpoch,
        errors.InvalidProducerIdMapping,
    }
)
# The broker may have written it. NOT_LEADER is one of these: a leader that is deposed while it waits for its replicas says so too
# (DelayedProduce.tryComplete), and the record may be among what they had already.
DOUBT = frozenset(
    {
        errors.NotLeaderForPartitionError,
        errors.LeaderNotAvailableError,
        errors.RequestTimedOutError,
        errors.NotEnoughReplicasAfterAppendError,
        errors.KafkaStorageError,
    }
)
# The broker says nothing that another try would make clearer.
SILENT = frozenset({errors.UnknownError, errors.DuplicateSequenceNumber})


class InvalidRecordError(errors.KafkaError):  # type: ignore[misc]
    """INVALID_RECORD, which the library does not know: no key in a compacted topic, for one."""


# One record of a batch is at fault, and the broker takes none of it (KIP-467).
OF_ONE = frozenset({InvalidRecordError, errors.InvalidTimestampError, errors.for_code(2)})

# https://kafka.apache.org/protocol#protocol_error_codes
_INVALID_RECORD = 87


class Answer(NamedTuple):
    """What a broker says of one batch."""

    error: type[errors.KafkaError]
    offset: int
    timestamp: int
    """Milliseconds where the broker gives the time; -1 where ours stands."""


NO_ANSWER = Answer(errors.UnknownError, -1, -1)


class Batch:
    """Records of one partition that are written together or not at all, under one number: sent twice they are written once."""

    __slots__ = ("buffer", "doubtful", "identity", "partition", "records", "sequence", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        records: list[Sending],
        identity: Identity,
        sequence: int,
        *,
        compression: str | None = None,
        transactional: bool = False,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.records = records
        self.identity = identity
        self.sequence = sequence
        self.doubtful = False
        """It may have been written by a try before this one."""
        builder = DefaultRecordBatchBuilder(
            MAGIC, CODECS[compression], transactional, identity.id, identity.epoch, sequence, _NO_BOUND
        )
        for number, one in enumerate(records):
            builder.append(number, one.timestamp, key=one.key, value=one.body, headers=one.headers)
        self.buffer = builder.build()

    @property
    def following(self) -> int:
        """The number of the record after it."""
        return (self.sequence + len(self.records)) % SEQUENCES


async def produced(
    broker: Broker, batches: Sequence[Batch], settings: Settings, transaction: str | None = None
) -> Mapping[tuple[str, int], Answer]:
    """Send batches, at most one for each partition. Raises what AWAY lists: those that were sent are then `doubtful`."""
    topics: dict[str, list[tuple[int, Any]]] = {}
    for batch in batches:
        topics.setdefault(batch.topic, []).append((batch.partition, batch.buffer))
    request = ProduceRequest(transaction, ALL_REPLICAS, int(settings.request_s * 1000), list(topics.items()))
    sent = False

    def on_its_way() -> None:
        nonlocal sent
        sent = True

    try:
        response = await broker.produce(request, settings.away_s, on_its_way)
    except BaseException:
        for batch in batches:
            batch.doubtful = batch.doubtful or sent
        raise
    return {
        (topic, partition): Answer(_error_of(code), offset, timestamp)
        for topic, partitions in response.topics
        for partition, code, offset, timestamp, *_ in partitions
    }


def _error_of(code: int) -> type[errors.KafkaError]:
    return InvalidRecordError if code == _INVALID_RECORD else errors.for_code(code)
