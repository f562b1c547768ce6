"""Kafka's write side while brokers hang, die and move: what was not handed over is never written, and nobody waits too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.backend.kafka import Config, Kafka
from adapters.backend.kafka.producer import FLYING, HELD, QUEUED
from adapters.backend.kafka.settlement import LATE
from gateway.errors import BackendError, GatewayError, Outcome, Reason
from gateway.message import Message
from gateway.status import outcome_of
from tests.contract.log import PATIENCE_S, everything, soon
from tests.kafka_broker import Broker, ScriptBroker

UNREACHABLE = (Reason.UNREACHABLE, Outcome.FAILED)
UNKNOWN = (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN)
WRITTEN = (None, None)
Ended = tuple[Reason | None, Outcome | None]


def config(bootstrap: str, **fields: object) -> Config:
    return Config.model_validate({"kind": "kafka", "bootstrap": bootstrap, **fields})


def name(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:12]}"


def within(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def end(awaitable) -> Ended:
    """What became of a record."""
    try:
        await awaitable
    except GatewayError as error:
        return error.reason, outcome_of(error)
    return WRITTEN


async def until(true) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_written(log: Kafka, topic: str, body: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await end(log.append(topic, Message(body), within(5))) != WRITTEN:  # noqa: ASYNC110  a broker sends no event
            await asyncio.sleep(0.1)


async def bodies(log: Kafka, topic: str) -> list[bytes]:
    return [record.body for record in await everything(log, topic)]


async def numbered(log: Kafka, topic: str, many: int, seconds: float, size: int = 10_000) -> dict[bytes, Ended]:
    """Append records with one deadline at the same moment; what became of each."""
    records = [b"%04d" % number + bytes(size) for number in range(many)]
    ends = await asyncio.gather(*(end(log.append(topic, Message(body), within(seconds))) for body in records))
    return dict(zip(records, ends, strict=True))


async def test_while_the_broker_hangs_only_what_had_gone_out_is_unknown_and_the_rest_is_never_written(broker: Broker):
    # The pulse gives it time: nothing is refused at once.
    async with config(broker.bootstrap, create={}, away_after=8, batch=65_536).build("hang-rest") as log:
        topic = name("rest")
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        first = await numbered(log, topic, 5, 0.5)
        then = await numbered(log, topic, 100, 0.5)
        await asyncio.to_thread(broker.resume)
        # The first request took what there was; behind it nothing is handed over, and all of it is definite.
        assert {UNKNOWN} == set(first.values())
        assert {UNREACHABLE} == set(then.values())
        await until_written(log, topic, b"again")
        held = await bodies(log, topic)
        assert [b"before", *first, b"again"] == list(dict.fromkeys(held))
        assert len(held) == len(set(held))
        assert 5 == LATE.values()["hang-rest", "acknowledged"]


async def test_what_waits_and_what_flies_is_told_by_gauges_and_goes_to_nothing(broker: Broker):
    async with config(broker.bootstrap, create={}, away_after=8).build("gauges") as log:
        topic = name("gauges")
        await log.append(topic, Message(b"before"), soon())
        assert [0, 0, 0] == [gauge.values()["gauges",] for gauge in (QUEUED, FLYING, HELD)]
        await asyncio.to_thread(broker.pause)
        async with asyncio.TaskGroup() as group:
            group.create_task(end(log.append(topic, Message(b"flies"), within(1))))
            await until(lambda: FLYING.values()["gauges",] == 1)
            for _ in range(3):
                group.create_task(end(log.append(topic, Message(bytes(1000)), within(1))))
            await until(lambda: QUEUED.values()["gauges",] == 3)
            assert 3000 < HELD.values()["gauges",] < 4000
        assert [0, 1] == [gauge.values()["gauges",] for gauge in (QUEUED, FLYING)]
        await asyncio.to_thread(broker.resume)
        await until(lambda: [0, 0, 0] == [gauge.values()["gauges",] for gauge in (QUEUED, FLYING, HELD)])
    assert ("gauges",) not in QUEUED.values()


async def test_a_route_that_fills_its_share_of_the_buffer_leaves_room_for_another(broker: Broker):
    async with config(broker.bootstrap, create={}, away_after=8, buffer=1 << 20, stop_timeout=0.1).build() as log:
        topic = name("share")
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        flood = [end(log.append(topic, Message(bytes(10_000)), within(1), route="flood")) for _ in range(200)]
        quiet = [end(log.append(topic, Message(bytes(10_000)), within(1), route="quiet")) for _ in range(5)]
        ends = await asyncio.gather(*flood, *quiet)
        assert (Reason.OVERLOADED, Outcome.FAILED) in ends[:200]
        assert (Reason.OVERLOADED, Outcome.FAILED) not in ends[200:]


async def test_a_caller_that_leaves_while_its_record_waits_takes_it_along(broker: Broker):
    async with config(broker.bootstrap, create={}, away_after=8).build() as log:
        topic = name("leaves")
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        async with asyncio.TaskGroup() as group:
            flying = group.create_task(end(log.append(topic, Message(b"flies"), within(PATIENCE_S))))
            await until(lambda: log._writer.budget.flying == 1)
            waiting = [group.create_task(log.append(topic, Message(b"waits"), soon())) for _ in range(3)]
            admitted = await log.admit(topic, Message(b"waits"), within(1))
            await until(lambda: log._writer.budget.records == 5)
            for one in waiting:
                one.cancel()
            admitted.cancel()
            await until(lambda: log._writer.budget.records == 1)
            await asyncio.to_thread(broker.resume)
        assert WRITTEN == flying.result()
        await until_written(log, topic, b"again")
        assert [b"before", b"flies", b"again"] == list(dict.fromkeys(await bodies(log, topic)))


async def test_leaving_flushes_what_was_only_admitted(broker: Broker):
    topic = name("flush")
    async with config(broker.bootstrap, create={}, away_after=8).build() as log:
        await log.append(topic, Message(b"before"), soon())
        fates = [await log.admit(topic, Message(b"%d" % number), soon()) for number in range(2000)]
    assert [*range(1, 2001)] == [(await fate).offset for fate in fates]


async def test_leaving_while_the_broker_is_dead_ends_what_was_admitted_and_in_time(broker: Broker):
    topic = name("dead")
    async with asyncio.timeout(PATIENCE_S), config(broker.bootstrap, create={}, stop_timeout=0.5).build() as log:
        await log.append(topic, Message(b"before"), soon())
        await asyncio.to_thread(broker.pause)
        fates = [await log.admit(topic, Message(b"first"), soon())]
        await until(lambda: log._writer.budget.flying == 1)
        fates.append(await log.admit(topic, Message(b"second"), soon()))
    assert [UNKNOWN, UNREACHABLE] == [await end(fate) for fate in fates]


async def test_a_topic_whose_largest_batch_is_small_gets_smaller_ones(kafka: str):
    topic = name("small")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "4000"})])
    await admin.close()
    async with config(kafka).build() as log:
        await until_written(log, topic, b"first")
        ends = await numbered(log, topic, 100, PATIENCE_S, size=500)
        assert {WRITTEN} == set(ends.values())
        assert [b"first", *ends] == await bodies(log, topic)


async def test_a_record_too_large_for_its_topic_is_refused_before_it_is_sent(kafka: str):
    topic = name("limit")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "4000"})])
    await admin.close()
    async with config(kafka).build() as log:
        await until_written(log, topic, b"first")
        await until(lambda: log._writer._lookout.lanes[topic].largest == 4000)
        offered = log._writer._lookout.couriers.offer
        log._writer._lookout.couriers.offer = None
        assert (Reason.TOO_LARGE, Outcome.FAILED) == await end(log.append(topic, Message(bytes(4001)), soon()))
        log._writer._lookout.couriers.offer = offered
        # What may just fit is for the broker to judge.
        assert (Reason.TOO_LARGE, Outcome.FAILED) == await end(log.append(topic, Message(bytes(3999)), soon()))
        assert [b"first"] == await bodies(log, topic)


# Three brokers


@pytest.fixture(scope="module")
def _three(pytestconfig: pytest.Config) -> Iterator[ScriptBroker]:
    if pytestconfig.getoption("--kafka") == "none":
        pytest.fail("this test needs Kafka, and --kafka=none was said; mark it pytest.mark.broker", pytrace=False)
    with ScriptBroker(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: ScriptBroker) -> Iterator[ScriptBroker]:
    """Yield a cluster of three that this test may break; the next test finds it whole again."""
    try:
        yield _three
    finally:
        for number in (1, 2, 3):
            with suppress(Exception):
                _three.node("resume", number)
        _three.start()


async def led(log: Kafka, topic: str) -> dict[int, int]:
    """Who leads each partition of a topic."""
    log._cluster.topics.forget(topic)
    return dict(await log._cluster.topics.leaders(topic))


async def spread(log: Kafka) -> tuple[str, dict[int, int]]:
    """A topic whose partitions are led by all three."""
    while True:
        topic = name("spread")
        for partition in (0, 1, 2):
            with suppress(BackendError):
                await log.append(topic, Message(b"before"), soon(), partition=partition)
        leaders = await led(log, topic)
        if {1, 2, 3} == set(leaders.values()):
            return topic, leaders


@pytest.mark.slow
@pytest.mark.broker
async def test_a_record_whose_leader_is_paused_is_written_once_the_cluster_has_moved_on(three: ScriptBroker):
    """Long before a request would have timed out."""
    settings = {"create": {"partitions": 3, "replication": 3}, "request_timeout": 300}
    async with config(three.bootstrap, **settings).build("moved") as log:
        topic, leaders = await spread(log)
        partition = next(one for one, leader in leaders.items() if leader == 3)
        await asyncio.to_thread(three.node, "pause", 3)
        async with asyncio.timeout(PATIENCE_S):
            # In flight when the leader stops, it is sent again to the one who comes after it, under the same number.
            assert WRITTEN == await end(log.append(topic, Message(b"during"), within(PATIENCE_S), partition=partition))
        assert 3 != (await led(log, topic))[partition]
        for other in leaders:
            assert WRITTEN == await end(log.append(topic, Message(b"after"), soon(), partition=other))
        await asyncio.to_thread(three.node, "resume", 3)
        await until(lambda: 3 in log._cluster.here)
        held = await bodies(log, topic)
        assert [b"after"] * 3 + [b"before"] * 3 + [b"during"] == sorted(held)


@pytest.mark.slow
@pytest.mark.broker
async def test_while_a_leader_is_known_to_be_away_its_partitions_are_refused_at_once_and_the_others_go_on(three: ScriptBroker):
    settings = {"create": {"partitions": 3, "replication": 1}, "request_timeout": 300}
    async with config(three.bootstrap, **settings).build() as log:
        topic, leaders = await spread(log)
        partition = next(one for one, leader in leaders.items() if leader == 3)
        await asyncio.to_thread(three.node, "pause", 3)
        await until(lambda: 3 not in log._cluster.here)
        async with asyncio.timeout(5):
            assert UNREACHABLE == await end(log.append(topic, Message(b"never"), within(PATIENCE_S), partition=partition))
        for other in leaders:
            if other != partition:
                assert WRITTEN == await end(log.append(topic, Message(b"goes on"), soon(), partition=other))
        for _ in range(20):
            assert WRITTEN == await end(log.append(topic, Message(b"anywhere"), soon()))
        await asyncio.to_thread(three.node, "resume", 3)
        async with asyncio.timeout(PATIENCE_S):
            while WRITTEN != await end(log.append(topic, Message(b"again"), within(5), partition=partition)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert b"never" not in await bodies(log, topic)


@pytest.mark.slow
@pytest.mark.broker
async def test_too_few_replicas_are_a_definite_failure_that_is_tried_again_until_the_deadline(three: ScriptBroker):
    topic = name("replicas")
    admin = AIOKafkaAdminClient(bootstrap_servers=three.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 3, topic_configs={"min.insync.replicas": "3"})])
    await admin.close()
    async with config(three.bootstrap).build() as log:
        await until_written(log, topic, b"before")
        follower = (await led(log, topic))[0] % 3 + 1
        await asyncio.to_thread(three.node, "kill", follower)
        await until(lambda: follower not in log._cluster.here)
        # What goes while the leader still counts on the dead one is in doubt; then it says that they are too few.
        async with asyncio.timeout(PATIENCE_S):
            while UNREACHABLE != await end(log.append(topic, Message(b"never"), within(3))):
                pass
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(end(log.append(topic, Message(b"patient"), within(PATIENCE_S))))
            await asyncio.to_thread(three.node, "start", follower)
        assert WRITTEN == waiting.result()
        assert b"patient" == (await bodies(log, topic))[-1]
