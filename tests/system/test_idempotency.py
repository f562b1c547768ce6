"""Idempotency keys on every wire, and through a gateway that is killed: one record for each key, whatever its answers were."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from uuid import uuid4

import aiohttp
from websockets.asyncio.client import connect

from tests.system.client import PATIENCE_S, message, plain, rpc
from tests.system.process import ROOT, Gateway

CONFIG = f"""
contracts: [{ROOT}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
backends: {{log: {{kind: local, path: log.db}}}}
state: {{path: state.db}}
routes:
  - name: orders
    when: {{rest: "POST /orders/{{customer}}", grpc: shop.v1.Orders/Place, websocket: /orders}}
    to: {{backend: log, publish: orders, key: "{{customer}}", idempotency: {{}}}}
  - name: things
    when: {{rest: POST /things, websocket: /things}}
    to: {{backend: log, publish: things, idempotency: {{key: "{{id}}"}}}}
  - name: feed
    when: {{rest: "GET /feed/{{topic}}"}}
    to: {{backend: log, tail: "{{topic}}", start: earliest, envelope: true}}
"""
SHARED = """
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  admin: {kind: admin, bind: "127.0.0.1:0"}
backends: {events: {kind: kafka, bootstrap: "${KAFKA_BOOTSTRAP}", create: {partitions: 3}}}
state: {backend: events, topic: STATE}
routes:
  - name: things
    when: {rest: POST /things}
    policies: [{kind: deadline, seconds: 2}]
    to: {backend: events, publish: THINGS, key: "{id}", idempotency: {key: "{id}"}}
  - name: feed
    when: {rest: "GET /feed/{topic}"}
    to: {backend: events, tail: "{topic}", start: earliest, envelope: true}
"""
SEED = 7
CALLERS, KEYS = 16, 400


async def held(gateway, topic):
    """The bodies that a topic holds."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(gateway.url("public", f"/feed/{topic}"), headers={"accept": "application/json"}) as answer,
    ):
        return [event["body"] for event in await answer.json()]


async def test_a_key_is_one_record_over_grpc(tmp_path):
    with Gateway(CONFIG, tmp_path) as gateway:
        async with rpc(gateway.addresses["rpc"]) as client:
            place = client.method("shop.v1.Orders/Place")
            order = message("shop.v1.PlaceOrder", customer="ada", sku="tea", quantity=2)
            told = []
            for _ in range(2):
                call = place(order, metadata=(("idempotency-key", '"k"'),), timeout=PATIENCE_S)
                told.append((plain(await call), dict(await call.initial_metadata()).get("idempotency-replayed")))
        assert (told[0][0], None, "true") == (told[1][0], told[0][1], told[1][1])
        assert 1 == len(await held(gateway, "orders"))


async def test_a_key_is_one_record_over_a_websocket_in_an_envelope_or_in_the_message_itself(tmp_path):
    with Gateway(CONFIG, tmp_path) as gateway:
        offsets = []
        async with connect(gateway.url("live", "/things"), subprotocols=["polygate.v1"], proxy=None) as socket:
            for key in ('"a"', '"b"', '"a"'):
                await socket.send(json.dumps({"headers": {"x-own": "1"} if not offsets else {"idempotency-key": key}}))
                if not offsets:
                    await socket.send(json.dumps({"headers": {"idempotency-key": key}}))
                await socket.send(json.dumps({"message": {"id": "same"}}))
                while "message" not in (told := json.loads(await socket.recv())):
                    assert "headers" in told
                offsets.append(told["message"]["offset"])
        async with connect(gateway.url("live", "/things"), subprotocols=["polygate.v1"], proxy=None) as socket:
            # Whose connection broke comes again with what was not answered: its key is in the first frame now.
            await socket.send(json.dumps({"headers": {"idempotency-key": "b"}}))
            await socket.send(json.dumps({"message": {"id": "same"}}))
            assert "headers" in json.loads(await socket.recv())
            offsets.append(json.loads(await socket.recv())["message"]["offset"])
        async with connect(gateway.url("live", "/things"), proxy=None) as socket:
            for number in (1, 1, 2, 1):
                await socket.send(json.dumps({"id": f"t{number}"}))
                offsets.append(json.loads(await socket.recv())["offset"])
        assert [0, 1, 0, 1, 2, 2, 3, 2] == offsets
        assert ["same", "same", "t1", "t2"] == [body["id"] for body in await held(gateway, "things")]


async def test_every_key_is_one_record_though_the_gateway_is_killed_again_and_again(tmp_path):
    chance = random.Random(SEED)
    waiting = [{"id": f"k{number}"} for number in range(KEYS)]
    receipts: dict[str, dict] = {}

    async def caller(session, gateway):
        while waiting:
            thing = waiting.pop()
            try:
                async with session.post(gateway.url("public", "/things"), json=thing) as answer:
                    told = await answer.json(content_type=None)
                    if answer.status == 201:
                        assert receipts.setdefault(thing["id"], told) == told
                        if chance.random() < 0.1:
                            waiting.append(thing)  # whose answer was lost on its way
                        continue
                    assert answer.status in {503, 504}, told
            except (aiohttp.ClientError, TimeoutError):
                waiting.append(thing)
                return
            waiting.append(thing)

    async def dying(gateway):
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        gateway.kill()

    lives = 0
    while waiting:
        lives += 1
        with Gateway(CONFIG, tmp_path) as gateway:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session, asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(caller(session, gateway))
                if lives <= 6:
                    group.create_task(dying(gateway))
    with Gateway(CONFIG, tmp_path) as gateway:
        records = Counter(body["id"] for body in await held(gateway, "things"))
    assert {f"k{number}": 1 for number in range(KEYS)} == records
    assert KEYS == len(receipts) == len({told["offset"] for told in receipts.values()})


async def test_gateways_that_share_a_state_write_one_record_for_each_key_though_one_is_killed(tmp_path, kafka):
    mark = uuid4().hex[:8]
    config = SHARED.replace("STATE", f"state-{mark}").replace("THINGS", f"things-{mark}")
    environment = {"KAFKA_BOOTSTRAP": kafka}
    receipts: dict[str, dict] = {}
    keys = [f"k{number}" for number in range(KEYS)]

    async def caller(session, gateway, mine):
        for key in mine:
            while True:
                try:
                    async with session.post(gateway.url("public", "/things"), json={"id": key}) as answer:
                        told = await answer.json(content_type=None)
                        if answer.status == 201:
                            assert receipts.setdefault(key, told) == told
                            break
                        assert answer.status in {503, 504}, told
                except aiohttp.ClientError:
                    return  # its gateway was killed: the other has the same keys

    with Gateway(config, tmp_path / "one", environment) as one, Gateway(config, tmp_path / "two", environment) as two:
        timeout = aiohttp.ClientTimeout(PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(8):
                for gateway in (one, two):
                    group.create_task(caller(session, gateway, keys[number::8]))
            while len(receipts) < KEYS // 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            one.kill()
        records = Counter(body["id"] for body in await held(two, f"things-{mark}"))
    assert dict.fromkeys(keys, 1) == records
    assert set(keys) == receipts.keys()
