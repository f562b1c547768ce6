"""The one table of what callers are told."""

from __future__ import annotations

import json

import pytest

from gateway.errors import Allowed, BackendError, CallerError, FieldError, Outcome, Reason, RetryAfter
from gateway.message import PROBLEM
from gateway.status import (
    TABLE,
    Code,
    allowed,
    failure,
    outcome_of,
    problem,
    problem_body,
    reason_of_code,
    reason_of_http,
    retry_after,
)


def test_every_reason_has_its_row():
    assert set(Reason) == set(TABLE)


@pytest.mark.parametrize("reason", Reason)
def test_each_row_is_an_error_on_every_wire(reason):
    row = TABLE[reason]
    assert Code.OK != row.code
    assert 400 <= row.http < 600
    assert row.close in {1000, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013} or 3000 <= row.close < 5000
    assert row.title


@pytest.mark.parametrize("reason", [reason for reason in Reason if TABLE[reason].outcome is Outcome.UNKNOWN])
def test_what_may_have_been_done_is_never_called_retryable_by_us(reason):
    """A backend's own UNAVAILABLE is passed on as it is understood everywhere."""
    assert not TABLE[reason].retryable or reason is Reason.BACKEND_UNAVAILABLE


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_backends_code_comes_out_as_it_went_in(code):
    reason = reason_of_code(code)
    assert code is TABLE[reason].code
    assert reason.value.startswith("backend_")


@pytest.mark.parametrize("code", [-1, 0, 17, 1000])
def test_a_code_that_nobody_knows_is_unknown(code):
    assert Reason.BACKEND_UNKNOWN is reason_of_code(code)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, Reason.BACKEND_NOT_FOUND),
        (429, Reason.BACKEND_RESOURCE_EXHAUSTED),
        (408, Reason.BACKEND_DEADLINE_EXCEEDED),
        (410, Reason.BACKEND_FAILED_PRECONDITION),
        (418, Reason.BACKEND_FAILED_PRECONDITION),
        (425, Reason.BACKEND_UNAVAILABLE),
        (500, Reason.BACKEND_INTERNAL),
        (599, Reason.BACKEND_INTERNAL),
        (302, Reason.BACKEND_UNKNOWN),
        (999, Reason.BACKEND_UNKNOWN),
    ],
)
def test_an_http_status_has_the_reason_that_google_gives_it(status, reason):
    assert reason is reason_of_http(status)


def test_an_error_may_know_its_outcome_better_than_its_row():
    assert Outcome.UNKNOWN is outcome_of(BackendError(Reason.BAD_ANSWER, "x"))
    assert Outcome.FAILED is outcome_of(BackendError(Reason.BAD_ANSWER, "x", outcome=Outcome.FAILED))


def test_when_to_come_again():
    assert 7.5 == retry_after(CallerError(Reason.RATE_LIMITED, "x", details=(Allowed(("GET",)), RetryAfter(7.5))))
    assert 1.0 == retry_after(BackendError(Reason.UNREACHABLE, "x"))
    assert None is retry_after(CallerError(Reason.INVALID, "x"))


def test_what_would_have_been_taken():
    assert ("GET", "HEAD") == allowed(CallerError(Reason.WRONG_METHOD, "x", details=(RetryAfter(1), Allowed(("GET", "HEAD")))))
    assert () == allowed(CallerError(Reason.WRONG_METHOD, "x"))


def test_the_problem_object_is_that_of_rfc_9457_with_ours():
    error = CallerError(Reason.MALFORMED, "no \u00e9", details=(FieldError("/a", "is missing"), FieldError("", "x")))
    expected = {
        "type": "urn:polygate:reason:malformed",
        "title": "Malformed request",
        "status": 400,
        "detail": "no \u00e9",
        "reason": "malformed",
        "code": "INVALID_ARGUMENT",
        "retryable": False,
        "outcome": "failed",
        "id": "x-1",
        "errors": [{"pointer": "/a", "detail": "is missing"}, {"pointer": "", "detail": "x"}],
    }
    assert expected == problem(error, "x-1")
    assert expected == json.loads(problem_body(error, "x-1"))
    assert "errors" not in problem(BackendError(Reason.UNREACHABLE, "x"), "x-1")


def test_an_error_can_be_a_message_among_others():
    error = CallerError(Reason.INVALID, "x")
    message = failure(error, "x-1")
    assert (PROBLEM, error, problem_body(error, "x-1")) == (message.content_type, message.error, message.body)
