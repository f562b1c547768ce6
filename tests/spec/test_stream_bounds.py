"""Streams are bounded: a slow side slows the other, one message is limited and not the whole, and nothing is held.

What is counted is messages that were accepted, never time: without back-pressure the whole of a flood would be.
"""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import grpc.aio
import pytest

from tests.spec.callers import CALLERS, REST, Enveloped, Grpc, WebSocket
from tests.spec.talk import HttpBody, Line, Peer, gateway_of, served, served_via

NDJSON = "application/x-ndjson"
PATIENCE_S = 30
CHUNK = "x" * (1 << 16)
FLOOD = 1500
"""Messages of 64 KiB: some 100 MB, many times what sockets, gRPC windows and our own bounds hold together."""
HELD = 700
STALLED_S = 0.5


@pytest.fixture
async def peer():
    return Peer()


async def stalled(count):
    """What a count comes to, once it no longer grows."""
    before = -1
    while count() != before:
        before = count()
        await asyncio.sleep(STALLED_S)
    return before


@pytest.mark.slow
@pytest.mark.parametrize("via", ["grpc", "websocket", "http"])
@pytest.mark.parametrize("caller", [REST[0], Grpc(), WebSocket(), Enveloped()], ids=repr)
async def test_a_slow_reader_slows_the_backend(peer, via, caller):
    written = 0

    async def flood(context):
        nonlocal written
        await context.read()
        for number in range(FLOOD):
            await context.write(Line(text=CHUNK, number=number).SerializeToString())
            written += 1

    peer.methods["Replies"] = flood
    async with asyncio.timeout(PATIENCE_S), served_via(via, peer) as gateway, caller.calling(gateway, "Replies") as talk:
        await talk.send("a")
        await talk.finish()
        assert (CHUNK, 0) == await talk.receive()
        assert await stalled(lambda: written) < HELD
        for number in range(1, 50):
            assert (CHUNK, number) == await talk.receive()
        await talk.leave()


@pytest.mark.slow
@pytest.mark.parametrize("via", ["grpc", "websocket", "http"])
@pytest.mark.parametrize("caller", [REST[0], Grpc(), WebSocket(), Enveloped()], ids=repr)
async def test_a_slow_backend_slows_the_sender(peer, via, caller):
    go_on, further = asyncio.Event(), asyncio.Event()
    count = FLOOD

    async def slow(context):
        await go_on.wait()
        while await context.read() is not grpc.aio.EOF:
            pass

    peer.methods["Both"] = slow
    sent = 0

    async def speak(talk):
        nonlocal sent
        for _ in range(FLOOD):
            await talk.send(CHUNK)
            sent += 1
            if sent > count + 50:
                further.set()

    async with (
        asyncio.timeout(PATIENCE_S),
        served_via(via, peer) as gateway,
        caller.calling(gateway, "Both") as talk,
        asyncio.TaskGroup() as group,
    ):
        speaking = group.create_task(speak(talk))
        count = await stalled(lambda: sent)
        assert 0 < count < HELD
        go_on.set()
        await further.wait()
        speaking.cancel()
        await asyncio.wait([speaking])
        await talk.leave()


# One message is limited, the whole is not


def small(config):
    config["listeners"]["rest"] |= {"max_body": 4096, "body_seconds": 0.5}


async def test_a_body_may_be_as_long_as_it_likes_when_its_messages_are_not(peer):
    line = json.dumps({"text": "x" * 1000})
    async with served(peer, small) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}/requests"
        for kind, body in ((NDJSON, f"{line}\n" * 500), ("application/json", f"[{','.join([line] * 500)}]")):
            async with session.post(url, data=body, headers={"content-type": kind}) as answer:
                assert "500" == (await answer.json())["number"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (NDJSON, json.dumps({"text": "x" * 5000})),
        ("application/json", f"[{json.dumps({'text': 'x' * 5000})}]"),
        ("application/json", json.dumps({"text": "x" * 5000})),
        ("application/json", "[" + json.dumps({"text": "x" * 5000})),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_message_over_the_limit_is_refused(peer, kind, body, packed):
    headers = {"content-type": kind, **({"content-encoding": "gzip"} if packed else {})}
    async with served(peer, small) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}/requests"
        data = gzip.compress(body.encode()) if packed else body.encode()
        async with session.post(url, data=data, headers=headers) as answer:
            assert (413, "too_large") == (answer.status, (await answer.json())["reason"])


async def test_a_message_that_does_not_come_is_waited_for_no_longer_than_the_config_says(peer):
    async with served(peer, small) as gateway, REST[0].calling(gateway, "Both") as talk:
        await talk.send("a")
        answer = await talk.rest()
    assert ([("a", 0)], "DEADLINE_EXCEEDED") == (answer.said, answer.end.code)


