"""Gateways of one consumer group, as processes that come, go and are killed while records are delivered as webhooks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.backend.kafka import Config
from gateway.message import Message
from tests.contract.log import take
from tests.gateway.test_signature import SECRET, verified
from tests.system.client import curl
from tests.system.process import Gateway

PATIENCE_S = 60
PARTITIONS, KEYS, PARALLEL = 4, 16, 4

CONFIG = """
listeners:
  admin: {kind: admin, bind: "127.0.0.1:0"}
  work:
    kind: topic
    backend: events
    topics: [TOPIC]
    group: TOPIC-g
    order: key
    parallel: 4
    session: 1
    retry: {seconds: 0.05, max_pause: 0.2}
backends:
  events: {kind: kafka, bootstrap: "${KAFKA}"}
  hook: {kind: http, url: "${HOOK}"}
routes:
  - name: post
    when: {topic: TOPIC}
    policies: [{kind: deadline, seconds: 5}]
    to: {backend: hook, call: POST /hook, sign: {secret: "${SECRET}"}}
"""


class Receiver:
    """A webhook's receiver, which keeps what it got: by id, key and number, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[tuple[str, str, int]] = []
        self._failing = 0

    def first(self) -> dict[str, list[int]]:
        """The numbers that each key got, each at its first coming."""
        numbers: dict[str, list[int]] = {}
        for key, number in dict.fromkeys((key, number) for _, key, number in self.got):
            numbers.setdefault(key, []).append(number)
        return numbers

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self._failing += 1
        if self._failing % 17 == 0:
            return web.Response(status=503)
        told = json.loads(body)
        self.got.append((verified(request.headers.items(), body, SECRET), told["key"], told["number"]))
        await asyncio.sleep(0.003)
        return web.json_response({})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(self), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            yield
        finally:
            await runner.cleanup()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  another process tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.broker
async def test_a_group_that_loses_and_gains_gateways_under_load_loses_nothing_and_keeps_the_order_of_keys(
    kafka, new_topic, tmp_path: Path
) -> None:
    topic = await new_topic(partitions=PARTITIONS)
    receiver = Receiver()
    sent = 0
    enough = asyncio.Event()

    async def produce() -> None:
        nonlocal sent
        async with Config(kind="kafka", bootstrap=kafka).build() as log:
            while not enough.is_set():
                bodies = [(str(key), json.dumps({"key": str(key), "number": sent})) for key in range(KEYS)]
                await asyncio.gather(*(log.produce(topic, Message(body.encode(), key=key.encode())) for key, body in bodies))
                sent += 1
                await asyncio.sleep(0.02)

    def begun(name: str) -> Gateway:
        environment = {"KAFKA": kafka, "HOOK": receiver.url, "SECRET": SECRET}
        return Gateway(CONFIG.replace("TOPIC", topic), tmp_path / name, environment)

    async def more(count: int) -> None:
        reach = len(receiver.got) + count
        await until(lambda: len(receiver.got) >= reach)

    async with receiver.serving(), asyncio.TaskGroup() as tasks:
        tasks.create_task(produce())
        with await asyncio.to_thread(begun, "one") as one, await asyncio.to_thread(begun, "two") as two:
            await more(300)
            two.kill()
            await more(300)
            with await asyncio.to_thread(begun, "three") as three:
                await more(300)
                one.terminate()
                assert 0 == await asyncio.to_thread(one.wait)
                await more(300)
                enough.set()
                await until(lambda: len({got[1:] for got in receiver.got}) == sent * KEYS)
                text = (await curl(three.url("admin", "/metrics"))).body.decode()
    assert {str(key): list(range(sent)) for key in range(KEYS)} == receiver.first()
    # One that comes again says that it is the same; and only what the killed one had not said to be done comes again.
    assert len({got[1:] for got in receiver.got}) == len({id_ for id_, _, _ in receiver.got})
    again = len(receiver.got) - sent * KEYS
    # In flight, or answered while the commit before was under way.
    assert again <= 2 * PARTITIONS * PARALLEL
    counted = sum(float(number) for number in re.findall(r'polygate_topic_records_total\{.*fate="delivered".*\} (\S+)', text))
    assert counted > 0
    assert 'polygate_topic_lag{listener="work"' in text


REFUSED = """
listeners:
  work:
    kind: topic
    backend: events
    topics: [TOPIC]
    group: TOPIC-g
    session: 1
    retry: {attempts: 1, seconds: 0.05, max_pause: 0.1}
    dead_letter: TOPIC-dead
backends:
  events: {kind: kafka, bootstrap: "${KAFKA}"}
  stub: {kind: stub, answers: {gone: {fail: {code: NOT_FOUND, message: there is no such thing}}}}
routes:
  - {name: refuse, when: {topic: TOPIC}, to: {backend: stub, call: gone}}
"""


@pytest.mark.broker
async def test_while_there_is_no_topic_for_dead_letters_their_records_wait_and_none_is_committed(
    kafka, new_topic, tmp_path: Path
) -> None:
    topic = await new_topic()
    dead = f"{topic}-dead"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()

    async def committed() -> int:
        offsets = await admin.list_consumer_group_offsets(f"{topic}-g")
        return sum(max(0, one.offset) for one in offsets.values())

    async def refusing(name: str) -> Gateway:
        gateway = await asyncio.to_thread(Gateway, REFUSED.replace("TOPIC", topic), tmp_path / name, {"KAFKA": kafka})
        await until(lambda: gateway.errors.read_text().count("there is no such topic") > 1)
        return gateway

    try:
        async with Config(kind="kafka", bootstrap=kafka).build() as log:
            for number in range(3):
                await log.produce(topic, Message(b"%d" % number))
        # The first is killed while its record waits, the second finds the topic there at last.
        with await refusing("one"):
            assert 0 == await committed()
        with await refusing("two"):
            assert 0 == await committed()
            await admin.create_topics([NewTopic(dead, num_partitions=1, replication_factor=1)])
            async with asyncio.timeout(PATIENCE_S):
                while await committed() < 3:  # noqa: ASYNC110  the broker tells nobody
                    await asyncio.sleep(0.05)
        async with Config(kind="kafka", bootstrap=kafka).build() as log:
            assert {0: 3} == await log.ends(dead)
            async with log.reading(dead, {0: 0}) as reader:
                letters = await take(reader, 3)
        told = [(one.body, one.headers.get("polygate-original-offset"), one.headers.get("polygate-attempts")) for one in letters]
        assert [(b"0", "0", "1"), (b"1", "1", "1"), (b"2", "2", "1")] == told
    finally:
        await admin.delete_topics([dead])
        await admin.close()
