"""The spec's lines on streams, each proved over real wires against a real gRPC server.

A caller of every wire, and the server behind the gateway itself or behind a second one, which the first reaches over WebSocket
(envelopes of polygate.v1) or over HTTP (NDJSON both ways).
"""

from __future__ import annotations

import asyncio
import json

import aiohttp
import grpc
import pytest

from tests.spec.callers import CALLERS, REST, WebSocket
from tests.spec.talk import VIAS, Peer, say, served, served_via

NDJSON = "application/x-ndjson"
PATIENCE_S = 10


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


@pytest.fixture(params=VIAS)
async def via(request):
    return request.param


@pytest.fixture
async def anyhow(via, peer):
    """The gateway, however it reaches the server."""
    async with served_via(via, peer) as gateway:
        yield gateway


every_caller = pytest.mark.parametrize("caller", CALLERS, ids=repr)
every_caller_that_ends = pytest.mark.parametrize("caller", [one for one in CALLERS if one.half_closes], ids=repr)


async def post(rest, path, data, kind="application/json", **headers):
    async with rest.post(path, data=data, headers={"content-type": kind, **headers}) as answer:
        return answer.status, answer.content_type, await answer.text()


# In: NDJSON or a JSON array


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


# Every kind of method, on every pair of wires


@every_caller_that_ends
async def test_a_client_stream_passes_on_every_pair_of_wires(anyhow, caller):
    answer = await caller.ask(anyhow, "Requests", ("a", 1), ("b", 2), ("c", 3))
    assert ([("a,b,c", 3)], "OK") == (answer.said, answer.end.code)


@every_caller_that_ends
async def test_a_server_stream_passes_on_every_pair_of_wires(anyhow, caller):
    answer = await caller.ask(anyhow, "Replies", ("a", 3))
    assert ([("a", 0), ("a", 1), ("a", 2)], "OK") == (answer.said, answer.end.code)


@every_caller_that_ends
async def test_a_bidirectional_stream_passes_on_every_pair_of_wires(anyhow, caller):
    answer = await caller.ask(anyhow, "Both", ("a", 1), ("b", 2))
    assert ([("a", 1), ("b", 2)], "OK") == (answer.said, answer.end.code)


# One message in, one message out of what streams


async def test_a_bare_websocket_has_streams_too(anyhow):
    async with WebSocket().calling(anyhow, "Replies") as talk:
        await talk.send("a", 3)
        answer = await talk.rest()
    assert ([("a", 0), ("a", 1), ("a", 2)], "OK") == (answer.said, answer.end.code)
    async with WebSocket().calling(anyhow, "Both") as talk:
        for number in range(3):
            await talk.send("a", number)
            assert ("a", number) == await talk.receive()


async def test_a_client_stream_over_a_bare_websocket_is_refused_with_what_can_carry_it(gateway):
    async with WebSocket().calling(gateway, "Requests") as talk:
        answer = await talk.rest()
    assert (426, "UNIMPLEMENTED") == (answer.end.status, answer.end.code)
    assert "polygate.v1" in answer.end.detail


# Out over HTTP: SSE, NDJSON, JSON array, by route and Accept


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("application/x-ndjson", "application/x-ndjson", '{"text":"a"}\n{"text":"a","number":"1"}\n'),
        ("text/event-stream", "text/event-stream", 'data: {"text":"a"}\n\ndata: {"text":"a","number":"1"}\n\n'),
        ("application/json", "application/json", '[{"text":"a"},{"text":"a","number":"1"}]'),
        ("*/*", "application/x-ndjson", '{"text":"a"}\n{"text":"a","number":"1"}\n'),
        (
            "application/json;q=0.5, text/event-stream",
            "text/event-stream",
            'data: {"text":"a"}\n\ndata: {"text":"a","number":"1"}\n\n',
        ),
    ],
)
async def test_a_server_stream_goes_out_as_accept_says(rest, accept, kind, body):
    assert (200, kind, body) == await post(rest, "/replies", '{"text":"a","number":2}', Accept=accept)


@pytest.mark.parametrize(
    ("accept", "body"), [("application/x-ndjson", ""), ("text/event-stream", ""), ("application/json", "[]")]
)
async def test_an_empty_stream_is_an_empty_array_or_nothing(rest, accept, body):
    assert (200, accept, body) == await post(rest, "/replies", "{}", Accept=accept)


async def test_what_no_stream_is_served_as_is_unacceptable(rest):
    status, kind, _ = await post(rest, "/replies", "{}", Accept="text/html")
    assert (406, "application/problem+json") == (status, kind)


@every_caller
async def test_each_element_leaves_as_soon_as_it_is_there(anyhow, peer, caller):
    heard = asyncio.Event()

    async def one_by_one(context):
        await context.read()
        await say(context, "first")
        await heard.wait()
        await say(context, "second")

    peer.methods["Replies"] = one_by_one
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Replies") as talk:
        await talk.send("a")
        await talk.finish()
        assert ("first", 0) == await talk.receive()
        heard.set()
        assert [("second", 0)] == (await talk.rest()).said