async def test_a_backend_that_takes_its_time_is_no_slow_caller(peer):
    async def slow(context):
        while (body := await context.read()) is not grpc.aio.EOF:
            await asyncio.sleep(0.3)
            await context.write(body)

    peer.methods["Both"] = slow
    async with served(peer, small) as gateway:
        answer = await REST[0].ask(gateway, "Both", *[("a", number) for number in range(1, 4)])
    assert ([("a", 1), ("a", 2), ("a", 3)], "OK") == (answer.said, answer.end.code)


async def test_a_compressed_body_is_unpacked_as_it_comes_and_a_bomb_is_never_held(peer):
    line = json.dumps({"text": "x" * 1000})
    async with served(peer, small) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}/requests"
        headers = {"content-type": NDJSON, "content-encoding": "gzip"}
        async with session.post(url, data=gzip.compress(f"{line}\n".encode() * 500), headers=headers) as answer:
            assert "500" == (await answer.json())["number"]
        async with session.post(url, data=gzip.compress(b" " * (32 << 20)), headers=headers) as answer:
            assert (413, "too_large") == (answer.status, (await answer.json())["reason"])
        for body, status in ((b"\x1f\x8b\x08", 400), (b"{}", 400)):
            async with session.post(url, data=body, headers=headers) as answer:
                assert status == answer.status


# HttpBody in and out, streamed


async def test_httpbody_comes_in_as_it_is_in_pieces_of_its_own_type(peer):
    data = bytes(range(256)) * 4096
    async with served(peer) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}/upload/logo.png"

        async def pieces():
            for start in range(0, len(data), 100_000):
                yield data[start : start + 100_000]

        async with session.post(url, data=pieces(), headers={"content-type": "image/png"}) as answer:
            said = await answer.json()
        assert [f"[('logo.png', 'image/png')] {len(data)} {data[:10]!r}"] == [said["text"]]
        assert int(said["number"]) > 1
        async with session.post(url, data=b"", headers={"content-type": "image/png"}) as answer:
            assert "[('logo.png', 'image/png')] 0 b''" == (await answer.json())["text"]


async def test_httpbody_goes_out_as_it_is_and_is_what_the_first_piece_says(peer):
    async with served(peer) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}/download/hello"
        async with session.get(url, headers={"accept": "application/json"}) as answer:
            assert (200, "text/x-shout", b"hellohellohello") == (answer.status, answer.content_type, await answer.read())


async def test_each_piece_of_an_httpbody_leaves_as_soon_as_it_is_there(peer):
    heard = asyncio.Event()

    async def one_by_one(context):
        await context.read()
        await context.write(HttpBody(data=b"first", content_type="text/x-shout").SerializeToString())
        await heard.wait()
        await context.write(HttpBody(data=b"second").SerializeToString())

    peer.methods["Download"] = one_by_one
    async with (
        asyncio.timeout(PATIENCE_S),
        served(peer) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.addresses['rest']}/download/x") as answer,
    ):
        assert b"first" == await answer.content.readany()
        heard.set()
        assert b"second" == await answer.content.read()


@pytest.mark.parametrize("after", [0, 1])
async def test_an_error_of_an_httpbody_is_a_status_before_it_and_a_broken_body_after(peer, after):
    async def fail(context):
        await context.read()
        for _ in range(after):
            await context.write(HttpBody(data=b"first").SerializeToString())
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")

    peer.methods["Download"] = fail
    async with (
        served(peer) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.addresses['rest']}/download/x") as answer,
    ):
        if after:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            assert (404, "no such file") == (answer.status, (await answer.json(content_type=None))["detail"])


# One message stays one message


PUBLISHED = {
    "contracts": ["talk.binpb"],
    "listeners": {"rest": {"kind": "rest", "bind": "127.0.0.1:0"}},
    "backends": {"log": {"kind": "local", "path": ":memory:"}},
    "routes": [
        {"name": "plain", "when": {"rest": "POST /plain"}, "to": {"backend": "log", "publish": "lines"}},
        {
            "name": "many",
            "when": {"rest": "POST /many"},
            "contract": "spec.v1.Talk/Both",
            "to": {"backend": "log", "publish": "lines"},
        },
    ],
}


@pytest.mark.parametrize("path", ["/plain", "/many"])
async def test_each_object_to_a_topic_is_one_record_with_one_receipt_whatever_the_contract_may_carry(path):
    async with gateway_of(PUBLISHED) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.addresses['rest']}{path}"
        async with session.post(url, json={"text": "a"}) as answer:
            assert (201, 0) == (answer.status, (await answer.json())["offset"])
        async with session.post(url, data=b'{"text":"a"}\n{"text":"b"}\n', headers={"content-type": NDJSON}) as answer:
            told = [json.loads(line) for line in (await answer.text()).splitlines()]
            assert (200, [(201, 1), (201, 2)]) == (answer.status, [(one["status"], one["receipt"]["offset"]) for one in told])


def test_every_wire_is_here() -> None:
    assert {type(one) for one in CALLERS} == {type(REST[0]), Grpc, WebSocket, Enveloped}
