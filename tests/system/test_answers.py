"""Questions whose answers are fetched later, and gateways that share a reply topic: real processes, some of them killed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from websockets.asyncio.client import connect

from tests.kafka_broker import Broker
from tests.system.client import curl, message, rpc, streaming
from tests.system.conftest import delete
from tests.system.process import ROOT, Gateway

QUESTION = b'{"sku":"tea","quantity":2}'
ANSWER = {"sku": "tea", "quantity": 2, "price": 9.5}
POST = ("-H", "Content-Type: application/json", "-X", "POST")
ASYNC = (*POST, "-H", "Prefer: respond-async")
SSE = ("-H", "Accept: text/event-stream")
KEY = b"0123456789abcdef0123456789abcdef"

LOCAL = f"""
contracts: [{ROOT}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0"}}
  live: {{kind: websocket, bind: "127.0.0.1:0"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
backends:
  events: {{kind: local, path: "${{POLYGATE_VAR}}/shop.db"}}
  hooks: {{kind: http, url: "${{HOOKS:-http://127.0.0.1:9}}/in", breaker: {{pause: 0.1}}}}
  stub: {{kind: stub, answers: {{quote: {{body: {{sku: "{{sku}}", quantity: "{{quantity}}", price: 9.5}}}}}}}}
state: {{path: "${{POLYGATE_VAR}}/state.db"}}
routes:
  - name: quote
    when: {{rest: POST /quotes, grpc: shop.v1.Quotes/Ask, websocket: /quotes}}
    to:
      backend: events
      ask: quotes.asked
      reply_to: quotes.answered
      later: {{keep: 600, callback: {{backends: [hooks], plain: true, sign: {{secret: "{base64.b64encode(KEY).decode()}"}}}}}}
  - {{name: answers, when: {{websocket: /answers}}, to: {{backend: events, results: quotes.asked}}}}
"""
ANSWERED = """
  - {name: answer-quote, when: {topic: quotes.asked}, contract: shop.v1.Quotes/Ask, to: {backend: stub, call: quote}}
"""
LISTENER = """
  quotes: {kind: topic, backend: events, topics: [quotes.asked], group: quotes, reply_to: [quotes.answered]}
backends:"""
ANSWERING = LOCAL.replace("\nbackends:", LISTENER, 1) + ANSWERED


async def asked(gateway: Gateway, *options: str) -> str:
    """The path of an answer that is fetched later."""
    answer = await curl(gateway.url("public", "/quotes"), *ASYNC, *options, data=QUESTION)
    assert 202 == answer.status, answer.body
    assert f"/quotes/{answer.json['id']}" == answer.headers["location"]
    return answer.headers["location"]


async def test_a_question_outlives_a_gateway_that_is_killed_and_so_does_its_answer(tmp_path: Path) -> None:
    with Gateway(LOCAL, tmp_path) as gateway:
        place = await asked(gateway)
        pending = await curl(gateway.url("public", place))
        assert (202, "1", "pending") == (pending.status, pending.headers["retry-after"], pending.json["state"])
        gateway.kill()
    with Gateway(ANSWERING, tmp_path) as gateway:
        answer = await curl(gateway.url("public", f"{place}?wait=20"))
        assert (200, "application/json", ANSWER) == (answer.status, answer.type, answer.json)
        gateway.kill()
    with Gateway(LOCAL, tmp_path) as gateway:
        assert ANSWER == (await curl(gateway.url("public", place))).json
        assert 404 == (await curl(gateway.url("public", f"{place}x"))).status


async def test_an_answer_is_waited_for_as_an_event_stream(tmp_path: Path) -> None:
    with Gateway(LOCAL, tmp_path) as gateway:
        place = await asked(gateway)
        gateway.kill()
    with Gateway(ANSWERING, tmp_path) as gateway:
        async with streaming(gateway.url("public", place), *SSE) as stream:
            assert (200, "text/event-stream") == (stream.status, stream.headers["content-type"])
            assert ANSWER == json.loads((await stream.event())["data"])
        refused = await curl(gateway.url("public", "/quotes/nothing"), *SSE)
        assert (404, "application/problem+json") == (refused.status, refused.type)


async def test_a_caller_waits_for_as_long_as_it_prefers(tmp_path: Path) -> None:
    with Gateway(ANSWERING, tmp_path) as gateway:
        answer = await curl(gateway.url("public", "/quotes"), *POST, "-H", "Prefer: wait=20", data=QUESTION)
        assert (200, ANSWER, "wait=20") == (answer.status, answer.json, answer.headers["preference-applied"])


async def test_other_wires_have_receipts_and_answers_too_and_grpc_its_one_type(tmp_path: Path) -> None:
    with Gateway(ANSWERING, tmp_path) as gateway:
        async with connect(gateway.url("live", "/quotes"), additional_headers={"Prefer": "respond-async"}) as socket:
            await socket.send(QUESTION.decode())
            receipt = json.loads(await socket.recv())
        assert "accepted" == receipt["state"]
        async with connect(gateway.url("live", "/answers")) as socket:
            await socket.send(json.dumps({"id": receipt["id"], "wait": 20}))
            assert ANSWER == json.loads(await socket.recv())
            await socket.send(json.dumps({"id": "nothing"}))
            assert "not_found" == json.loads(await socket.recv())["reason"]
        async with rpc(gateway.addresses["rpc"]) as client:
            ask = client.method("shop.v1.Quotes/Ask")
            quote = await ask(message("shop.v1.AskQuote", sku="tea", quantity=2), metadata=(("prefer", "respond-async"),))
            assert 9.5 == quote.price


SUMS = """
syntax = "proto3";
package sums.v1;
message Add { int32 a = 1; int32 b = 2; }
message Get { string id = 1; int32 wait = 2; }
message Sum { int32 a = 1; int32 b = 2; string sum = 3; }
service Sums {
  rpc Ask(Add) returns (Sum);
  rpc Fetch(Get) returns (Sum);
}
"""
TYPED = """
contracts: [sums.proto]
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  work: {kind: topic, backend: events, topics: [asked], group: sums, reply_to: [answered], content_type: application/x-protobuf}
backends:
  events: {kind: local, path: ":memory:"}
  stub: {kind: stub, answers: {sum: {body: {a: "{a}", b: "{b}", sum: three}}}}
state: {path: "${POLYGATE_VAR}/state.db"}
routes:
  - name: sum
    when: {rest: POST /sums}
    contract: sums.v1.Sums/Ask
    to: {backend: events, ask: asked, reply_to: answered, format: protobuf, later: {}}
  - {name: fetch, when: {grpc: sums.v1.Sums/Fetch}, to: {backend: events, results: asked, format: protobuf}}
  - {name: answer, when: {topic: asked}, contract: sums.v1.Sums/Ask, to: {backend: stub, call: sum}}
"""


async def test_an_answer_is_fetched_in_any_format_and_by_a_method_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sums.proto").write_text(SUMS)
    total = {"a": 1, "b": 2, "sum": "three"}
    with Gateway(TYPED, tmp_path) as gateway:
        taken = await curl(gateway.url("public", "/sums"), *ASYNC, data=b'{"a": 1, "b": 2}')
        place, secret = taken.headers["location"], taken.json["id"]
        assert total == (await curl(gateway.url("public", f"{place}?wait=20"))).json
        binary = await curl(gateway.url("public", place), "-H", "Accept: application/x-protobuf")
        assert bytes.fromhex("080110021a057468726565") == binary.body
        fetch = gateway.url("public", "/sums.v1.Sums/Fetch")
        connected = await curl(fetch, *POST, "-H", "Connect-Protocol-Version: 1", data=json.dumps({"id": secret}).encode())
        assert (200, total) == (connected.status, connected.json)
        gone = await curl(fetch, *POST, "-H", "Connect-Protocol-Version: 1", data=b'{"id": "none"}')
        assert (404, "not_found") == (gone.status, gone.json["code"])


class Receiver:
    """A web server that is posted to. It fails while it is told to."""

    def __init__(self) -> None:
        self.failing = False
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.came = asyncio.Event()
        self.url = ""

    async def post(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), await request.read()))
        self.came.set()
        return web.Response(status=500 if self.failing else 204)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.post)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def test_a_callback_is_signed_and_made_though_its_gateway_was_killed_before_it_was_taken(tmp_path: Path) -> None:
    async with Receiver().serving() as receiver:
        receiver.failing = True
        environment = {"HOOKS": receiver.url}
        with Gateway(ANSWERING, tmp_path, environment) as gateway:
            place = await asked(gateway, "-H", f"Callback-URL: {receiver.url}/in/ada")
            refused = await curl(
                gateway.url("public", "/quotes"), *ASYNC, "-H", "Callback-URL: http://evil.example/in", data=QUESTION
            )
            assert (422, "invalid") == (refused.status, refused.json["reason"])
            async with asyncio.timeout(30):
                await receiver.came.wait()
            gateway.kill()
        receiver.failing = False
        receiver.came.clear()
        failed = len(receiver.requests)
        with Gateway(LOCAL, tmp_path, environment):
            async with asyncio.timeout(90):
                await receiver.came.wait()
    path, headers, body = receiver.requests[-1]
    told = json.loads(body)
    assert ("/in/ada", "answer.done", place.rpartition("/")[2]) == (path, told["type"], told["data"]["id"])
    assert ("done", ANSWER) == (told["data"]["state"], told["data"]["body"])
    sent = {headers["webhook-id"] for _, headers, _ in receiver.requests}
    assert (1, {body}) == (len(sent), {body for _, _, body in receiver.requests})
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert f"v1,{expected}" == headers["webhook-signature"]
    assert 1 <= failed < len(receiver.requests)


# Several gateways on one Kafka, which share the reply topic and the state; the test is the answering side.

SHARED = f"""
contracts: [{ROOT}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
backends:
  events: {{kind: kafka, bootstrap: "${{KAFKA_BOOTSTRAP}}"}}
state: {{backend: events, topic: "MARK-state"}}
routes:
  - name: quote
    when: {{rest: POST /quotes}}
    to:
      backend: events
      ask: MARK-asked
      reply_to: MARK-answered
      share: SHARE
      later: {{keep: 600}}
      idempotency: {{window: 600}}
"""


class Answerer:
    """The answering side: reads each question and answers when it is told to."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._consumer = consumer
        self._producer = producer

    async def question(self) -> dict[str, bytes]:
        """The headers of the next question."""
        async with asyncio.timeout(60):
            record = await self._consumer.getone()
        return dict(record.headers)

    async def answer(self, headers: dict[str, bytes], body: bytes = json.dumps(ANSWER).encode()) -> None:
        partition = headers.get("polygate-reply-partition")
        await self._producer.send_and_wait(
            headers["polygate-reply-to"].decode(),
            body,
            partition=None if partition is None else int(partition),
            headers=[("polygate-correlation-id", headers["polygate-correlation-id"])],
        )

    async def asked(self) -> int:
        """How many questions there are."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        return sum(ends.values())

    async def answer_all(self, count: int) -> list[dict[str, bytes]]:
        """Answer so many questions, the latest first, each with its own id."""
        asked = [await self.question() for _ in range(count)]
        for headers in reversed(asked):
            await self.answer(headers, own_id(headers))
        return asked


@pytest.fixture
def mark() -> str:
    return f"answers-{uuid4().hex[:8]}"


@pytest.fixture
async def answerer(kafka: str, mark: str) -> AsyncIterator[Answerer]:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(f"{mark}-asked", 1, 1), NewTopic(f"{mark}-answered", 2, 1)])
    await admin.close()
    consumer = AIOKafkaConsumer(f"{mark}-asked", bootstrap_servers=kafka, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await consumer.start()
    await producer.start()
    try:
        yield Answerer(consumer, producer)
    finally:
        await consumer.stop()
        await producer.stop()
        await delete(kafka, f"{mark}-asked", f"{mark}-answered", f"{mark}-state")


class Group:
    """Gateways that share a reply topic and a state."""

    def __init__(self, stack: ExitStack, folder: Path, kafka: str, mark: str, share: str) -> None:
        self._stack = stack
        self._folder = folder
        self._config = SHARED.replace("MARK", mark).replace("SHARE", share)
        self._kafka = kafka

    def start(self, name: str) -> Gateway:
        return self._stack.enter_context(Gateway(self._config, self._folder / name, {"KAFKA_BOOTSTRAP": self._kafka}))


def own_id(headers: dict[str, bytes]) -> bytes:
    """An answer that tells which question it is of."""
    return json.dumps(headers["x-request-id"].decode()).encode()


async def ask(gateway: Gateway, count: int) -> set[str]:
    """So many questions at a time, whose answers are their own ids; what came back."""
    answers = await asyncio.gather(*(curl(gateway.url("public", "/quotes"), *POST, data=QUESTION) for _ in range(count)))
    assert [(200, one.headers["x-request-id"]) for one in answers] == [(one.status, one.json) for one in answers]
    return {answer.json for answer in answers}


@pytest.mark.parametrize("share", ["header", "partition"])
async def test_gateways_that_share_a_reply_topic_get_their_own_replies_and_lose_none_when_one_restarts(
    kafka: str, answerer: Answerer, mark: str, tmp_path: Path, share: str
) -> None:
    with ExitStack() as stack:
        group = Group(stack, tmp_path, kafka, mark, share)
        one, other = group.start("one"), group.start("other")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ask(one, 5))
            second = tasks.create_task(ask(other, 5))
            asked = await answerer.answer_all(10)
        assert first.result().isdisjoint(second.result())
        partitions = {headers.get("polygate-reply-partition") for headers in asked}
        assert ({None} if share == "header" else {b"0", b"1"}) == partitions
        waiting = asyncio.get_running_loop().create_task(ask(other, 5))
        questions = [await answerer.question() for _ in range(5)]
        one.kill()
        again = group.start("again")
        for headers in questions:
            await answerer.answer(headers, own_id(headers))
        assert 5 == len(await waiting)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(again, 3))
            await answerer.answer_all(3)
        metrics = (await curl(again.url("admin", "/metrics"))).body.decode()
        assert 'polygate_replies_unmatched_total{backend="events"}' not in metrics


async def test_whoever_is_left_keeps_the_answer_and_who_comes_back_has_it_too(
    kafka: str, answerer: Answerer, mark: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        group = Group(stack, tmp_path, kafka, mark, "header")
        one, other = group.start("one"), group.start("other")
        place = await asked(one)
        headers = await answerer.question()
        one.kill()
        await answerer.answer(headers)
        answer = await curl(other.url("public", f"{place}?wait=20"))
        assert (200, ANSWER) == (answer.status, answer.json)
        again = group.start("again")
        assert ANSWER == (await curl(again.url("public", place))).json


async def test_gateways_ask_once_for_a_key_and_who_waits_on_any_of_them_gets_the_answer(
    kafka: str, answerer: Answerer, mark: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        group = Group(stack, tmp_path, kafka, mark, "header")
        one, other = group.start("one"), group.start("other")

        async def keyed(gateway: Gateway) -> object:
            answer = await curl(gateway.url("public", "/quotes"), *POST, "-H", 'Idempotency-Key: "1"', data=QUESTION)
            return answer.status, answer.json

        place = await asked(one, "-H", 'Idempotency-Key: "1"')
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(keyed(other)) for _ in range(3)]
            headers = await answerer.question()
            one.kill()
            await answerer.answer(headers)
        again = group.start("again")
        assert [(200, ANSWER)] * 4 == [*(call.result() for call in calls), await keyed(again)]
        assert ANSWER == (await curl(again.url("public", place))).json
        # The next question that there is is another.
        await asked(again, "-H", 'Idempotency-Key: "2"')
        assert headers["x-request-id"] != (await answerer.question())["x-request-id"]
        assert 2 == await answerer.asked()


async def test_a_reply_that_came_while_nobody_ran_is_kept_by_whoever_starts(
    kafka: str, answerer: Answerer, mark: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        group = Group(stack, tmp_path, kafka, mark, "partition")
        gateways = [group.start("one"), group.start("other")]
        places = [await asked(gateway) for gateway in gateways for _ in range(3)]
        questions = [await answerer.question() for _ in places]
        for gateway in gateways:
            gateway.kill()
        for headers in questions:
            await answerer.answer(headers)
        again = group.start("again")
        answers = [await curl(again.url("public", f"{place}?wait=20")) for place in places]
        assert [(200, ANSWER)] * 6 == [(answer.status, answer.json) for answer in answers]


ELSEWHERE = (
    ANSWERING.replace('state: {path: "${POLYGATE_VAR}/state.db"}', "state: {backend: kept, topic: TOPIC}")
    .replace("backends:\n  events:", 'backends:\n  kept: {kind: kafka, bootstrap: "${KAFKA}", create: {}}\n  events:')
    .replace("to: {backend: stub, call: quote}", "to: {backend: hooks, call: POST /quote}")
)


class Quoting(Receiver):
    """Answers questions once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.may.set()

    async def post(self, request: web.Request) -> web.Response:
        await request.read()
        await self.may.wait()
        return web.json_response(ANSWER)


async def test_while_the_backend_of_the_state_is_away_answers_are_503_and_none_is_lost(broker: Broker, tmp_path: Path) -> None:
    config = ELSEWHERE.replace("TOPIC", f"kept-{uuid4().hex[:12]}")
    async with Quoting().serving() as quoting:
        environment = {"KAFKA": broker.bootstrap, "HOOKS": quoting.url}
        with await asyncio.to_thread(Gateway, config, tmp_path, environment) as gateway:
            first = await asked(gateway)
            assert ANSWER == (await curl(gateway.url("public", f"{first}?wait=20"))).json
            quoting.may.clear()
            second = await asked(gateway)
            await asyncio.to_thread(broker.kill)
            # The reply comes while it cannot be kept.
            quoting.may.set()
            for place in (first, second):
                refused = await curl(gateway.url("public", place))
                assert (503, "unreachable", "failed") == (refused.status, refused.json["reason"], refused.json["outcome"])
                assert "retry-after" in refused.headers
            refused = await curl(gateway.url("public", "/quotes"), *ASYNC, data=QUESTION)
            assert (503, "failed") == (refused.status, refused.json["outcome"])
            await asyncio.to_thread(broker.start)
            for place in (first, second):
                async with asyncio.timeout(60):
                    while (answer := await curl(gateway.url("public", f"{place}?wait=10"))).status in {202, 503}:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)  # as a caller does
                assert (200, ANSWER) == (answer.status, answer.json)
            assert ANSWER == (await curl(gateway.url("public", f"{await asked(gateway)}?wait=20"))).json


KEYED = (
    ANSWERING.replace("      later:", "      idempotency: {window: 600}\n      later:").replace(
        "to: {backend: stub, call: quote}", "to: {backend: hooks, call: POST /quote}"
    )
    + """
  - {name: asked, when: {rest: GET /asked}, to: {backend: events, tail: quotes.asked}}
"""
)


async def test_a_key_is_one_question_and_one_answer_though_the_gateway_is_killed_in_between(tmp_path: Path) -> None:
    keyed = (*POST, "-H", 'Idempotency-Key: "1"')
    async with Quoting().serving() as quoting:
        quoting.may.clear()
        with await asyncio.to_thread(Gateway, KEYED, tmp_path, {"HOOKS": quoting.url}) as gateway:
            receipts = [await asked(gateway, "-H", 'Idempotency-Key: "1"') for _ in range(2)]
            assert receipts[0] == receipts[1]
            gateway.kill()
        quoting.may.set()
        with await asyncio.to_thread(Gateway, KEYED, tmp_path, {"HOOKS": quoting.url}) as gateway:
            for _ in range(2):
                answer = await curl(gateway.url("public", "/quotes"), *keyed, data=QUESTION)
                assert (200, ANSWER, "true") == (answer.status, answer.json, answer.headers.get("idempotency-replayed"))
            assert ANSWER == (await curl(gateway.url("public", receipts[0]))).json
            refused = await curl(gateway.url("public", "/quotes"), *keyed, data=b'{"sku":"milk","quantity":1}')
            assert (422, "invalid") == (refused.status, refused.json["reason"])
            assert 1 == len((await curl(gateway.url("public", "/asked"), "-H", "Accept: application/json")).json)
