"""The backend `kafka` against a real broker: the contracts of a log and of a source, then what is Kafka's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from pydantic import ValidationError

from adapters.backend.kafka import Config
from adapters.backend.kafka.reader import CONSUMERS
from adapters.backend.kafka.record import RECORD_OVERHEAD, Quiet
from adapters.backend.kafka.settlement import LATE
from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.message import Headers, Message
from gateway.port import Subscription
from gateway.status import outcome_of
from gateway.topic.feed import Feeds
from gateway.topic.follower import Follower
from gateway.topic.opening import place
from gateway.topic.shelf import Shelf
from tests.contract.log import PATIENCE_S, LogContract, Seen, SourceContract, everything, fill, soon, take
from tests.contract.state import MAX_BYTES, SharedContract, StateContract


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


def shelf(log, topic, **settings):
    return Shelf(log, topic, **{"max_bytes": MAX_BYTES, "max_age": 86_400, **settings})


class TestState(StateContract, SharedContract):
    """The contract of a state in a topic that several gateways share."""

    @pytest.fixture
    async def opened(self, kafka):
        topic = f"state-{uuid4().hex}"

        @asynccontextmanager
        async def opened():
            async with config(kafka).build() as log, shelf(log, topic) as state:
                yield state

        return opened

    async def test_a_topic_that_keeps_too_little_is_refused(self, kafka, log, new_topic):
        plain, wide = await new_topic(), await new_topic(partitions=3)
        short = f"short-{uuid4().hex}"
        await log.make_compacted(short, 3600)
        await log.make_compacted(short, 1800)
        for topic, seconds in ((plain, 1), (wide, 1), (short, 7200)):
            with pytest.raises(BackendError) as caught:
                await log.make_compacted(topic, seconds)
            assert Reason.REFUSED == caught.value.reason


async def ends_with(awaitable) -> tuple[Reason, Outcome]:
    """Reason and outcome of what must fail."""
    with pytest.raises(GatewayError) as caught:
        await awaitable
    return caught.value.reason, outcome_of(caught.value)


def within(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


UNREACHABLE = (Reason.UNREACHABLE, Outcome.FAILED)
UNKNOWN = (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN)
REFUSED = (Reason.REFUSED, Outcome.FAILED)


async def until_appended(log, topic: str, body: bytes) -> None:
    """Append as soon as the broker is there again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await log.append(topic, Message(body), within(5))
            except BackendError as error:
                assert error.reason in {Reason.UNREACHABLE, Reason.UNKNOWN_OUTCOME}  # noqa: PT017  the loop is the test
                await asyncio.sleep(0.1)
            else:
                return


async def until_not_appended(log, topic: str, body: bytes) -> None:
    """Append until it fails: a broker that was told to stop may have a breath left."""
    while True:
        await log.append(topic, Message(body), within(2))


