"""The problem object that is described is the one that is sent."""

from __future__ import annotations

import jsonschema_rs
import pytest

from gateway.description import problem
from gateway.errors import CallerError, FieldError, Reason
from gateway.schema import Schemas
from gateway.status import TABLE
from gateway.status import problem as sent


@pytest.mark.parametrize("reason", list(Reason))
def test_what_is_sent_for_a_reason_is_as_described(reason):
    validator = jsonschema_rs.validator_for(problem.schema())
    validator.validate(sent(CallerError(reason, "why", details=(FieldError("/a", "is wrong"),)), "id"))
    validator.validate(sent(CallerError(reason, "why"), "id"))


def test_reasons_of_one_status_are_one_response_told_once():
    components = {}
    schemas = Schemas()
    first = problem.responses([Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME, Reason.MALFORMED], components, schemas)
    again = problem.responses([Reason.UNKNOWN_OUTCOME, Reason.TIMED_OUT, Reason.TIMED_OUT], components, schemas)
    assert {"400": {"$ref": "#/components/responses/malformed"}, **again} == first
    assert {"malformed", "unknown_outcome.timed_out"} == set(components)


def test_every_verb_may_end_in_what_may_be_tried_again():
    for reasons in problem.OF_VERB.values():
        assert any(TABLE[reason].retryable for reason in reasons)
