"""Whose question a reply answers."""

from __future__ import annotations

import pytest

from gateway.topic.correlation import Life, Whose, later, new_secret


def test_a_gateway_knows_its_own_questions_and_those_of_other_lives():
    one, other = Life(), Life()
    asked = one.next()
    assert (Whose.OURS, Whose.FOREIGN) == (one.whose(asked), other.whose(asked))


def test_no_two_questions_have_one_id():
    life = Life()
    assert 100 == len({life.next() for _ in range(100)})


@pytest.mark.parametrize("correlation", ["", "1", "0123456789AB-1", "0123456789ab-", "later-", "later-xyz", "0123456789ab-1\n"])
def test_what_no_gateway_writes_is_nobodys(correlation):
    assert Whose.NOBODYS is Life().whose(correlation)


def test_a_question_that_was_not_asked_yet_is_nobodys():
    life = Life()
    life.next()
    assert Whose.NOBODYS is life.whose(f"{life.name}-2")
    assert Whose.NOBODYS is life.whose(f"{life.name}-0")


def test_an_answer_that_is_kept_is_anybodys_and_its_correlation_does_not_tell_the_secret():
    secret = new_secret()
    correlation = later("quotes.asked", secret)
    assert Whose.LATER is Life().whose(correlation)
    assert secret not in correlation
    assert correlation == later("quotes.asked", secret)
    assert correlation != later("orders.asked", secret)


def test_secrets_are_long_and_never_the_same():
    assert 1000 == len({new_secret() for _ in range(1000)})
    assert {24} == {len(new_secret()) for _ in range(10)}
