"""Metadata and headers, both ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.grpc.metadata import headers_of, metadata_of
from gateway.message import NO_HEADERS, Headers


def test_nothing_is_nothing():
    assert NO_HEADERS == headers_of(None)
    assert NO_HEADERS == headers_of(())
    assert () == metadata_of(NO_HEADERS)


def test_what_is_reserved_goes_neither_way():
    pairs = (
        ("grpc-timeout", "1S"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("connection", "close"),
        ("x-a", "1"),
    )
    assert Headers((("x-a", "1"),)) == headers_of(pairs)
    assert (("x-a", "1"),) == metadata_of(pairs)


def test_a_name_that_grpc_cannot_carry_is_left_out():
    assert () == metadata_of(((":status", "201"), ("x a", "1"), ("", "1"), ("X-Upper", "1")))


def test_base64_that_is_none_is_left_out():
    assert () == metadata_of((("x-bin", "!"),))


def test_base64_may_come_without_its_padding():
    assert (("x-bin", b"\x00\x01"),) == metadata_of((("x-bin", "AAE"),))


@given(st.binary())
def test_bytes_come_back_as_they_went(value):
    assert (("x-bin", value),) == metadata_of(headers_of((("x-bin", value),)))


@given(st.text())
def test_a_text_value_is_always_printable_ascii(value):
    [(_, sent)] = metadata_of((("x-a", value),))
    assert sent.isascii()
    assert sent.isprintable()
