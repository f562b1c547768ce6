"""Many messages in one request, each answered by itself: over a real socket, through a whole gateway."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.plan import plan
from gateway.server import Gateway

CONFIG = """
listeners: {{public: {{kind: rest, bind: "127.0.0.1:0", max_body: 1000}}}}
backends: {{log: {{kind: local, path: ":memory:"}}}}
state: {{path: {state}}}
routes:
  - name: lines
    when: {{rest: "POST /lines/{{region}}"}}
    to: {{backend: log, publish: "orders.{{region}}", key: "{{order}}", max_batch: 5, idempotency: {{}}}}
  - name: arrays
    when: {{rest: "POST /arrays"}}
    to: {{backend: log, publish: orders, key: "{{order}}", batch: true}}
  - name: plain
    when: {{rest: "POST /plain"}}
    to: {{backend: log, publish: plain}}
  - name: atomic
    when: {{rest: "POST /atomic"}}
    to: {{backend: log, publish: whole, key: "{{order}}", atomic: true, max_batch: 5, max_batch_bytes: 1024, idempotency: {{}}}}
  - name: tail
    when: {{rest: "GET /tail/{{topic}}"}}
    to: {{backend: log, tail: "{{topic}}", start: earliest, envelope: true}}
"""
NDJSON = "application/x-ndjson"
JSON = "application/json"


class Caller:
    def __init__(self, session, address):
        self._session = session
        self._at = f"http://{address}"

    async def post(self, path, body, kind=JSON, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(self._at + path, data=body, headers={"content-type": kind, **named}) as answer:
            return answer.status, answer.content_type, await answer.text()

    async def lines(self, path, body, **headers):
        status, kind, text = await self.post(path, body, NDJSON, **headers)
        assert (200, NDJSON) == (status, kind)
        return [json.loads(line) for line in text.splitlines()]

    async def held(self, topic):
        async with self._session.get(f"{self._at}/tail/{topic}", headers={"accept": JSON}) as answer:
            return [event["body"] for event in await answer.json()]


@pytest.fixture
async def caller(tmp_path):
    @asynccontextmanager
    async def opened():
        path = tmp_path / "gateway.yaml"
        path.write_text(CONFIG.format(state=tmp_path / "state.db"))
        async with Gateway(plan(path)) as gateway, aiohttp.ClientSession() as session:
            yield Caller(session, gateway.addresses["public"])

    async with opened() as one:
        yield one


async def test_every_line_gets_its_receipt_in_order(caller):
    answers = await caller.lines("/lines/eu", b'{"order":"a"}\n\n{"order":"b"}\r\n{"order":"c"}')
    assert [(201, 0), (201, 1), (201, 2)] == [(one["status"], one["receipt"]["offset"]) for one in answers]
    assert ["a", "b", "c"] == [body["order"] for body in await caller.held("orders.eu")]
    assert {"eu"} == {body["region"] for body in await caller.held("orders.eu")}


async def test_what_is_wrong_with_one_is_told_with_it_alone(caller):
    answers = await caller.lines("/lines/eu", b'{"order":"a"}\nnonsense\n{}\n{"order":"b"}\n')
    assert [201, 400, 400, 201] == [one["status"] for one in answers]
    assert ["malformed", "malformed"] == [one["error"]["reason"] for one in answers if "error" in one]
    assert 2 == len(await caller.held("orders.eu"))


async def test_an_array_gets_an_array_where_the_route_takes_it_for_a_batch(caller):
    status, kind, text = await caller.post("/arrays", b' [{"order":"a"}, {"order":7}, {"order":"c"}] ')
    assert (200, JSON) == (status, kind)
    assert [(201, 0), (201, 1), (201, 2)] == [(one["status"], one["receipt"]["offset"]) for one in json.loads(text)]
    assert (200, JSON, "[]") == await caller.post("/arrays", b"[]")


async def test_one_message_is_answered_as_ever_on_a_route_that_takes_batches(caller):
    status, kind, text = await caller.post("/arrays", b'{"order":"a"}')
    assert (201, JSON, 0) == (status, kind, json.loads(text)["offset"])
    assert 400 == (await caller.post("/arrays", b"{"))[0]
    assert 400 == (await caller.post("/arrays", b""))[0]
    assert 413 == (await caller.post("/arrays", b'{"order":"%b"}' % (b"x" * 2000)))[0]


async def test_an_array_is_one_message_where_the_route_does_not_say_otherwise(caller):
    status, _, text = await caller.post("/plain", b"[1,2]")
    assert (201, 0) == (status, json.loads(text)["offset"])
    assert [[1, 2]] == await caller.held("plain")
    assert [201, 201] == [one["status"] for one in await caller.lines("/plain", b"[1,2]\n3\n")]


async def test_accept_decides_how_the_answers_come(caller):
    status, kind, text = await caller.post("/plain", b"1\n2\n", NDJSON, accept=JSON)
    assert (200, JSON, 2) == (status, kind, len(json.loads(text)))
    status, kind, text = await caller.post("/arrays", b'[{"order":"a"}]', accept=NDJSON)
    assert (200, NDJSON, 201) == (status, kind, json.loads(text)["status"])
    assert 406 == (await caller.post("/plain", b"1\n", NDJSON, accept="image/png"))[0]
    assert NDJSON == (await caller.post("/plain", b"1\n", NDJSON, accept="*/*"))[1]


async def test_what_is_too_many_is_refused_and_those_before_are_answered(caller):
    answers = await caller.lines("/lines/eu", b"".join(b'{"order":"%d"}\n' % number for number in range(9)))
    assert [201] * 5 + [413] == [one["status"] for one in answers]
    assert 5 == len(await caller.held("orders.eu"))


async def test_a_body_that_breaks_off_is_the_last_answer(caller):
    status, _, text = await caller.post("/arrays", b'[{"order":"a"},{"order":"b"}')
    assert (200, [201, 201, 400]) == (status, [one["status"] for one in json.loads(text)])
    status, _, text = await caller.post("/arrays", b'[{"order":"a"},{"order":"%b"}]' % (b"x" * 2000))
    assert (200, [201, 413]) == (status, [one["status"] for one in json.loads(text)])


async def test_each_message_of_a_batch_has_a_key_of_its_own_by_its_place(caller):
    body = b'{"order":"a"}\n{"order":"b"}\n'
    first = await caller.lines("/lines/eu", body, idempotency_key='"k"')
    again = await caller.lines("/lines/eu", body + b'{"order":"c"}\n', idempotency_key='"k"')
    assert [None, None] == [one.get("replayed") for one in first]
    assert [*({**one, "replayed": True} for one in first)] == again[:2]
    assert (201, 2, None) == (again[2]["status"], again[2]["receipt"]["offset"], again[2].get("replayed"))
    other = await caller.lines("/lines/eu", b'{"order":"a"}\n{"order":"x"}\n', idempotency_key='"k"')
    assert [201, 422] == [one["status"] for one in other]
    assert 3 == len(await caller.held("orders.eu"))


async def test_a_repeated_call_is_answered_as_the_first_and_says_so(caller):
    path, body = "/lines/eu", b'{"order":"a"}'
    headers = {"content-type": JSON, "idempotency-key": '"k"'}
    async with caller._session.post(caller._at + path, data=body, headers=headers) as first:
        told = (first.status, await first.read(), first.headers.get("idempotency-replayed"))
    async with caller._session.post(caller._at + path, data=body, headers=headers) as again:
        assert (*told[:2], "true") == (again.status, await again.read(), again.headers.get("idempotency-replayed"))
    assert 201 == told[0]
    assert told[2] is None
    assert 400 == (await caller.post(path, body, idempotency_key='"'))[0]
    assert 422 == (await caller.post(path, b'{"order":"b"}', idempotency_key="k"))[0]


async def test_a_caller_that_reads_only_once_all_is_sent_gets_all(caller):
    count = 3000
    body = b"[" + b",".join(b'{"order":"%d"}' % number for number in range(count)) + b"]"
    status, _, text = await caller.post("/arrays", body)
    assert (200, [201] * count) == (status, [one["status"] for one in json.loads(text)])
    assert [*range(count)] == [one["receipt"]["offset"] for one in json.loads(text)]


async def test_a_batch_of_an_atomic_route_is_written_as_one(caller):
    status, kind, text = await caller.post("/atomic", b'[{"order":"a"},{"order":"b"}]')
    assert (200, JSON) == (status, kind)
    assert [(201, 0), (201, 1)] == [(one["status"], one["receipt"]["offset"]) for one in json.loads(text)]
    answers = await caller.lines("/atomic", b'{"order":"c"}\n{"order":"d"}')
    assert [(201, 2), (201, 3)] == [(one["status"], one["receipt"]["offset"]) for one in answers]
    status, _, text = await caller.post("/atomic", b'{"order":"e"}')
    assert (201, 4) == (status, json.loads(text)["offset"])
    assert (200, JSON, "[]") == await caller.post("/atomic", b"[]")
    assert 5 == len(await caller.held("whole"))


@pytest.mark.parametrize(
    ("body", "kind", "status", "where"),
    [
        (b'[{"order":"a"},{"other":1}]', JSON, 400, ["/1/order"]),
        (b'{"order":"a"}\n{"order":"b"}\nnonsense\n', NDJSON, 400, ["/2"]),
        (b'[{"order":"a"},{"order":"b"}', JSON, 400, ["/2"]),
        (b"".join(b'{"order":"%d"}\n' % number for number in range(6)), NDJSON, 413, ["/5"]),
        (b'{"order":"%b"}\n' % (b"x" * 600) * 2, NDJSON, 413, ["/1"]),
    ],
)
async def test_what_is_wrong_with_one_of_an_atomic_batch_is_told_by_its_place_and_nothing_is_written(
    caller, body, kind, status, where
):
    answer, told, text = await caller.post("/atomic", body, kind)
    assert (status, "application/problem+json") == (answer, told)
    assert where == [one["pointer"] for one in json.loads(text)["errors"]]
    assert (201, 0) == ((one := await caller.post("/atomic", b'{"order":"e"}'))[0], json.loads(one[2])["offset"])


async def test_a_repeated_atomic_batch_is_answered_as_the_first(caller):
    body = b'[{"order":"a"},{"order":"b"}]'
    _, _, first = await caller.post("/atomic", body, idempotency_key="k")
    _, _, again = await caller.post("/atomic", body, idempotency_key="k")
    assert [{**one, "replayed": True} for one in json.loads(first)] == json.loads(again)
    assert 422 == (await caller.post("/atomic", body[:-1] + b',{"order":"c"}]', idempotency_key="k"))[0]
    assert 2 == len(await caller.held("whole"))
