"""gzip per Content-Encoding, in and out."""

from __future__ import annotations

import gzip
import json

import aiohttp
import pytest

from tests.spec.talk import Peer, served

LONG = {"text": "a" * 5000}


@pytest.fixture
async def http():
    async with (
        served(Peer()) as gateway,
        aiohttp.ClientSession(f"http://{gateway.addresses['rest']}", auto_decompress=False) as session,
    ):
        yield session


@pytest.mark.parametrize("accepts", ["gzip", "br, gzip;q=0.5", "GZIP"])
async def test_a_large_reply_is_compressed_for_a_caller_who_takes_that(http, accepts):
    async with http.post("/one", json=LONG, headers={"accept-encoding": accepts}) as answer:
        body = await answer.read()
        assert ("gzip", "accept-encoding") == (answer.headers["content-encoding"], answer.headers["vary"])
    assert len(body) < 200
    assert LONG == json.loads(gzip.decompress(body))


@pytest.mark.parametrize("accepts", ["identity", "br", "gzip;q=0", "gzip; q=0.0"])
async def test_and_for_nobody_else_who_is_told_that_it_varies(http, accepts):
    async with http.post("/one", json=LONG, headers={"accept-encoding": accepts}) as answer:
        assert LONG == json.loads(await answer.read())
        assert (None, "accept-encoding") == (answer.headers.get("content-encoding"), answer.headers["vary"])


async def test_a_small_reply_is_not_worth_it(http):
    async with http.post("/one", json={"text": "a"}, headers={"accept-encoding": "gzip"}) as answer:
        assert {"text": "a"} == json.loads(await answer.read())
        assert not {"content-encoding", "vary"} & {name.lower() for name in answer.headers}


async def test_a_compressed_request_is_unpacked(http):
    body = gzip.compress(json.dumps(LONG).encode())
    kind = {"content-type": "application/json", "content-encoding": "gzip", "accept-encoding": "identity"}
    async with http.post("/one", data=body, headers=kind) as answer:
        assert LONG == json.loads(await answer.read())
