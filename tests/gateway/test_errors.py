"""Errors, and the translation of a library's into ours."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason, RetryAfter, translating


def test_an_error_says_what_who_and_how_long():
    error = CallerError(Reason.RATE_LIMITED, "slowly", details=(RetryAfter(2.0),), outcome=Outcome.FAILED)
    assert (Reason.RATE_LIMITED, "slowly", (RetryAfter(2.0),), Outcome.FAILED) == (
        error.reason,
        error.message,
        error.details,
        error.outcome,
    )
    assert "slowly" == str(error)
    assert isinstance(error, GatewayError)


def test_the_first_row_that_fits_gives_the_reason_and_the_cause_is_kept():
    table = ((ConnectionError, Reason.UNREACHABLE, "away"), ((OSError, KeyError), Reason.REFUSED, "refused"))
    for cause, reason in ((ConnectionResetError("x"), Reason.UNREACHABLE), (KeyError("x"), Reason.REFUSED)):
        with pytest.raises(BackendError) as raised, translating(*table):
            raise cause
        assert (reason, cause) == (raised.value.reason, raised.value.__cause__)


@pytest.mark.parametrize("error", [ValueError("x"), CallerError(Reason.INVALID, "x"), asyncio.CancelledError()])
def test_what_no_row_names_passes_as_it_is(error):
    with pytest.raises(type(error)) as raised, translating((OSError, Reason.REFUSED, "refused")):
        raise error
    assert error is raised.value


def test_one_of_ours_passes_whatever_the_table_says():
    error = CallerError(Reason.INVALID, "x")
    with pytest.raises(CallerError) as raised, translating((Exception, Reason.REFUSED, "refused")):
        raise error
    assert error is raised.value


def test_without_an_error_nothing_happens():
    with translating((OSError, Reason.REFUSED, "refused")):
        done = True
    assert done
