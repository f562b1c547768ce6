"""Every row of the spec's bad payloads, over REST, gRPC and WebSocket, against a running gateway: refused, and it lives on.

The rows themselves are those of the codecs' own tests, less the empty body: no body is a message without fields.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from websockets.asyncio.client import connect

from tests.adapters.codec.test_json import BAD
from tests.adapters.codec.test_protobuf import BROKEN, DEEP, any_json, struct_json
from tests.contract.codec import SECRET
from tests.contract.schema import descriptor_set
from tests.system.client import curl, rpc
from tests.system.process import Gateway

BAGS = """
contracts: [bag.binpb]
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
  rpc: {kind: grpc, bind: "127.0.0.1:0"}
  live: {kind: websocket, bind: "127.0.0.1:0"}
backends:
  stub: {kind: stub, answers: {echo: {echo: true}}}
  log: {kind: local, path: ":memory:"}
routes:
  - name: typed
    when: {rest: POST /bags, grpc: test.v1.Bags/Take, websocket: /bags}
    to: {backend: stub, call: echo}
  - name: untyped
    when: {rest: POST /json, websocket: /json}
    to: {backend: stub, call: echo}
  - name: kept
    when: {rest: POST /kept, websocket: /kept}
    to: {backend: log, publish: kept}
"""

BAD_JSON = {name: body for name, body in BAD.items() if body}
BAD_PROTOBUF = {**BROKEN, **DEEP}
DEEP_JSON = {"Struct 400 deep": struct_json(400), "Any 400 deep": any_json(400)}
ALL_JSON = {**BAD_JSON, **{name: json.dumps(value).encode() for name, value in DEEP_JSON.items()}}


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("bags")
    (folder / "bag.binpb").write_bytes(descriptor_set())
    with Gateway(BAGS, folder) as gateway:
        yield gateway


def refused(problem: dict[str, object], body: bytes) -> None:
    """It is the problem of a malformed body, and says neither what was in it nor what read it."""
    assert (400, "malformed", "failed") == tuple(problem[name] for name in ("status", "reason", "outcome")), problem
    text = json.dumps(problem)
    assert SECRET not in text
    assert not any(word in text.lower() for word in ("google.protobuf", "python", "traceback", "json_format"))


@pytest.mark.parametrize("path", ["/bags", "/json", "/kept"])
@pytest.mark.parametrize("name", ALL_JSON)
async def test_bad_json_is_400_over_rest(bags: Gateway, path: str, name: str) -> None:
    body = ALL_JSON[name]
    answer = await curl(bags.url("public", path), "-H", "Content-Type: application/json", data=body)
    assert 400 == answer.status, answer.body[:300]
    refused(answer.json, body)


async def test_bad_json_is_answered_by_its_problem_over_one_websocket_that_stays_open(bags: Gateway) -> None:
    for path in ("/bags", "/json", "/kept"):
        async with connect(bags.url("live", path)) as socket:
            for name, body in BAD_JSON.items():
                try:
                    text = body.decode()
                except UnicodeDecodeError:
                    continue  # a broken frame: 1007, below
                await socket.send(text)
                answer = json.loads(await socket.recv())
                assert "reason" in answer, (name, path)
                refused(answer, body)
            await socket.send('{"text": "still here"}')
            assert "reason" not in json.loads(await socket.recv())


async def test_text_that_is_not_utf_8_closes_a_websocket_with_1007(bags: Gateway) -> None:
    for body in (body for body in BAD_JSON.values() if not _is_text(body)):
        async with connect(bags.url("live", "/json")) as socket:
            await socket.send(body, text=True)
            await socket.wait_closed()
        assert 1007 == socket.close_code


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("name", BAD_PROTOBUF)
async def test_bad_protobuf_is_400_over_rest(bags: Gateway, name: str) -> None:
    answer = await curl(bags.url("public", "/bags"), "-H", "Content-Type: application/x-protobuf", data=BAD_PROTOBUF[name])
    assert 400 == answer.status
    refused(answer.json, BAD_PROTOBUF[name])


async def test_bad_protobuf_is_invalid_argument_over_grpc_without_an_exception_s_text(bags: Gateway) -> None:
    async with rpc(bags.addresses["rpc"]) as client:
        for name, body in BAD_PROTOBUF.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.raw("/test.v1.Bags/Take")(body)
            assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code(), name
            details = caught.value.details() or ""
            assert not any(word in details for word in ("Error", "google.protobuf", "parse", SECRET)), details
        assert b"\x0a\x03tea" == await client.raw("/test.v1.Bags/Take")(b"\x0a\x03tea")


async def test_bad_protobuf_is_answered_by_its_problem_over_one_websocket_that_stays_open(bags: Gateway) -> None:
    async with connect(bags.url("live", "/bags")) as socket:
        for body in BAD_PROTOBUF.values():
            await socket.send(body)
            refused(json.loads(await socket.recv()), body)
        await socket.send(b"\x0a\x03tea")
        assert b"\x0a\x03tea" == await socket.recv()


async def test_nothing_of_it_was_kept_and_no_number_became_another(bags: Gateway) -> None:
    whole = '{"n":18446744073709551615,"m":-9223372036854775808,"x":1.7976931348623157e308,"t":"\\u0000é"}'
    answer = await curl(bags.url("public", "/json"), "-H", "Content-Type: application/json", data=whole.encode())
    assert whole.encode() == answer.body
    data = base64.b64encode(bytes(range(256))).decode()
    answer = await curl(bags.url("public", "/bags"), "--json", json.dumps({"data": data, "wrapped": "9223372036854775807"}))
    assert {"data": data, "wrapped": "9223372036854775807"} == answer.json
