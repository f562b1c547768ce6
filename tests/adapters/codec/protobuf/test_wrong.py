"""A refusal names the very field, as far as its name may be told."""

from __future__ import annotations

import pytest

from adapters.codec.protobuf.wrong import REQUIRED, Renamed, WrongError, located, pointer, refusal
from gateway.errors import FieldError, Reason


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], ""),
        (["a"], "/a"),
        ([1, "lines"], "/lines/1"),
        (["~a/b"], "/~0a~1b"),
        ([""], "/"),
        (["inner", "x" * 65, "outer"], "/outer"),
        (["\ud800"], ""),
        (["a\nb", "outer"], "/outer"),
    ],
)
def test_steps_become_an_rfc_6901_pointer_up_to_one_that_is_not_told(steps, expected):
    assert expected == pointer(steps)


def test_each_holder_adds_its_step_by_the_name_that_the_caller_wrote():
    renamed = Renamed()
    renamed["anInt"], renamed.written["anInt"] = 1, "an_int"
    wrong = located(located(WrongError("is odd"), {}, "deep", 2), renamed, "anInt", None)
    assert [2, "deep", "an_int"] == wrong.steps


def test_a_string_without_utf_8_is_told_in_words():
    with pytest.raises(UnicodeEncodeError) as caught:
        "\ud800".encode()
    assert "has a lone surrogate, which is no character" == located(caught.value, {}, "text", None).detail


def test_the_caller_is_told_the_place_and_the_reason():
    error = refusal("t.M", WrongError("is odd", 1, "lines"))
    assert Reason.MALFORMED is error.reason
    assert "the message does not fit t.M: /lines/1 is odd" == error.message
    assert (FieldError("/lines/1", "is odd"),) == error.details


def test_the_whole_message_has_no_place():
    assert "the message is not an object" == refusal("t.M", WrongError("is not an object")).message
    assert "the message has a part that is no field" == refusal("t.M", WrongError("is no field", "\ud800")).message


def test_what_is_required_is_told_by_its_path():
    error = refusal("t.M", WrongError(REQUIRED, "sku", 1, "lines"))
    assert "lines.1.sku is required" == error.message
    assert (FieldError("/lines/1/sku", "is required"),) == error.details
