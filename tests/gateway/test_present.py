from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import registry
from gateway.codec import NOTHING_GIVEN, Rule
from gateway.errors import BackendError, CallerError, Reason
from gateway.exchange import Call, Memory
from gateway.framing import NDJSON, SSE
from gateway.message import BYTES, JSON, PROTOBUF, TEXT, Message, Notice
from gateway.present import offers, opened, opening, translation
from gateway.topic.gap import Why, gap
from gateway.topic.log import Place
from gateway.topic.publish import PublishTo
from gateway.topic.tail import TailTo
from gateway.topic.write import Receipt

ROOT = Path(__file__).parents[2]
RECEIPT = Receipt(Place("t", 0, 7, 0)).body()


@pytest.fixture(scope="module")
def formats():
    return {name: registry.load(registry.CODEC, name) for name in registry.kinds(registry.CODEC)}


@pytest.fixture(scope="module")
def methods(formats):
    return formats["protobuf"].contracts([(ROOT / "protos/shop.binpb").read_bytes()]).methods


@pytest.fixture
def spoken(formats):
    """What a target receives of a caller's message, and what the caller gets of the target's reply."""

    async def speak(to, request, reply, *, contract=None, protocol="rest", accepts="", params=None):
        translate = translation(formats, to, contract, protocol, Rule())
        call = Call("1", protocol, "POST /", params=params or {}, accepts=accepts)
        exchange = Memory(request, call=call)
        received = []

        async def target(inner):
            received.append(await inner.receive())
            await inner.send(reply)

        await translate(exchange, target)
        return received[0], exchange.replies[0]

    return speak


async def test_path_variables_become_fields_of_a_json_message(spoken):
    received, _ = await spoken(
        PublishTo(backend="b", publish="t"), Message(b'{"a":1}', JSON), Message(RECEIPT, JSON), params={"who": "ada"}
    )
    assert {"a": 1, "who": "ada"} == json.loads(received.body)


async def test_a_body_of_many_messages_is_not_taken(spoken):
    with pytest.raises(CallerError) as caught:
        await spoken(PublishTo(backend="b", publish="t"), Message(b'{"a":1}\n{"a":2}\n', NDJSON), Message(RECEIPT, JSON))
    assert Reason.UNSUPPORTED == caught.value.reason


@pytest.mark.parametrize(("kind", "form"), [(TEXT, "text"), (BYTES, "bytes"), ("image/png", "bytes")])
async def test_a_receipt_is_json_whatever_was_published(spoken, kind, form):
    to = PublishTo(backend="b", publish="t", format=form)
    received, answered = await spoken(to, Message(b"hello", kind), Message(RECEIPT, JSON))
    assert (b"hello", JSON, RECEIPT) == (received.body, answered.content_type, answered.body)


async def test_a_receipt_is_typed_where_the_contract_replies_one(spoken, methods):
    contract = methods["shop.v1.Orders/Place"]
    order = contract.request.pack({"customer": "ada", "sku": "tea", "quantity": 2})
    received, answered = await spoken(
        PublishTo(backend="b", publish="t"), Message(order, PROTOBUF), Message(RECEIPT, JSON), contract=contract, protocol="grpc"
    )
    assert {"customer": "ada", "sku": "tea", "quantity": 2} == json.loads(received.body)
    assert PROTOBUF == answered.content_type
    assert "t" == contract.reply.unpack(answered.body)["topic"]


async def test_a_receipt_is_not_packed_into_another_message(spoken, methods, formats):
    contract = methods["shop.v1.Stock/Get"]
    to = PublishTo(backend="b", publish="t")
    body = contract.request.pack({"sku": "tea"})
    _, answered = await spoken(to, Message(body, PROTOBUF), Message(RECEIPT, JSON), contract=contract)
    assert (JSON, RECEIPT) == (answered.content_type, answered.body)
    assert (JSON,) == offers(formats, to, contract)


def test_what_replies_can_be_had_in_depends_on_the_contract_and_the_target(formats, methods):
    tail = TailTo(backend="b", tail="t")
    assert (JSON,) == offers(formats, tail, None)
    assert (JSON, PROTOBUF, "application/protobuf") == offers(formats, tail, methods["shop.v1.Orders/Watch"])
    assert (JSON, TEXT) == offers(formats, TailTo(backend="b", tail="t", format="text"), None)


async def test_an_event_has_its_cursor_over_a_websocket_and_over_grpc(spoken, methods):
    record = Message(b'{"sku":"tea"}', JSON, b"ada", cursor="c1", timestamp=0)
    tail = TailTo(backend="b", tail="t")
    _, plain = await spoken(tail, Message(b"{}", JSON), record, protocol="websocket")
    assert ("c1", {"sku": "tea"}) == (json.loads(plain.body)["cursor"], json.loads(plain.body)["body"])
    watch = methods["shop.v1.Orders/Watch"]
    _, typed = await spoken(tail, Message(b"", PROTOBUF), record, protocol="grpc", contract=watch)
    assert "c1" == watch.reply.unpack(typed.body)["cursor"]


