"""The envelopes of polygate.v1: what is written is read, in text and in binary, and nothing else is an envelope."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.websocket.envelope import END, Envelope, read, write
from gateway.errors import CallerError, FieldError, Reason
from gateway.message import Headers
from gateway.status import problem

PROBLEM = problem(CallerError(Reason.MALFORMED, "no", details=(FieldError("/a", "is wrong"),)), "7")
_names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
_values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8)
_metadata = st.dictionaries(_names, st.lists(_values, min_size=1, max_size=3), max_size=4).map(
    lambda fields: Headers((name, text) for name, texts in fields.items() for text in texts)
)
_envelopes = (
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(lambda body: Envelope("message", json.dumps(body).encode()))
    | st.builds(Envelope, st.sampled_from(["headers", "trailers"]), headers=_metadata)
    | st.sampled_from([END, Envelope("error", problem=PROBLEM)])
)


@given(_envelopes, st.booleans())
def test_what_is_written_is_read(envelope, text):
    found = read(write(envelope, text=text), text=text)
    assert (envelope.kind, envelope.body, envelope.problem) == (found.kind, found.body, found.problem)
    # A map of protobuf has no order: that of the values of one name is what is kept.
    assert {name: envelope.headers.all(name) for name, _ in envelope.headers} == {
        name: found.headers.all(name) for name, _ in found.headers
    }


@pytest.mark.parametrize(
    ("frame", "envelope"),
    [
        (b'{"message":{"a":1}}', Envelope("message", b'{"a":1}')),
        (b' { "message" : [1] } ', Envelope("message", b" [1] ")),
        (b'{"message":1,"end":true}', Envelope("message", b'1,"end":true')),  # which is no JSON, as its reader will say
        (b'{"end":true}', END),
        (b'{"headers":{}}', Envelope("headers")),
        (
            b'{"headers":{"X-A":["1","2"],"b":"3"}}',
            Envelope("headers", headers=Headers([("x-a", "1"), ("x-a", "2"), ("b", "3")])),
        ),
        (b'{"error":{"code":"NOT_FOUND"}}', Envelope("error", problem={"code": "NOT_FOUND"})),
    ],
)
def test_a_text_frame_is_one_member(frame, envelope):
    assert envelope == read(frame, text=True)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"[]",
        b"1",
        b'{"a":1}',
        b'{"end":false}',
        b'{"end":1}',
        b'{"end":true,"headers":{}}',
        b'{"headers":[]}',
        b'{"headers":{"a":1}}',
        b'{"headers":{"a b":"1"}}',
        b'{"headers":{"a":"1\\n2"}}',
        b'{"headers":{"\xc3\xa9":"1"}}',
        b'{"headers":{"":"1"}}',
        b'{"headers":{":status":"1"}}',
        b'{"error":"x"}',
        b'{"end":true,"end":true}',
        b"[" * 200_000,
    ],
)
def test_a_text_frame_that_is_no_envelope_is_malformed(frame):
    with pytest.raises(CallerError) as caught:
        read(frame, text=True)
    assert Reason.MALFORMED == caught.value.reason


@pytest.mark.parametrize("frame", [b"", b"\xff", b"\x18\x00", b"\x3a\x00", b"\x12\x0b\x0a\x09\x0a\x03a\nb\x12\x02\x0a\x00"])
def test_a_binary_frame_that_is_no_envelope_is_malformed(frame):
    with pytest.raises(CallerError) as caught:
        read(frame, text=False)
    assert Reason.MALFORMED == caught.value.reason
