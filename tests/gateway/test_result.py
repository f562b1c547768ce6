"""What an expression gives. Every kind of value and error is met in test_expression.py; here is what they are called."""

from __future__ import annotations

import pytest

from gateway.errors import CallerError, FieldError, Reason
from gateway.result import PassedOver, fail, refuse


def test_what_does_not_fit_is_malformed_and_says_why():
    with pytest.raises(CallerError, match="not what this route needs: it is blue") as caught:
        fail("it is blue")
    assert (Reason.MALFORMED, (FieldError("", "it is blue"),)) == (caught.value.reason, caught.value.details)


def test_what_is_passed_over_is_counted_and_told_less_and_less_often(caplog):
    passed = PassedOver("the filter")
    for number in range(9):
        passed.note("id", f"t/0/{number}", CallerError(Reason.MALFORMED, "no"))
    assert 9 == passed.count
    assert [1, 2, 4, 8] == [entry.args[2] for entry in caplog.records]


def test_what_would_cost_too_much_is_too_large():
    with pytest.raises(CallerError, match="too large to be worked on: it is long") as caught:
        refuse("it is long")
    assert Reason.TOO_LARGE is caught.value.reason
