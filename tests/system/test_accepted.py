"""`ack: none` from end to end: answered at once, written at most once, and every loss counted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import aiohttp

from adapters.backend.kafka import Config
from gateway.errors import BackendError
from gateway.port import Backend
from tests.contract.log import everything
from tests.kafka_broker import Broker
from tests.system.process import Gateway
from tests.system.test_process import accounts

CONFIG = """
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
backends:
  events: {{kind: kafka, bootstrap: "{bootstrap}", create: {{}}, away_after: {away}, stop_timeout: 5, buffer: 1048576}}
policies: [{{kind: deadline, seconds: 2}}]
routes:
  - name: tell
    when: {{rest: POST /told}}
    to: {{backend: events, publish: {topic}, ack: none}}
"""
PATIENCE_S = 30


async def tell(gateway: Gateway, number: int, session: aiohttp.ClientSession, size: int = 1) -> tuple[int, dict[str, object]]:
    body = {"n": number, "fill": "x" * size}
    async with session.post(gateway.url("public", "/told"), json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def answering(log: Backend) -> bool:
    """Whether a broker answers now."""
    try:
        await log.check()
    except BackendError:
        return False
    return True


async def numbers(bootstrap: str, topic: str) -> list[int]:
    async with Config(kind="kafka", bootstrap=bootstrap).build() as log, asyncio.timeout(PATIENCE_S):
        # A broker that has only just gone on may not answer the first time.
        while not await answering(log):  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.1)
        return [json.loads(record.body)["n"] for record in await everything(log, topic)]


async def settled(gateway: Gateway) -> dict[str, float]:
    """What became of all exchanges, once none is in flight."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            counted = await accounts(gateway.url("admin"))
            assert counted["accepted"] == sum(number for name, number in counted.items() if name != "accepted")
            if not counted["in_flight"]:
                return {name: number for name, number in counted.items() if number}
            await asyncio.sleep(0.05)


async def test_sigterm_writes_what_was_accepted_before_the_gateway_ends(kafka: str, tmp_path: Path) -> None:
    topic = f"told-{uuid4().hex[:12]}"
    with Gateway(CONFIG.format(bootstrap=kafka, topic=topic, away=1.5), tmp_path) as gateway:
        async with aiohttp.ClientSession() as session:
            answers = [await tell(gateway, 0, session)]
            answers += await asyncio.gather(*(tell(gateway, number, session) for number in range(1, 300)))
            gateway.terminate()
        assert 0 == await asyncio.to_thread(gateway.wait)
    assert {202} == {status for status, _ in answers}
    assert {"accepted"} == {answer["state"] for _, answer in answers}
    assert 300 == len({answer["id"] for _, answer in answers})
    assert [*range(300)] == sorted(await numbers(kafka, topic))


async def test_what_was_accepted_is_in_flight_until_it_is_acknowledged(kafka: str, tmp_path: Path) -> None:
    topic = f"told-{uuid4().hex[:12]}"
    with Gateway(CONFIG.format(bootstrap=kafka, topic=topic, away=1.5), tmp_path) as gateway:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(tell(gateway, number, session) for number in range(100)))
        assert {"accepted": 100, "acknowledged": 100} == await settled(gateway)


async def test_a_full_buffer_is_503_and_every_loss_is_counted_while_the_broker_hangs(broker: Broker, tmp_path: Path) -> None:
    topic = f"told-{uuid4().hex[:12]}"
    with Gateway(CONFIG.format(bootstrap=broker.bootstrap, topic=topic, away=60), tmp_path) as gateway:
        async with aiohttp.ClientSession() as session:
            assert 202 == (await tell(gateway, 0, session))[0]
            await settled(gateway)
            broker.pause()
            answers = [await tell(gateway, number, session, size=50_000) for number in range(1, 31)]
            taken = [number for number, (status, _) in enumerate(answers, 1) if status == 202]
            refused = [answer["reason"] for status, answer in answers if status != 202]
            assert {"overloaded"} == set(refused)
            counted = await accounts(gateway.url("admin"))
            assert (len(taken), len(refused)) == (counted["in_flight"], counted["failed"])
            broker.resume()
        assert {"accepted": 31, "acknowledged": 1 + len(taken), "failed": len(refused)} == await settled(gateway)
        broker.pause()
        async with aiohttp.ClientSession() as session:
            lost = [await tell(gateway, 100 + number, session) for number in range(5)]
        assert {202} == {status for status, _ in lost}
        gateway.terminate()
        assert 0 == await asyncio.to_thread(gateway.wait)
    broker.resume()
    held = await numbers(broker.bootstrap, topic)
    assert [0, *taken] == [number for number in held if number < 100]
    assert len(held) == len(set(held))
