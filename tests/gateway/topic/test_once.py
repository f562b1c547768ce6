"""Once for each key: what is joined, replayed, freed, found and taken over, on one gateway and on two."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import AsyncExitStack

import pytest

from gateway.errors import BackendError, GatewayError, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Headers, Message
from gateway.target import Target
from gateway.task import Tasks
from gateway.topic import Topics, claim, once
from gateway.topic.idempotency import HEADER, Idempotency
from gateway.topic.publish import PublishTo
from gateway.topic.shelf import Shelf
from gateway.topic.store import stored
from tests.contract.log import PATIENCE_S
from tests.fake_log import FakeLog, unreachable
from tests.fake_spool import FakeSpool
from tests.gateway.topic.kept import shelf, state_log
from tests.patience import until

BODY = b'{"order":"7"}'


class BreakableLog(FakeLog):
    """A log of which one topic may fail, be slow, or leave its writer in doubt."""

    def __init__(self):
        super().__init__({"orders": 1}, (int(time.time() * 1000) for _ in itertools.count()))
        self.failing: GatewayError | None = None
        self.doubtful = False
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()

    async def append(self, topic, message, deadline, *, partition=None, route=""):
        if topic == "orders":
            self.begun.set()
            await self.go.wait()
            if self.failing is not None:
                raise self.failing
            if self.doubtful:
                raise BackendError(Reason.UNKNOWN_OUTCOME, "no word of it")
        return await super().append(topic, message, deadline, partition=partition, route=route)


class Frail:
    """A state whose receipts cannot be kept while it is broken."""

    def __init__(self, state):
        self._state = state
        self.broken = False

    def __getattr__(self, name):
        return getattr(self._state, name)

    async def put(self, key, value, seconds):
        if self.broken:
            raise unreachable()
        await self._state.put(key, value, seconds)

    async def drop(self, key, *, known=None):
        if self.broken:
            raise unreachable()
        await self._state.drop(key, known=known)


@pytest.fixture
def log():
    return BreakableLog()


class Gateway:
    """One gateway over the log: its state, and a route that publishes."""

    def __init__(self, topics, state, spec):
        self.state = state
        self.topics = topics
        target = Target("r", PublishTo(backend="b", publish="orders", idempotency=spec), fields=json.loads, state=state)
        self._handler = topics.handler(target)

    async def publish(self, key='"k"', body=BODY, seconds=20.0):
        deadline = asyncio.get_running_loop().time() + seconds
        headers = Headers(((HEADER, key),)) if key is not None else Headers()
        exchange = Memory(Message(body, JSON), call=Call("1", "rest", "POST /", headers=headers, deadline=deadline))
        await self._handler(exchange)
        return json.loads(exchange.replies[0].body)["offset"], exchange.headers


@pytest.fixture
async def gateways(log):
    async with AsyncExitStack() as stack:

        async def start(*, shared=True, **said):
            topics = await stack.enter_async_context(Topics(log))
            shelf = await stack.enter_async_context(Shelf(log, "state", max_bytes=1 << 20, max_age=86_400, shared=shared))
            return Gateway(topics, Frail(shelf), Idempotency(**said))

        yield start


@pytest.fixture
async def gateway(gateways):
    return await gateways()


async def fails_with(awaitable):
    with pytest.raises(GatewayError) as caught:
        await awaitable
    return caught.value.reason


def orders(log):
    return [record.offset for record in log.topics["orders"][0]]


async def counted(counter, awaitable):
    before = counter.values().get(("r",), 0)
    result = await awaitable
    return result, counter.values().get(("r",), 0) - before


async def test_a_key_writes_one_record_and_every_answer_is_its_receipt(log, gateway):
    first, head = await gateway.publish()
    assert ("201", None) == (head.get(":status"), head.get("idempotency-replayed"))
    for written in ('"k"', "k"):
        (again, head), replays = await counted(once.REPLAYED, gateway.publish(written))
        assert (first, "201", "true", 1) == (again, head.get(":status"), head.get("idempotency-replayed"), replays)
    assert [first] == orders(log)


async def test_other_keys_and_none_write_records_of_their_own(log, gateway):
    for key in ('"k"', '"l"', None, None):
        await gateway.publish(key)
    assert [0, 1, 2, 3] == orders(log)


async def test_a_key_that_was_used_for_another_message_is_refused(log, gateway):
    await gateway.publish()
    reason, conflicts = await counted(once.CONFLICTS, fails_with(gateway.publish(body=b'{"order":"8"}')))
    assert (Reason.INVALID, 1) == (reason, conflicts)
    assert [0] == orders(log)


async def test_who_comes_while_the_first_is_under_way_joins_it(log, gateway):
    log.go.clear()
    joined = once.JOINED.values().get(("r",), 0)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gateway.publish()) for _ in range(5)]
        while once.JOINED.values().get(("r",), 0) < joined + 4:  # noqa: ASYNC110  a counter tells nobody
            await asyncio.sleep(0)
        log.go.set()
    assert [0] * 5 == [call.result()[0] for call in calls]
    assert ["true"] * 4 == [head for call in calls if (head := call.result()[1].get("idempotency-replayed"))]
    assert [0] == orders(log)


async def test_two_gateways_write_one_record_and_one_joins_the_other(log, gateways):
    one, other = await gateways(), await gateways()
    log.go.clear()
    joined = once.JOINED.values().get(("r",), 0)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gateway.publish()) for gateway in (one, other)]
        while once.JOINED.values().get(("r",), 0) < joined + 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        log.go.set()
    assert [0, 0] == [call.result()[0] for call in calls]
    assert [0] == orders(log)


async def test_a_definite_failure_frees_the_key(log, gateway):
    log.failing = unreachable()
    assert Reason.UNREACHABLE == await fails_with(gateway.publish())
    log.failing = None
    assert 0 == (await gateway.publish())[0]
    assert [0] == orders(log)


async def test_who_has_joined_an_attempt_that_failed_tries_by_itself(log, gateway):
    log.go.clear()
    log.failing = unreachable()
    joined = once.JOINED.values().get(("r",), 0)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(fails_with(gateway.publish()))
        await log.begun.wait()
        second = group.create_task(gateway.publish())
        while once.JOINED.values().get(("r",), 0) < joined + 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        log.go.set()
        await first
        log.failing = None
    assert (Reason.UNREACHABLE, 0) == (first.result(), second.result()[0])
    assert [0] == orders(log)


async def test_many_with_one_key_that_fail_cost_two_records_of_the_state_each(log, gateway):
    log.failing = unreachable()
    many = 100
    async with asyncio.TaskGroup() as group:
        for _ in range(many):
            group.create_task(fails_with(gateway.publish()))
    # Counted by its end: what is over is let go from the log now and then.
    assert {0: 2 * many} == await log.ends("state"), "a claim, and letting it go"
    log.failing = None
    assert 0 == (await gateway.publish())[0]


async def test_a_key_that_is_in_use_for_another_message_is_refused_at_once(log, gateway):
    log.go.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(gateway.publish())
        await log.begun.wait()
        assert Reason.INVALID == await fails_with(gateway.publish(body=b'{"other": true}'))
        log.go.set()
    assert 0 == first.result()[0]


async def test_who_waits_for_another_with_its_key_waits_no_longer_than_its_own_time(log, gateway):
    log.go.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.publish())
        await log.begun.wait()
        assert Reason.UNKNOWN_OUTCOME == await fails_with(gateway.publish(seconds=0.1))
        log.go.set()
    assert [0] == orders(log)


async def test_a_doubt_holds_the_key_until_its_record_is_found(log, gateway):
    log.doubtful = True
    assert Reason.UNKNOWN_OUTCOME == await fails_with(gateway.publish())
    log.doubtful = False
    assert Reason.UNKNOWN_OUTCOME == await fails_with(gateway.publish())
    assert [] == orders(log)
    # It was on its way all the time.
    key = json.loads(log.topics["state"][0][-1].body)
    assert key["doubt"]
    scope = log.topics["state"][0][-1].key.decode().removeprefix("idempotency:")
    log.put("orders", Message(BODY, headers=Headers((("polygate-idempotency", f"{scope}.0"),))))
    (offset, head), found = await counted(claim.FOUND, gateway.publish())
    assert (0, "true", 1) == (offset, head.get("idempotency-replayed"), found)
    assert [0] == orders(log)


async def test_a_doubt_ends_after_the_time_that_the_route_says(log, gateways):
    gateway = await gateways(settle=1)
    log.doubtful = True
    assert Reason.UNKNOWN_OUTCOME == await fails_with(gateway.publish())
    log.doubtful = False
    taken_over = once.TAKEN_OVER.values().get(("r",), 0)
    while True:
        try:
            await gateway.publish()
            break
        except BackendError as error:
            assert Reason.UNKNOWN_OUTCOME == error.reason  # noqa: PT017  the loop is the test
            await asyncio.sleep(0.05)
    assert [0] == orders(log)
    assert 1 == once.TAKEN_OVER.values()[("r",)] - taken_over


async def test_a_record_whose_receipt_was_never_kept_is_found_by_another_gateway(log, gateways):
    one, other = await gateways(), await gateways()
    one.state.broken = True
    assert 0 == (await one.publish())[0]
    (offset, head), found = await counted(claim.FOUND, other.publish())
    assert (0, "true", 1) == (offset, head.get("idempotency-replayed"), found)
    assert (0, 0) == ((await one.publish())[0], (await counted(claim.FOUND, other.publish()))[1])
    assert [0] == orders(log)


async def test_a_key_whose_gateway_died_before_it_wrote_is_taken_over_after_a_time(log, gateways, monkeypatch):
    monkeypatch.setattr(once, "MARGIN_S", 0.1)
    one, other = await gateways(), await gateways()
    log.failing = unreachable()
    one.state.broken = True
    assert Reason.UNREACHABLE == await fails_with(one.publish(seconds=0.3))
    log.failing = None
    assert Reason.UNKNOWN_OUTCOME == await fails_with(other.publish(seconds=0.05))
    assert 0 == (await other.publish())[0]
    assert [0] == orders(log)


async def test_where_a_state_is_ours_alone_what_the_last_process_left_is_taken_over_soon(log, gateways):
    one, other = await gateways(), await gateways(shared=False)
    log.failing = unreachable()
    one.state.broken = True
    assert Reason.UNREACHABLE == await fails_with(one.publish())
    log.failing = None
    assert 0 == (await other.publish())[0]
    assert [0] == orders(log)


async def test_a_key_whose_record_may_wait_in_the_spool_is_not_tried_again_before_that_is_forwarded(log):
    spool = FakeSpool()

    async def publish(*, killed=False):
        async with Tasks() as tasks, Shelf(log, "state", max_bytes=1 << 20, max_age=86_400, shared=False) as shelf:
            state = Frail(shelf)
            target = Target("r", PublishTo(backend="b", publish="orders", ack="stored"), state=state, spool=spool)
            write = once.once(stored(spool), log, target, Idempotency(), tasks)
            deadline = asyncio.get_running_loop().time() + 20
            call = Call("1", "rest", "POST /", headers=Headers(((HEADER, '"k"'),)), deadline=deadline)
            publishing = write(call, "orders", Message(BODY, JSON), None)
            if not killed:
                return await publishing
            state.put = lambda *_: asyncio.Event().wait()
            async with asyncio.TaskGroup() as group:
                first = group.create_task(publishing)
                await until(lambda: spool.records)
                first.cancel()
            return None

    await publish(killed=True)
    assert Reason.UNKNOWN_OUTCOME == await fails_with(publish())
    (topic, message, _), spool.records = spool.records[0], []
    await log.append(topic, message, asyncio.get_running_loop().time() + 20)
    receipt = await publish()
    assert (0, True) == (receipt.place.offset, receipt.replayed)
    assert ([0], []) == (orders(log), spool.records)


async def test_while_the_broker_is_away_a_new_key_is_stored_and_what_is_kept_of_one_is_told(log):
    spool = FakeSpool()
    log.broken = unreachable()
    async with Tasks() as tasks, shelf(state_log()) as state:
        target = Target("r", PublishTo(backend="b", publish="orders", ack="stored"), state=state, spool=spool)
        write = once.once(stored(spool), log, target, Idempotency(), tasks)
        call = Call("1", "rest", "POST /", headers=Headers(((HEADER, '"k"'),)))
        first, again = [await write(call, "orders", Message(BODY, JSON), None) for _ in range(2)]
    assert ("stored", False, True) == (first.state, first.replayed, again.replayed)
    assert (first.id, [BODY]) == (again.id, spool.bodies)


async def test_a_key_for_a_topic_that_is_not_there_is_refused_and_not_claimed(log, gateways):
    gateway = await gateways()
    del log.topics["orders"]
    assert Reason.REFUSED == await fails_with(gateway.publish())
    assert {} == await gateway.state.all("")


async def test_two_gateways_that_take_over_write_one_record(log, gateways, monkeypatch):
    monkeypatch.setattr(once, "MARGIN_S", 0.1)
    one, two, three = await gateways(), await gateways(), await gateways()
    log.failing = unreachable()
    one.state.broken = True
    assert Reason.UNREACHABLE == await fails_with(one.publish(seconds=0.3))
    log.failing = None
    assert [0, 0] == [offset for offset, _ in await asyncio.gather(two.publish(), three.publish())]
    assert [0] == orders(log)


async def test_an_attempt_goes_on_where_its_caller_has_gone(log, gateway):
    log.go.clear()
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(gateway.publish())
        await log.begun.wait()
        gone.cancel()
    log.go.set()
    (offset, head), _ = await counted(once.REPLAYED, gateway.publish())
    assert (0, "true") == (offset, head.get("idempotency-replayed"))
    assert [0] == orders(log)


async def test_an_attempt_that_fails_once_its_caller_has_gone_is_told_in_the_log_and_frees_its_key(log, gateway, caplog):
    caplog.set_level("INFO", "polygate")
    log.go.clear()
    log.failing = unreachable()
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(gateway.publish())
        await log.begun.wait()
        gone.cancel()
    log.go.set()
    await until(lambda: "exchange 1, whose caller has gone, has failed" in caplog.text)
    log.failing = None
    offset, head = await gateway.publish()
    assert (0, None) == (offset, head.get("idempotency-replayed"))


async def test_without_its_state_nothing_is_written(log, gateway):
    await gateway.publish('"before"')
    log.compacted.clear()
    real, log._check = log._check, _refusing(log)
    assert Reason.UNREACHABLE == await fails_with(gateway.publish())
    log._check = real
    assert [0] == orders(log)


def _refusing(log):
    check = log._check

    def refuse(topic, *rest):
        if topic == "state":
            raise unreachable()
        check(topic, *rest)

    return refuse


async def test_a_topic_whose_retention_was_faster_leaves_the_outcome_unknown(log, gateways):
    one, other = await gateways(), await gateways()
    one.state.broken = True
    await one.publish()
    log.put("orders", Message(b"more"))
    log.drop("orders", 1)
    assert Reason.UNKNOWN_OUTCOME == await fails_with(other.publish())
    assert [1] == orders(log)


async def test_there_is_a_bound_to_what_is_under_way(log, gateway, monkeypatch):
    monkeypatch.setattr(once, "UNDER_WAY", 1)
    log.go.clear()
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(gateway.publish())
        await log.begun.wait()
        gone.cancel()
    assert Reason.OVERLOADED == await fails_with(gateway.publish('"other"'))
    log.go.set()
    while once.Once.under_way:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await gateway.publish()
    assert [0] == orders(log)


async def test_a_call_whose_part_of_the_gateway_ends_before_it_has_begun_is_answered_and_leaves_nothing(log, gateways):
    gateway = await gateways()
    before = once.Once.under_way
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(gateway.publish())
        while once.Once.under_way == before:  # noqa: ASYNC110  one look each time around the loop is what is proved
            await asyncio.sleep(0)
        await gateway.topics.__aexit__(None, None, None)
        await asyncio.wait((calling,), timeout=PATIENCE_S)
        assert calling.cancelled()
    assert before == once.Once.under_way
