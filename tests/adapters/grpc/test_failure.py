"""What a call says when the peer speaks HTTP/2 or gRPC badly, or breaks off: in raw HTTP/2."""

from __future__ import annotations

import asyncio
import struct

import pytest

from adapters.backend.grpc import CallTo, Config
from gateway.codec import Contract
from gateway.errors import GatewayError, Outcome, Reason
from gateway.exchange import Call, Memory, new_id
from gateway.message import PROTOBUF, Many, Message
from gateway.status import outcome_of
from gateway.target import Target
from tests.http2 import GOAWAY, OK, RST_STREAM, answering, data, frame, grpc_message, headers

MESSAGE = data(grpc_message(b"hello"))
DONE = headers((b"grpc-status", b"0"), end=True)


async def error_of(*frames: bytes, many: Many = Many.NEITHER, safe: bool = False) -> GatewayError:
    contract = Contract("shop.v1.Test/Get", None, None, many)
    target = Target("route", CallTo(backend="peer", call=contract.name), contract, PROTOBUF, safe=safe)
    async with answering(*frames) as address, Config(kind="grpc", address=address, max_message=1000).build() as backend:
        call = Call(new_id(), "grpc", "/x", many=many, deadline=asyncio.get_running_loop().time() + 1)
        with pytest.raises(GatewayError) as caught:
            await backend.handler(target)(Memory(Message(b"", PROTOBUF), call=call))
    return caught.value


NONSENSE = {
    "hangs up": (),
    "garbage": (b"\xff" * 200,),
    "no status": (headers(*OK), data(grpc_message(b"hello"), end=True)),
    "reset": (frame(RST_STREAM, 0, 1, struct.pack(">I", 2)),),
    "too large": (headers(*OK), data(grpc_message(b"x" * 1001)), DONE),
    "headers too large": (headers(*OK, (b"x-a", b"y" * 16_300)),),
    "goes away": (frame(GOAWAY, 0, 0, struct.pack(">II", 1, 2)), frame(RST_STREAM, 0, 1, struct.pack(">I", 2))),
}


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REPLIES])
@pytest.mark.parametrize("frames", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_leaves_the_outcome_unknown(frames, many):
    error = await error_of(*frames, many=many)
    assert (Reason.BAD_ANSWER, Outcome.UNKNOWN) == (error.reason, outcome_of(error))
    assert "Stream removed" not in error.message


@pytest.mark.parametrize("frames", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_in_a_call_that_changes_nothing_has_failed(frames):
    error = await error_of(*frames, safe=True)
    assert (Reason.BAD_ANSWER, Outcome.FAILED) == (error.reason, outcome_of(error))


@pytest.mark.parametrize(
    "frames",
    [
        (headers(*OK, (b"grpc-status", b"0"), end=True),),
        (headers(*OK), data(b"\0\0\0\0\x50hello"), DONE),
    ],
    ids=["no message", "broken off"],
)
async def test_ok_without_a_whole_message_is_a_bad_answer(frames):
    assert Reason.BAD_ANSWER == (await error_of(*frames)).reason


@pytest.mark.slow
async def test_two_messages_to_a_unary_call_are_no_success():
    """Grpcio reads one and waits for the status behind the other, to the deadline."""
    assert Reason.UNKNOWN_OUTCOME == (await error_of(headers(*OK), MESSAGE, MESSAGE, DONE)).reason


async def test_a_stream_that_the_peer_refused_was_not_worked_on():
    error = await error_of(frame(RST_STREAM, 0, 1, struct.pack(">I", 7)))
    assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))


async def test_an_answer_that_is_not_grpc_is_read_by_its_http_status():
    error = await error_of(headers((b":status", b"503"), (b"content-type", b"text/html")), data(b"<html>", end=True))
    assert Reason.BACKEND_UNAVAILABLE == error.reason
    assert error.message == "the backend answered HTTP 503 in place of gRPC"


async def test_a_code_that_is_none_is_unknown():
    assert Reason.BACKEND_UNKNOWN == (await error_of(headers(*OK, (b"grpc-status", b"99"), end=True))).reason


async def test_the_peers_own_words_are_told_from_the_librarys():
    error = await error_of(headers(*OK, (b"grpc-status", b"14"), (b"grpc-message", b"busy"), end=True))
    assert (Reason.BACKEND_UNAVAILABLE, "busy") == (error.reason, error.message)