async def until(true: Callable[[], bool]) -> None:
    """Look again and again, for what sends no event."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_away(log) -> None:
    """Wait until the broker is known to be away."""
    await until(lambda: not log._cluster.up.is_set())


async def test_a_topic_is_found_as_soon_as_it_is_made(log, kafka):
    topic = f"later-{uuid4().hex[:12]}"
    assert REFUSED == await ends_with(log.append(topic, Message(b"x"), soon()))
    async with config(kafka, create={"partitions": 3}).build() as other:
        assert {0: 0, 1: 0, 2: 0} == dict(await other.ends(topic))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(BackendError):
                assert topic == (await log.append(topic, Message(b"x"), soon())).topic
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "a/b", "ü", "x" * 250])
async def test_a_name_that_no_topic_can_have_is_refused(log, topic):
    assert REFUSED == await ends_with(log.append(topic, Message(b"x"), soon()))


async def test_missing_topics_are_made_where_the_config_says_so(kafka):
    topic = f"made-{uuid4().hex[:12]}"
    async with config(kafka, create={"partitions": 2}).build() as log:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(log.append(topic, Message(b"%d" % number, key=b"k"), soon()))
        assert [b"%d" % number for number in range(20)] == [record.body for record in await everything(log, topic)]
        assert {0, 1} == set(await log.ends(topic))


async def test_a_topic_that_was_deleted_is_refused(log, kafka, new_topic):
    topic = await new_topic()
    await log.append(topic, Message(b"x"), soon())
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()
    reasons = set()
    async with asyncio.timeout(PATIENCE_S):
        while Reason.REFUSED not in reasons:
            with pytest.raises(BackendError) as caught:
                await log.append(topic, Message(b"x"), within(1))
            reasons.add(caught.value.reason)


async def test_a_record_that_only_the_broker_finds_too_large_is_refused(kafka, log, new_topic):
    topic = f"small-{uuid4().hex[:12]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    await admin.close()
    assert (Reason.TOO_LARGE, Outcome.FAILED) == await ends_with(log.append(topic, Message(bytes(3000)), soon()))
    assert 0 == (await log.append(topic, Message(bytes(1000)), soon())).offset


async def test_the_largest_record_passes_and_one_byte_more_does_not(log, new_topic):
    topic = await new_topic()
    largest = 1_048_000 - RECORD_OVERHEAD
    assert 0 == (await log.append(topic, Message(bytes(largest)), soon())).offset
    assert (Reason.TOO_LARGE, Outcome.FAILED) == await ends_with(log.append(topic, Message(bytes(largest + 1)), soon()))
    assert [largest] == [len(record.body) for record in await everything(log, topic)]


async def test_binary_headers_are_bytes_in_kafka_and_base64_with_us(kafka, log, new_topic):
    topic = await new_topic()
    sent = Headers((("trace-bin", "AP8="), ("unpadded-bin", "AP8"), ("text", "ü")))
    await log.append(topic, Message(b"x", headers=sent), soon())
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, None, b"k", headers=[("Odd", b"\xff"), ("none", b"")])
    ours, foreign = await everything(log, topic)
    assert (("trace-bin", "AP8="), ("unpadded-bin", "AP8="), ("text", "ü")) == ours.headers
    assert (("odd-bin", "/w=="), ("none", "")) == foreign.headers
    assert b"" == foreign.body
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        assert (("trace-bin", b"\x00\xff"), ("unpadded-bin", b"\x00\xff"), ("text", "ü".encode())) == (
            await consumer.getone()
        ).headers


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_written_and_read(kafka, new_topic, compression):
    topic = await new_topic()
    async with config(kafka, compression=compression).build() as log:
        await asyncio.gather(*(log.append(topic, Message(b"again " * 50), soon()) for _ in range(20)))
        assert [b"again " * 50] * 20 == [record.body for record in await everything(log, topic)]


async def test_records_without_a_key_spread_over_the_partitions(log, new_topic):
    topic = await new_topic(partitions=3)
    assert {0, 1, 2} == {place.partition for place in await fill(log, topic, 60)}


async def test_aborted_transactions_are_not_read_and_the_place_moves_over_their_markers(kafka, log, new_topic):
    topic = await new_topic()
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{topic}-t") as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"yes")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"no")
        await producer.abort_transaction()
        ends = await log.ends(topic)
        assert {0: 4} == dict(ends)
        async with log.reading(topic, {0: 0}) as reader, asyncio.timeout(PATIENCE_S):
            records = []
            while dict(reader.at) != dict(ends):
                records.extend(await reader.read())
        assert [b"yes"] == [record.body for record in records]
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open")
        assert {0: 4} == dict(await log.ends(topic))
        await producer.abort_transaction()


async def test_many_readers_of_history_share_a_few_consumers(log, new_topic):
    topics = [await new_topic(partitions=2) for _ in range(3)]
    for topic in topics:
        await fill(log, topic, 20)

    async def step(topic: str, partition: int) -> None:
        end = (await log.ends(topic))[partition]
        at, bodies = {partition: 0}, []
        while at[partition] < end:
            async with log.reading(topic, at) as reader:
                bodies.extend(record.offset for record in await reader.read())
                at = dict(reader.at)
        assert list(range(end)) == bodies

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(step(topic, partition) for topic in topics for partition in (0, 1) for _ in range(10)))
    assert 4 >= len(log._readers._idle)


async def test_a_topic_is_read_once_whatever_the_number_of_tails_and_who_joins_late_disturbs_nobody(log, new_topic, monkeypatch):
    topic = await new_topic(partitions=2)
    started = []
    start = AIOKafkaConsumer.start

    async def counted(consumer):
        started.append(consumer)
        await start(consumer)

    monkeypatch.setattr(AIOKafkaConsumer, "start", counted)
    await fill(log, topic, 20)
    feeds = Feeds(log)

    following: list[int] = []

    async def follow(at, count):
        async with feeds.following(topic) as feed:
            follower, records = Follower(feed, at), []
            following.append(count)
            while len(records) < count:
                records.extend(await follower.read())
        for partition in (0, 1):
            offsets = [record.offset for record in records if record.partition == partition]
            assert list(range(offsets[0], offsets[0] + len(offsets))) == offsets

    async with feeds, asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        ends = await log.ends(topic)
        for _ in range(50):
            group.create_task(follow(ends, 100))
        while len(following) < 50:  # noqa: ASYNC110  who comes after the first record reads that from the past
            await asyncio.sleep(0)
        await fill(log, topic, 50)
        assert 1 == len(started)
        for _ in range(50):
            group.create_task(follow({0: 0, 1: 0}, 120))
        await fill(log, topic, 50)
    # One for the feed, and the few that all who step into history share.
    assert 1 + CONSUMERS >= len(started)


async def test_what_comes_in_a_partition_that_is_added_to_a_topic_is_read_by_who_tails_it(
    log, kafka, new_topic, monkeypatch, caplog
):
    for bound in ("gateway.topic.feed.WIDER_S", "adapters.backend.kafka.catalog.KNOWN_S"):
        monkeypatch.setattr(bound, 1)
    topic = await new_topic()
    async with Feeds(log) as feeds, feeds.following(topic) as feed, asyncio.timeout(PATIENCE_S):
        follower = Follower(feed, await log.ends(topic))
        await fill(log, topic, 1)
        assert [(0, 0)] == [(record.partition, record.offset) for record in await follower.read()]
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(3)})
        await admin.close()
        # Written at once, before the gateway has heard of them: they are read from their start.
        theirs = AIOKafkaProducer(bootstrap_servers=kafka)
        await theirs.start()
        for partition in (1, 2, 0):
            await theirs.send_and_wait(topic, b"after", partition=partition)
        await theirs.stop()
        found = set()
        while len(found) < 3:
            found |= {(record.partition, record.offset) for record in await follower.read()}
        assert {(0, 1), (1, 0), (2, 0)} == found
        assert {0: 2, 1: 1, 2: 1} == await log.ends(topic)
    assert [] == [record.getMessage() for record in caplog.records if record.name == "polygate" and record.levelname != "INFO"]


async def test_a_cursor_holds_that_names_a_partition_of_which_another_gateway_has_heard_before(
    log, kafka, new_topic, monkeypatch
):
    monkeypatch.setattr("adapters.backend.kafka.catalog.KNOWN_S", 3600)
    topic = await new_topic()
    assert {0: 0} == await log.starts(topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(2)})
    await admin.close()
    assert {0: 0} == await log.starts(topic)
    assert {0: 0, 1: 0} == (await place(log, topic, "1:0")).at


async def test_a_reader_of_a_topic_that_was_deleted_says_so(log, kafka, new_topic):
    topic = await new_topic()
    await fill(log, topic, 1)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    async with log.reading(topic, {0: 0}) as reader:
        await take(reader, 1)
        await admin.delete_topics([topic])
        await admin.close()
        # What comes meanwhile is nothing.
        assert REFUSED == await ends_with(take(reader, 1))


async def test_a_broker_that_hangs_makes_outcomes_unknown_and_then_is_known_to_be_away(broker):
    async with config(broker.bootstrap, create={}).build("hang") as log:
        topic = f"hang-{uuid4().hex[:12]}"
        await log.append(topic, Message(b"before"), soon())
        await log.check()
        await asyncio.to_thread(broker.pause)
        assert UNKNOWN == await ends_with(until_not_appended(log, topic, b"during"))
        await until_away(log)
        assert UNREACHABLE == await ends_with(log.append(topic, Message(b"after"), within(30)))
        assert UNREACHABLE == await ends_with(log.ends(topic))
        assert UNREACHABLE == await ends_with(log.check())
        await asyncio.to_thread(broker.resume)
        await until_appended(log, topic, b"again")
        await log.check()
        bodies = [record.body for record in await everything(log, topic)]
        assert [b"before", b"during", b"again"] == list(dict.fromkeys(bodies))
        await until(log._writer.budget.empty.is_set)
        assert {"acknowledged"} == {fate for (name, fate), number in LATE.values().items() if name == "hang"}


async def test_what_was_answered_as_a_failure_is_never_written(broker):
    async with config(broker.bootstrap, create={}, away_after=5).build() as log:
        topic = f"phantom-{uuid4().hex[:12]}"
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        bodies = [b"%03d" % number + bytes(10_000) for number in range(40)]
        ended = await asyncio.gather(*(ends_with(log.append(topic, Message(body), within(1))) for body in bodies))
        assert {UNKNOWN, UNREACHABLE} == set(ended)
        await asyncio.to_thread(broker.resume)
        await until_appended(log, topic, b"again")
        held = {record.body for record in await everything(log, topic)}
        assert {body for body, end in zip(bodies, ended, strict=True) if end == UNKNOWN} == held & set(bodies)
        await until(log._writer.budget.empty.is_set)


async def test_a_full_buffer_is_overload(broker):
    async with config(broker.bootstrap, create={}, away_after=5, buffer=1 << 20, stop_timeout=0.1).build() as log:
        topic = f"full-{uuid4().hex[:12]}"
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        ended = await asyncio.gather(*(ends_with(log.append(topic, Message(bytes(100_000)), within(1))) for _ in range(20)))
        assert 12 == sum(reason is Reason.OVERLOADED for reason, _ in ended)


async def test_leaving_does_not_hang_with_the_broker(broker):
    seen = Seen()
    async with asyncio.timeout(PATIENCE_S), config(broker.bootstrap, create={}, stop_timeout=0.2).build() as log:
        topic = f"leave-{uuid4().hex[:12]}"
        async with log.consuming(Subscription((topic,), f"{topic}-g"), seen), log.reading(topic, await log.ends(topic)) as reader:
            await log.append(topic, Message(b"before"), soon())
            await take(reader, 1)
            await seen.reach(1)
            await asyncio.to_thread(broker.pause)
            assert UNKNOWN == await ends_with(log.append(topic, Message(b"during"), within(0.3)))


async def test_a_killed_broker_is_unreachable_and_everything_goes_on_when_it_is_back(broker):
    seen = Seen()
    async with config(broker.bootstrap, create={}).build() as log:
        topic = f"kill-{uuid4().hex[:12]}"
        async with log.consuming(Subscription((topic,), f"{topic}-g"), seen), log.reading(topic, await log.ends(topic)) as reader:
            await log.append(topic, Message(b"before"), soon())
            await seen.reach(1)
            assert [b"before"] == [record.body for record in await take(reader, 1)]
            await asyncio.to_thread(broker.kill)
            await until_away(log)
            assert UNREACHABLE == await ends_with(log.append(topic, Message(b"never"), within(30)))
            assert UNREACHABLE == await ends_with(log.append("other", Message(b"never"), within(30)))
            await asyncio.to_thread(broker.start)
            await until_appended(log, topic, b"again")
            assert [b"again"] == [record.body for record in await take(reader, 1)]
            assert [b"before", b"again"] == await seen.reach(2)


async def test_starting_before_the_broker_is_there_works_once_it_is(broker):
    await asyncio.to_thread(broker.stop)
    seen = Seen()
    async with config(broker.bootstrap, create={}).build() as log:
        topic = f"early-{uuid4().hex[:12]}"
        async with log.consuming(Subscription((topic,), f"{topic}-g"), seen):
            assert UNREACHABLE == await ends_with(log.append(topic, Message(b"never"), within(30)))
            assert UNREACHABLE == await ends_with(log.starts(topic))
            assert UNREACHABLE == await ends_with(log.check())
            await asyncio.to_thread(broker.start)
            await until_appended(log, topic, b"first")
            assert [b"first"] == await seen.reach(1)
        await log.check()


async def test_a_login_that_the_broker_does_not_take_is_refused(kafka):
    sasl = {"mechanism": "PLAIN", "username": "ada", "password": "secret"}
    async with config(kafka, sasl=sasl).build() as log:
        assert REFUSED == await ends_with(log.append("any", Message(b"x"), soon()))
        with pytest.raises(BackendError, match="logging in to the broker fails"):
            await log.check()


async def test_a_producer_that_lost_its_place_in_the_sequence_is_replaced_and_loses_nothing_that_was_queued(log, new_topic):
    topic = await new_topic()
    await log.append(topic, Message(b"before"), soon())
    log._writer._lookout.lanes[topic].all[0].sequence += 7
    bodies = [b"%d" % number for number in range(20)]
    async with asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(log.append(topic, Message(body), soon()))
    assert [b"before", *bodies] == [record.body for record in await everything(log, topic)]


async def test_the_library_complains_once_and_counts_the_rest(caplog):
    complaining = logging.getLogger("aiokafka.conn")
    with Quiet():
        for _ in range(3):
            complaining.warning("away %d", 1)
        complaining.info("not a complaint")
    complaining.warning("away %d", 2)
    assert ["away 1", "away 2"] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "fields",
    [
        {"bootstrap": []},
        {"bootstrap": ["kafka:port"]},
        {"bootstrap": ["kafka:0"]},
        {"tls": {"key": "k.pem"}},
        {"tls": {"ca": "/no/such/file"}},
        {"sasl": {"mechanism": "GSSAPI", "username": "u", "password": "p"}},
        {"compression": "brotli"},
        {"buffer": 1},
    ],
)
def test_a_config_that_cannot_work_is_refused(fields):
    with pytest.raises(ValidationError):
        Config(**{"kind": "kafka", "bootstrap": ["kafka:9092"], **fields})


def test_brokers_may_be_one_text_with_commas():
    assert ("a:1", "b", "[::1]:9092") == Config(kind="kafka", bootstrap="a:1, b,[::1]:9092").bootstrap
