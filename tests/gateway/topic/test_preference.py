"""What a caller prefers (RFC 7240)."""

from __future__ import annotations

import pytest

from gateway.exchange import Call
from gateway.message import Headers
from gateway.topic.preference import NONE, Preference, preference_of


def preferring(*values, protocol="rest"):
    return preference_of(Call("1", protocol, "POST /", Headers(("prefer", value) for value in values)))


@pytest.mark.parametrize(
    ("values", "preference"),
    [
        ((), NONE),
        (("respond-async",), Preference(later=True)),
        (("Respond-Async",), Preference(later=True)),
        (("respond-async, wait=10",), Preference(later=True, wait=10)),
        (("respond-async", "wait=10"), Preference(later=True, wait=10)),
        (("wait=10; strict, return=minimal",), Preference(wait=10)),
        (('wait="7"',), Preference(wait=7)),
        (("wait = 3",), Preference(wait=3)),
        (("wait=0",), Preference(wait=0)),
        (("wait=5, wait=9",), Preference(wait=5)),
        (("wait=999999999",), Preference(wait=86_400)),
        (("wait=-1, wait=1.5, wait=x, wait, waiting=3, respond-asynchronously",), NONE),
        (("wait=٣",), NONE),
    ],
)
def test_prefer_is_read_as_the_standard_says_and_what_is_not_known_is_passed_over(values, preference):
    assert preference == preferring(*values)


@pytest.mark.parametrize("protocol", ["grpc", "grpc_web", "connect"])
def test_wires_whose_replies_have_one_type_know_no_preferences(protocol):
    assert NONE == preferring("respond-async", protocol=protocol)


@pytest.mark.parametrize(
    ("preference", "applied"),
    [
        (Preference(later=True), "respond-async"),
        (Preference(wait=3), "wait=3"),
        (Preference(later=True, wait=3), "respond-async, wait=3"),
    ],
)
def test_what_was_applied_is_told(preference, applied):
    assert applied == preference.applied
