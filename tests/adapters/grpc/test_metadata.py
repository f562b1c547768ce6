"""Metadata and headers, both ways."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.grpc.metadata import headers_of, metadata_of
from gateway.exposition import metrics
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


@pytest.mark.parametrize(
    ("value", "sent"), [("AAE=", [b"\0\1"]), ("AAE,Ag==, Aw", [b"\0\1", b"\2", b"\3"]), ("!,AAE", [b"\0\1"])]
)
def test_what_was_joined_is_split_before_it_is_decoded(value, sent):
    assert [("x-bin", one) for one in sent] == list(metadata_of((("x-bin", value),)))


@given(st.text())
def test_a_text_value_goes_as_it_is_or_not_at_all(value):
    assert ((("x-a", value),) if value.isascii() and value.isprintable() else ()) == metadata_of((("x-a", value),))


def test_what_cannot_be_passed_on_is_counted():
    def dropped() -> float:
        found = re.search(rb'polygate_header_values_dropped_total{protocol="grpc"} (\S+)', metrics())
        return float(found[1]) if found else 0.0

    before = dropped()
    assert Headers([("x-b", "1")]) == headers_of((("x-a", b"\xe9"), ("x-b", "1")))
    assert () == metadata_of((("x-a", "\xe9"), ("x-bin", "!")))
    assert before + 3 == dropped()
