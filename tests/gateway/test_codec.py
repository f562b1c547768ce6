"""What stands for nothing: no contracts, nothing given."""

from __future__ import annotations

from gateway.codec import MESSAGE, NO_CONTRACTS, NOTHING_GIVEN, Rule


def test_no_contracts_are_none():
    assert ({}, ()) == (NO_CONTRACTS.methods, NO_CONTRACTS.files)


def test_nothing_is_given_by_a_call_without_variables_and_query():
    assert ({}, ()) == (dict(NOTHING_GIVEN.params), NOTHING_GIVEN.query)


def test_a_request_is_the_whole_message_unless_a_rule_says_otherwise():
    assert ("*", "") == (Rule().body, Rule().response_body)
    assert not MESSAGE.http