async def test_over_rest_an_event_is_bare_unless_the_target_says_envelope(spoken):
    record = Message(b'{"sku":"tea"}', JSON, cursor="c1", timestamp=0)
    _, bare = await spoken(TailTo(backend="b", tail="t"), Message(b"{}", JSON), record)
    _, full = await spoken(TailTo(backend="b", tail="t", envelope=True), Message(b"{}", JSON), record)
    assert (b'{"sku":"tea"}', "c1") == (bare.body, json.loads(full.body)["cursor"])


async def test_a_message_that_is_no_json_is_the_callers_fault_and_a_reply_the_backends(spoken, methods):
    to = PublishTo(backend="b", publish="t")
    with pytest.raises(CallerError) as callers:
        await spoken(to, Message(b"{", JSON), Message(RECEIPT, JSON), params={"a": "b"})
    with pytest.raises(BackendError) as backends:
        await spoken(
            TailTo(backend="b", tail="t"),
            Message(b"{}", JSON),
            Message(b"{", JSON),
            contract=methods["shop.v1.Chat/Talk"],
            accepts=PROTOBUF,
        )
    assert (Reason.MALFORMED, Reason.BAD_ANSWER) == (callers.value.reason, backends.value.reason)


async def test_a_record_that_is_no_json_is_a_string_in_a_bare_stream(formats):
    to = TailTo(backend="events", tail="t")
    present = translation(formats, to, None, "rest", Rule(body="")).replies[NDJSON]
    assert b'{"n": 1}' == present(Message(b'{"n": 1}', JSON)).body
    assert b'"]} not json"' == present(Message(b"]} not json", JSON)).body


@pytest.mark.parametrize("kind", [SSE, NDJSON, JSON])
async def test_opaque_records_are_sent_in_events(formats, kind):
    to = TailTo(backend="events", tail="t", format="bytes")
    present = translation(formats, to, None, "rest", Rule(body="")).replies[kind]
    event = json.loads(present(Message(b"\xff\n", BYTES, cursor="0:1", timestamp=0)).body)
    assert ("/wo=", "base64") == (event["body"], event["encoding"])


@pytest.mark.parametrize(("part", "body"), [("", b"{}"), ("*", None)])
def test_no_body_is_an_empty_message_where_none_is_expected_and_malformed_elsewhere(formats, part, body):
    request = translation(formats, PublishTo(backend="events", publish="t"), None, "rest", Rule(body=part)).requests[JSON]
    if body is None:
        with pytest.raises(CallerError, match="not acceptable JSON"):
            request(b"", NOTHING_GIVEN)
    else:
        assert body == request(b"", NOTHING_GIVEN)


GAP = gap({0: 1}, {0: 4}, Why.RETENTION)
TOLD = {"from": "0:1", "to": "0:4", "reason": "retention", "records": 3}


@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize("format_", ["json", "text", "bytes"])
async def test_a_gap_is_an_object_among_events_and_bodies_whatever_the_topic_holds(spoken, envelope, format_):
    to = TailTo(backend="b", tail="t", on_gap="tell", envelope=envelope, format=format_)
    for accepts, protocol in ((NDJSON, "rest"), (JSON, "rest"), ("", "websocket")):
        _, shown = await spoken(to, Message(b"{}", JSON), GAP, accepts=accepts, protocol=protocol)
        assert {"cursor": "0:4", "gap": TOLD} == json.loads(shown.body)
        assert (JSON, "0:4") == (shown.content_type, shown.cursor)


async def test_in_an_event_stream_a_gap_has_a_name_of_its_own(spoken):
    _, shown = await spoken(TailTo(backend="b", tail="t", on_gap="tell"), Message(b"{}", JSON), GAP, accepts=SSE)
    assert isinstance(shown, Notice)
    assert ("gap", TOLD, "0:4") == (shown.name, json.loads(shown.body), shown.cursor)


async def test_a_typed_caller_gets_an_event_with_a_gap(spoken, methods):
    contract = methods["shop.v1.Orders/Watch"]
    to = TailTo(backend="b", tail="t", on_gap="tell")
    asked = Message(b"", PROTOBUF)
    _, shown = await spoken(to, asked, GAP, contract=contract, protocol="grpc", accepts=PROTOBUF)
    assert {"cursor": "0:4", "gap": {**TOLD, "records": "3"}} == contract.reply.unpack(shown.body)
    _, shown = await spoken(to, Message(b"{}", JSON), GAP, contract=contract, protocol="connect", accepts=JSON)
    assert {"cursor": "0:4", "gap": {**TOLD, "records": "3"}} == json.loads(shown.body)


async def test_between_policies_that_open_messages_a_gap_goes_through_as_it_is(formats):
    inner, outer = opened(formats, TailTo(backend="b", tail="t"), None), opening(formats, None, Rule(), merging=True)
    exchange = Memory(Message(b"{}", JSON), call=Call("1", "rest", "GET /", accepts=NDJSON))

    async def target(innermost):
        await innermost.receive()
        await innermost.send(GAP)

    await outer(exchange, lambda between: inner(between, target))
    assert {"cursor": "0:4", "gap": TOLD} == json.loads(exchange.replies[0].body)
