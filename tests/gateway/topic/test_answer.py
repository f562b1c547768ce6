"""Questions and answers as the state has them."""

from __future__ import annotations

import pytest

from gateway.errors import BackendError, Reason
from gateway.message import JSON, NO_HEADERS, Headers
from gateway.port import Record
from gateway.topic.answer import UNKEPT, Answer, Pending, answer_of, failed_as, read
from gateway.topic.log import ERROR


def reply(body=b"yes", key=None, headers=NO_HEADERS):
    return Record("answered", 1, 7, 1_700_000_000_000, key, body, headers)


@pytest.mark.parametrize("body", [b"", b"yes", b"a\nb\n", b"\x00\xff", b'{"at": [0, 0, 0]}'])
@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_an_answer_is_read_as_it_was_written(body, key):
    answer = answer_of(reply(body, key))
    assert answer == read(answer.written())


def test_a_question_is_read_as_it_was_written():
    pending = Pending("quotes.{region}", "quotes.answered", "0:7,1:9", 60.0)
    assert pending == read(pending.written())


def test_the_caller_gets_the_body_and_the_key_in_the_format_of_the_target():
    message = answer_of(reply(b"{}", b"tea")).message(JSON)
    assert (b"{}", JSON, b"tea") == (message.body, message.content_type, message.key)


@pytest.mark.parametrize(
    ("said", "reason"), [("not_found", Reason.NOT_FOUND), ("nonsense", Reason.BACKEND_UNKNOWN), (UNKEPT, Reason.BAD_ANSWER)]
)
def test_a_refusal_is_raised_under_its_own_reason(said, reason):
    with pytest.raises(BackendError) as caught:
        answer_of(reply(headers=Headers(((ERROR, said),)))).message(JSON)
    assert reason is caught.value.reason


def test_every_gateway_makes_the_same_of_one_reply():
    assert answer_of(reply()).written() == answer_of(reply()).written()
    assert isinstance(read(answer_of(reply()).written()), Answer)


def test_an_error_reply_says_nothing_of_its_own_words():
    assert "secret" not in failed_as("secret").message
