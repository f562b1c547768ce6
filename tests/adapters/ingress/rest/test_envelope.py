"""Envelopes, and gRPC-Web's text: bytes in, messages out."""

from __future__ import annotations

import base64

import pytest

from adapters.ingress.rest.envelope import Base64, Envelopes, envelope
from gateway.errors import CallerError, Reason


def test_an_envelope_is_flags_length_and_body():
    assert b"\x01\x00\x00\x00\x03tea" == envelope(1, b"tea")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_envelopes_come_out_whole_whatever_pieces_they_came_in(size):
    wire = envelope(0, b"tea") + envelope(1, b"") + envelope(2, b"x" * 50)
    envelopes, found = Envelopes(50), []
    for start in range(0, len(wire), size):
        envelopes.feed(wire[start : start + size])
        while (one := envelopes.next()) is not None:
            found.append(one)
    assert [(0, b"tea"), (1, b""), (2, b"x" * 50)] == found
    assert envelopes.empty


def test_an_envelope_over_the_limit_is_refused_before_its_body_has_come():
    envelopes = Envelopes(10)
    envelopes.feed(envelope(0, b"x" * 11)[:5])
    with pytest.raises(CallerError) as caught:
        envelopes.next()
    assert Reason.TOO_LARGE is caught.value.reason


def test_a_body_that_ends_within_an_envelope_is_not_empty():
    envelopes = Envelopes(10)
    envelopes.feed(envelope(0, b"tea")[:-1])
    assert envelopes.next() is None
    assert not envelopes.empty


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000])
def test_text_may_be_padded_in_every_piece(size):
    text = base64.b64encode(b"t") + base64.b64encode(b"ea") + base64.b64encode(b"and milk")
    decode = Base64()
    assert b"tea" + b"and milk" == b"".join(decode(text[at : at + size]) for at in range(0, len(text), size))


@pytest.mark.parametrize("text", [b"****", b"AA=A", b"A===", b"\xff\xff\xff\xff"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(CallerError) as caught:
        Base64()(text)
    assert Reason.MALFORMED is caught.value.reason
