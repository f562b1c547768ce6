"""W3C Trace Context."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message import Headers
from gateway.policy.trace import traced

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
VALID = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")


def _parts(headers: Headers) -> tuple[str, str, str]:
    (parent,) = headers.all("traceparent")
    return VALID.match(parent).groups()


def test_a_callers_trace_goes_on_with_a_span_of_ours():
    headers, trace = traced(Headers((("traceparent", PARENT), ("accept", "*/*"), ("tracestate", "a=1"), ("tracestate", "b=2"))))
    assert TRACE == trace
    assert (TRACE, "01") == _parts(headers)[::2]
    assert SPAN != _parts(headers)[1]
    assert ("a=1", "b=2") == headers.all("tracestate")
    assert "*/*" == headers.get("accept")


def test_without_one_a_trace_begins_that_is_sampled():
    headers, trace = traced(Headers((("accept", "*/*"),)))
    assert (trace, "01") == _parts(headers)[::2]
    assert traced(Headers())[1] != trace


@pytest.mark.parametrize(
    "parent",
    [
        "",
        TRACE,
        PARENT.upper(),
        PARENT + "-x",
        PARENT + " ",
        PARENT + "\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01x",
    ],
)
def test_an_invalid_one_is_dropped_with_its_state(parent):
    headers, trace = traced(Headers((("traceparent", parent), ("tracestate", "a=1"))))
    assert TRACE != trace
    assert trace == _parts(headers)[0]
    assert None is headers.get("tracestate")


def test_two_are_as_good_as_none():
    headers, trace = traced(Headers((("traceparent", PARENT), ("traceparent", PARENT))))
    assert TRACE != trace
    assert trace == _parts(headers)[0]


def test_state_without_a_parent_is_dropped():
    assert None is traced(Headers((("tracestate", "a=1"),)))[0].get("tracestate")


@pytest.mark.parametrize("parent", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-adds"])
def test_a_later_version_is_read_as_far_as_we_know_it(parent):
    headers, trace = traced(Headers((("traceparent", parent),)))
    assert TRACE == trace
    assert (TRACE, "01") == _parts(headers)[::2]


def test_flags_that_nobody_knows_are_not_handed_on():
    assert "03" == _parts(traced(Headers((("traceparent", f"00-{TRACE}-{SPAN}-ff"),)))[0])[2]


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.text() | st.just(PARENT))))
def test_whatever_comes_one_valid_parent_goes_out(pairs):
    headers, trace = traced(Headers(pairs))
    found, span, _ = _parts(headers)
    assert trace == found
    assert int(trace, 16)
    assert int(span, 16)
