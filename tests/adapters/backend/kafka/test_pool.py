"""Transactions of Kafka: all or none, whatever happens in the middle, and no outcome that is a lie."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from uuid import uuid4

import pytest
from aiokafka import errors
from aiokafka.protocol.transaction import EndTxnRequest

from adapters.backend.kafka import Config, Kafka
from adapters.backend.kafka.settlement import LATE
from adapters.backend.kafka.transaction import Producer
from gateway.errors import GatewayError, Outcome, Reason
from gateway.message import Message
from gateway.status import outcome_of
from gateway.topic.log import Post
from tests.contract.log import PATIENCE_S, soon
from tests.kafka_broker import Broker

UNREACHABLE = (Reason.UNREACHABLE, Outcome.FAILED)
UNKNOWN = (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN)


def config(bootstrap: str, **fields: object) -> Config:
    return Config.model_validate({"kind": "kafka", "bootstrap": bootstrap, **fields})


def posts(topic: str, word: str, many: int = 3) -> list[Post]:
    return [Post(topic, Message(f"{word}-{number}".encode())) for number in range(many)]


def within(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def ends_with(awaitable) -> tuple[Reason, Outcome]:
    """Reason and outcome of what must fail."""
    with pytest.raises(GatewayError) as caught:
        await awaitable
    return caught.value.reason, outcome_of(caught.value)


async def until(true) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def held(log: Kafka, topic: str) -> list[bytes]:
    """What is in a topic up to a record of our own that comes last."""
    last = f"last-{uuid4().hex}".encode()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(GatewayError):
                await log.append(topic, Message(last), within(5))
                break
        bodies: list[bytes] = []
        async with log.reading(topic, {0: 0}) as reader:
            while last not in bodies:
                bodies.extend(record.body for record in await reader.read())
    return [body for body in bodies if not body.startswith(b"last-")]


@pytest.fixture
async def log(kafka):
    async with config(kafka, transactional_id=f"t-{uuid4().hex[:12]}").build("pool") as backend:
        yield backend


async def test_a_batch_of_many_batches_is_one_transaction(log, new_topic):
    topic = await new_topic()
    many = [Post(topic, Message(b"%04d" % number + bytes(2000))) for number in range(300)]
    places = await log.append_all(many, soon())
    assert [*range(300)] == [place.offset - places[0].offset for place in places]
    assert [post.message.body for post in many] == await held(log, topic)


async def test_more_than_the_budget_takes_is_overload_and_nothing_is_written(kafka, new_topic):
    topic = await new_topic()
    async with config(kafka, buffer=1 << 20).build() as log:
        many = [Post(topic, Message(bytes(100_000))) for _ in range(12)]
        assert (Reason.OVERLOADED, Outcome.FAILED) == await ends_with(log.append_all(many, soon()))
        assert [] == await held(log, topic)
        assert 0 == log._writer.budget.held


async def test_what_was_written_and_not_committed_counts_for_nothing(log, new_topic, monkeypatch):
    topic = await new_topic()
    write = Producer.write

    async def stops(self, posts):
        await write(self, posts)
        raise errors.NotLeaderForPartitionError

    monkeypatch.setattr(Producer, "write", stops)
    assert UNREACHABLE == await ends_with(log.append_all(posts(topic, "never"), within(0.5)))
    monkeypatch.undo()
    await log.append_all(posts(topic, "after"), soon())
    assert [b"after-0", b"after-1", b"after-2"] == await held(log, topic)


async def test_a_failure_that_another_try_mends_is_tried_again_within_the_deadline(log, new_topic, monkeypatch):
    topic = await new_topic()
    write = Producer.write
    tries = []

    async def stumbles(self, posts):
        places = await write(self, posts)
        tries.append(1)
        if len(tries) < 3:
            raise errors.NotLeaderForPartitionError
        return places

    monkeypatch.setattr(Producer, "write", stumbles)
    await log.append_all(posts(topic, "once"), soon())
    assert [b"once-0", b"once-1", b"once-2"] == await held(log, topic)


async def test_a_commit_whose_answer_is_lost_is_asked_for_again(log, new_topic, monkeypatch):
    topic = await new_topic()
    commit = Producer.commit
    tries = []

    async def unheard(self):
        await commit(self)
        tries.append(1)
        if len(tries) == 1:
            raise TimeoutError

    monkeypatch.setattr(Producer, "commit", unheard)
    await log.append_all(posts(topic, "once"), soon())
    assert 2 == len(tries)
    assert [b"once-0", b"once-1", b"once-2"] == await held(log, topic)


async def test_a_commit_that_may_be_in_the_coordinators_log_is_unknown_whatever_is_said_then(log, new_topic, monkeypatch):
    topic = await new_topic()
    ask = Producer._ask
    said = [15, 47]  # COORDINATOR_NOT_AVAILABLE; then INVALID_PRODUCER_EPOCH, once another has taken its name

    async def asked(self, request):
        answer = await ask(self, request)
        return SimpleNamespace(error_code=said.pop(0)) if isinstance(request, EndTxnRequest) else answer

    monkeypatch.setattr(Producer, "_ask", asked)
    assert UNKNOWN == await ends_with(log.append_all(posts(topic, "written"), soon()))
    assert [b"written-0", b"written-1", b"written-2"] == await held(log, topic)


async def test_a_commit_that_is_not_answered_by_the_deadline_is_unknown_and_counted_once_it_is_known(log, new_topic, monkeypatch):
    topic = await new_topic()
    await log.append_all(posts(topic, "before"), soon())
    before = LATE.values().get(("pool", "acknowledged"), 0)
    commit = Producer.commit
    heard = asyncio.Event()

    async def late(self):
        await heard.wait()
        await commit(self)

    monkeypatch.setattr(Producer, "commit", late)
    assert UNKNOWN == await ends_with(log.append_all(posts(topic, "late"), within(1)))
    heard.set()
    await until(lambda: LATE.values().get(("pool", "acknowledged"), 0) == before + 3)
    assert [b"before-0", b"before-1", b"before-2", b"late-0", b"late-1", b"late-2"] == await held(log, topic)


async def test_a_caller_that_leaves_before_the_commit_takes_all_of_it_along(log, new_topic, monkeypatch):
    topic = await new_topic()
    write = Producer.write
    written = asyncio.Event()
    left = asyncio.Event()

    async def slow(self, posts):
        places = await write(self, posts)
        written.set()
        await left.wait()
        return places

    monkeypatch.setattr(Producer, "write", slow)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(log.append_all(posts(topic, "gone"), soon()))
        await written.wait()
        task.cancel()
    left.set()
    monkeypatch.undo()
    await log.append_all(posts(topic, "after"), soon())
    assert [b"after-0", b"after-1", b"after-2"] == await held(log, topic)


async def test_a_gateway_that_comes_back_ends_at_once_what_it_had_left_open(kafka, new_topic):
    topic, name = await new_topic(), f"t-{uuid4().hex[:12]}"
    async with config(kafka, transactional_id=name, transactions=1).build() as dying:
        producer = dying._transactions._free[0]
        await dying._cluster.up.wait()
        await dying.append(topic, Message(b"first"), soon())
        # Written and left open, as by a process that is killed.
        await producer.write([(sending(post), post) for post in posts(topic, "never")])
        assert {0: 1} == dict(await dying.ends(topic))
        async with config(kafka, transactional_id=name, transactions=1).build() as back:
            await back.append_all(posts(topic, "back"), soon())
            # What was left open would keep every reader waiting.
            assert [b"first", b"back-0", b"back-1", b"back-2"] == await held(back, topic)


async def test_two_gateways_of_one_name_harm_each_other_but_tell_no_lie(kafka, new_topic):
    topic, name = await new_topic(), f"t-{uuid4().hex[:12]}"
    told = {}

    async def one(log: Kafka, word: str) -> None:
        for number in range(15):
            body = f"{word}{number}"
            try:
                await log.append_all(posts(topic, body), within(5))
            except GatewayError as error:
                told[body] = outcome_of(error).value
            else:
                told[body] = "acknowledged"

    settings = {"transactional_id": name, "transactions": 1}
    async with config(kafka, **settings).build() as log, config(kafka, **settings).build() as other:
        await asyncio.gather(one(log, "a"), one(other, "b"))
        bodies = await held(log, topic)
    for body, outcome in told.items():
        here = [f"{body}-{number}".encode() for number in range(3) if f"{body}-{number}".encode() in bodies]
        assert len(here) in {"acknowledged": (3,), "failed": (0,), "unknown": (0, 3)}[outcome], (body, outcome, here)
    assert len(bodies) == len(set(bodies))


async def test_while_the_broker_hangs_and_is_away_no_outcome_is_a_lie_and_it_goes_on_when_it_is_back(broker: Broker):
    async with config(broker.bootstrap, create={}, transactional_id=f"t-{uuid4().hex[:12]}").build() as log:
        topic = f"hang-{uuid4().hex[:12]}"
        await log.append_all(posts(topic, "before"), soon())
        await asyncio.to_thread(broker.pause)
        assert (await ends_with(log.append_all(posts(topic, "hangs"), within(1))))[1] in {Outcome.FAILED, Outcome.UNKNOWN}
        await until(lambda: not log._cluster.up.is_set())
        assert UNREACHABLE == await ends_with(log.append_all(posts(topic, "away"), within(PATIENCE_S)))
        await asyncio.to_thread(broker.resume)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(GatewayError):
                    await log.append_all(posts(topic, "again"), within(5))
                    break
                await asyncio.sleep(0.1)
        bodies = await held(log, topic)
        assert not [body for body in bodies if body.startswith(b"away")]
        assert {0, 3} >= {sum(body.startswith(word) for body in bodies) for word in (b"hangs", b"before", b"again")}


def sending(post: Post):
    from adapters.backend.kafka.sending import Sending

    return Sending(post.message, "")
