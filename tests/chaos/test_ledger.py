"""The verifier can fail: it sees what is lost, what is there against its word, what is there twice, and what has turned."""

from __future__ import annotations

from tests.chaos.ledger import Attempt, Told, verdict


def attempts(*told: Told) -> list[Attempt]:
    return [Attempt("broker", "w", number, one) for number, one in enumerate(told, 1)]


def test_what_was_acknowledged_or_stored_and_is_not_there_is_lost():
    result = verdict(attempts(Told.ACKNOWLEDGED, Told.STORED, Told.ACKNOWLEDGED), [["w/3"]])
    assert ["w/1", "w/2"] == result.lost
    assert [] == result.phantom == result.duplicate == result.reordered == result.strange


def test_what_failed_or_was_refused_and_is_there_is_a_phantom():
    result = verdict(attempts(Told.FAILED, Told.REFUSED, Told.FAILED), [["w/1"], ["w/2"]])
    assert ["w/1", "w/2"] == result.phantom


def test_an_unknown_one_may_be_there_or_not():
    result = verdict(attempts(Told.UNKNOWN, Told.UNKNOWN), [["w/1"]])
    assert [] == result.lost == result.phantom
    assert 2 == result.told[Told.UNKNOWN]


def test_an_accepted_one_that_is_not_there_was_dropped():
    result = verdict(attempts(Told.ACCEPTED, Told.ACCEPTED), [["w/2"]])
    assert 1 == result.dropped
    assert [] == result.lost


def test_what_is_there_twice_is_a_duplicate_in_whichever_partition():
    result = verdict(attempts(Told.ACKNOWLEDGED, Told.ACKNOWLEDGED), [["w/1", "w/2"], ["w/1"]])
    assert ["w/1"] == result.duplicate


def test_a_duplicate_that_had_an_idempotency_key_is_told_apart():
    mine = [Attempt("once", "o", 1, Told.ACKNOWLEDGED), Attempt("broker", "w", 1, Told.ACKNOWLEDGED)]
    result = verdict(mine, [["o/1", "o/1", "w/1", "w/1"]])
    assert (["o/1", "w/1"], ["o/1"]) == (result.duplicate, result.twice)


def test_a_record_behind_one_that_was_written_after_its_answer_is_reordered():
    result = verdict(attempts(Told.ACKNOWLEDGED, Told.ACKNOWLEDGED, Told.ACKNOWLEDGED), [["w/2", "w/1", "w/3"]])
    assert ["w/1"] == result.reordered


def test_between_two_connections_order_holds_where_both_are_to_one_process():
    mine = [Attempt("stored", "w", number, Told.STORED, connection=number) for number in (1, 2)]
    assert ["w/1"] == verdict(mine, [["w/2", "w/1"]]).reordered
    assert [] == verdict(mine, [["w/2", "w/1"]], alone=False).reordered


def test_a_second_copy_and_a_late_unknown_are_not_reordered():
    result = verdict(attempts(Told.UNKNOWN, Told.ACKNOWLEDGED), [["w/2", "w/1", "w/2"]])
    assert [] == result.reordered


def test_a_record_that_nobody_wrote_is_strange():
    assert ["x/1"] == verdict(attempts(Told.ACKNOWLEDGED), [["w/1", "x/1"]]).strange


def test_verdicts_add_up():
    one = verdict(attempts(Told.ACKNOWLEDGED), [[]])
    two = verdict(attempts(Told.FAILED), [["w/1"]])
    total = one + two
    assert 2 == total.attempts
    assert (["w/1"], ["w/1"]) == (total.lost, total.phantom)
    assert {Told.ACKNOWLEDGED: 1, Told.FAILED: 1} == dict(total.told)
