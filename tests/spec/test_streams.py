"""The spec's lines on streams, each proved over real wires against a real gRPC server."""

from __future__ import annotations

import aiohttp
import pytest

from tests.spec.talk import Peer, served

NDJSON = "application/x-ndjson"


@pytest.fixture
async def peer():
    return Peer()


@pytest.fixture
async def gateway(peer):
    async with served(peer) as gateway:
        yield gateway


@pytest.fixture
async def rest(gateway):
    async with aiohttp.ClientSession(f"http://{gateway.addresses['rest']}") as session:
        yield session


async def post(rest, path, data, kind="application/json", **headers):
    async with rest.post(path, data=data, headers={"content-type": kind, **headers}) as answer:
        return answer.status, answer.content_type, await answer.text()


@pytest.mark.parametrize(
    ("kind", "body", "answer"),
    [
        (NDJSON, '{"text":"a"}\n{"text":"b"}\n', '{"text":"a,b","number":"2"}'),
        ("application/jsonl", '{"text":"a"}\r\n\n{"text":"b"}', '{"text":"a,b","number":"2"}'),
        ("application/json", ' [ {"text":"a,[]"} , {"text":"b\\"]"}] \n', '{"text":"a,[],b\\"]","number":"2"}'),
        ("application/json", '{"text":"a"}', '{"text":"a","number":"1"}'),
        ("application/json", "[]", "{}"),
        ("application/json", "", '{"number":"1"}'),
        (NDJSON, "", "{}"),
        (NDJSON, "\n\n", "{}"),
    ],
)
async def test_a_client_stream_comes_in_as_lines_or_as_an_array_or_as_one_message(rest, kind, body, answer):
    assert (200, "application/json", answer) == await post(rest, "/requests", body, kind)