@pytest.mark.parametrize("caller", [one for one in CALLERS if one not in REST or one is REST[0]], ids=repr)
async def test_each_element_comes_in_as_soon_as_it_is_whole_and_is_answered_before_the_next(anyhow, caller):
    """Requests are read while replies are sent: as full a duplex as HTTP/1.1 and its client allow."""
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Both") as talk:
        for number in range(3):
            await talk.send("a", number)
            assert ("a", number) == await talk.receive()
        await talk.finish()


# Errors: before the first message a proper status, after it in-band, never a clean end


def failing(after: int):
    async def fail(context):
        await context.read()
        for number in range(after):
            await say(context, "a", number)
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such sku")

    return fail


@every_caller
@pytest.mark.parametrize("method", ["Replies", "Both"])
async def test_an_error_before_the_first_message_is_a_proper_status(anyhow, peer, caller, method):
    peer.methods[method] = failing(0)
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, method) as talk:
        await talk.send("a")
        await talk.finish()
        answer = await talk.rest()
    assert ([], "NOT_FOUND") == (answer.said, answer.end.code)
    if caller in REST:
        assert 404 == answer.end.status


@every_caller
@pytest.mark.parametrize("method", ["Replies", "Both"])
async def test_an_error_after_the_first_message_is_in_band(anyhow, peer, caller, method, via):
    peer.methods[method] = failing(2)
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, method) as talk:
        await talk.send("a")
        await talk.finish()
        answer = await talk.rest()
    assert [("a", 0), ("a", 1)] == answer.said
    if caller.name.endswith("-json"):
        # An array has no place for it: it is never closed.
        assert "BROKEN" == answer.end.code
    else:
        # A stream of lines has no place for it but a line, which a gateway that reads them takes for what it is: no message.
        assert ("UNAVAILABLE" if via == "http" else "NOT_FOUND") == answer.end.code


@every_caller_that_ends
async def test_an_error_of_a_client_stream_is_its_answer_though_the_caller_still_speaks(anyhow, peer, caller):
    peer.methods["Requests"] = failing(0)
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Requests") as talk:
        await talk.send("a")
        answer = await talk.rest()
    assert ([], "NOT_FOUND") == (answer.said, answer.end.code)


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        (NDJSON, '{"text":"a"}\n{"text":\n', 400, "malformed"),
        (NDJSON, '{"text":"a"}\n{"texts":"b"}\n', 400, "malformed"),
        ("application/json", '[{"text":"a"},]', 400, "malformed"),
        ("application/json", '[{"text":"a"}', 400, "malformed"),
        ("application/json", '[{"text":"a"}] x', 400, "malformed"),
        ("application/json", '[{"text":"a"} {"text":"b"}]', 400, "malformed"),
        ("application/json", '[1, {"text":"b"}]', 400, "malformed"),
        ("application/json", '{"text":"a"}{"text":"b"}', 400, "malformed"),
        ("application/json", "[" * 100_000, 400, "malformed"),
        (NDJSON, "[" * 100_000 + "\n", 400, "malformed"),
        ("application/xml", "<a/>", 415, "unsupported"),
        (NDJSON + "; charset=latin-1", "", 415, "unsupported"),
    ],
)
async def test_what_is_no_client_stream_is_refused(rest, kind, body, status, reason):
    found, answered, text = await post(rest, "/requests", body, kind)
    assert (status, "application/problem+json", reason) == (found, answered, json.loads(text)["reason"])


@pytest.mark.parametrize(("path", "kind", "body"), [("/one", NDJSON, "{}\n{}"), ("/replies", NDJSON, "{}")])
async def test_many_messages_to_a_method_that_takes_one_are_unsupported(rest, path, kind, body):
    status, _, text = await post(rest, path, body, kind)
    assert (415, "unsupported") == (status, json.loads(text)["reason"])


async def test_an_array_is_no_message_of_a_method_that_takes_one(rest):
    assert 400 == (await post(rest, "/one", "[{}]"))[0]


# Cancellation, both ways


def waiting(*, said: bool):
    async def wait(context):
        await context.read()
        if said:
            await say(context, "a")
        await asyncio.get_running_loop().create_future()

    return wait


@every_caller
@pytest.mark.parametrize("said", [False, True], ids=["before the first reply", "after it"])
async def test_a_caller_who_leaves_cancels_the_backend_call(anyhow, peer, caller, said):
    arrived = asyncio.Event()

    async def wait(context):
        arrived.set()
        await waiting(said=said)(context)

    peer.methods["Both"] = wait
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Both") as talk:
        await talk.send("a")
        if said:
            assert ("a", 0) == await talk.receive()
        await arrived.wait()
        await talk.leave()
        await peer.cancelled.wait()


@every_caller
async def test_a_backend_that_has_answered_ends_the_call_though_the_caller_still_speaks(anyhow, peer, caller):
    async def enough(context):
        await context.read()
        await say(context, "enough")

    peer.methods["Both"] = enough
    async with asyncio.timeout(PATIENCE_S), caller.calling(anyhow, "Both") as talk:
        await talk.send("a")
        answer = await talk.rest()
    assert ([("enough", 0)], "OK") == (answer.said, answer.end.code)
