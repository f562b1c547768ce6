"""Filters of tails."""

from __future__ import annotations

import json
import logging

import pytest

from gateway.errors import CallerError, Reason
from gateway.exchange import Call
from gateway.expression import ExpressionError
from gateway.message import NO_HEADERS, Headers
from gateway.port import Record
from gateway.topic.filter import MAX_BODY, REMEMBERED_BYTES, Filter, Selection

CALL = Call("1", "rest", "GET /", params={"region": "eu"}, query=(("tenant", "shop"),))


class Opened:
    """Reads JSON, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, body: bytes) -> object:
        self.count += 1
        try:
            return json.loads(body)
        except ValueError as error:
            raise CallerError(Reason.MALFORMED, "no JSON") from error


def record(body: object = None, *, key: bytes | None = None, headers: Headers = NO_HEADERS, raw: bytes | None = None) -> Record:
    return Record("t", 0, 7, 1_706_933_106_000, key, json.dumps(body).encode() if raw is None else raw, headers)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("body.n > 1", record({"n": 2})),
        ("body == null", record(None)),
        ("body == 'not JSON'", record(raw=b"not JSON")),
        ("body == '/w=='", record(raw=b"\xff")),
        ("key == 'ada'", record(key=b"ada")),
        ("key == null", record()),
        ("key == '/w=='", record(key=b"\xff")),
        ("headers['x-a'] == '1, 2' && !('x-b' in headers)", record(headers=Headers((("x-a", "1"), ("x-a", "2"))))),
        ("timestamp == '2024-02-03T04:05:06.000Z' && timestamp(timestamp) < timestamp('2024-02-04T00:00:00Z')", record()),
        ("cursor == '0:8'", record()),
        ("params.region == 'eu' && query.tenant == 'shop' && request.limit == 3", record()),
        ("body.tenant == query.tenant", record({"tenant": "shop"})),
    ],
)
def test_a_filter_sees_what_an_event_has_and_who_asks(text, one):
    assert Filter(text, Opened()).shows(one, "0:8", CALL, {"limit": 3})


def test_a_record_of_which_it_is_false_is_not_shown():
    assert not Filter("body.n > 1", Opened()).shows(record({"n": 1}), "", CALL, {})
    assert not Filter("body", Opened()).shows(record("true"), "", CALL, {})


@pytest.mark.parametrize("text", ["body.n > 1", "body.n > 1 && query.tenant == 'shop'"])
def test_a_record_is_opened_once_for_many_callers(text):
    opened = Opened()
    shown = Filter(text, opened)
    one = record({"n": 2})
    assert [True] * 10 == [shown.shows(one, "", CALL, {}) for _ in range(10)]
    assert 1 == opened.count


def test_one_that_is_not_small_is_not_kept():
    opened = Opened()
    shown = Filter("body.size() > 1", opened)
    large = record("x" * REMEMBERED_BYTES)
    assert shown.shows(large, "", CALL, {})
    assert shown.shows(large, "", CALL, {})
    assert 2 == opened.count


def test_a_body_that_it_does_not_ask_for_is_not_opened():
    opened = Opened()
    assert Filter("key == null", opened).shows(record({}), "", CALL, {})
    assert 0 == opened.count


def test_a_body_too_large_to_be_opened_is_a_failure():
    with pytest.raises(CallerError) as caught:
        Filter("body == ''", Opened()).shows(record("x" * MAX_BODY), "", CALL, {})
    assert Reason.TOO_LARGE is caught.value.reason


@pytest.mark.parametrize("text", ["body.n > 1", "body.n > 1 && query.tenant == 'shop'"])
def test_where_it_fails_the_record_is_passed_over_and_that_is_told_less_and_less_often(text, caplog):
    selection = Selection(Filter(text, Opened()), CALL, {}, "t")
    with caplog.at_level(logging.WARNING, "polygate"):
        assert [False] * 9 == [selection.shows(record({"m": n}), "") for n in range(9)]
    assert [1, 2, 4, 8] == [entry.args[2] for entry in caplog.records]
    assert "n is missing" in caplog.messages[0]
    assert selection.shows(record({"n": 2}), "")


@pytest.mark.parametrize(
    ("text", "why"), [("nope", "undeclared reference"), ("key.size()", None), ("1 + 1", "is no filter"), ("'a'", "is no filter")]
)
def test_what_cannot_be_a_filter_is_refused(text, why):
    if why is None:
        assert Filter("key.size() > 1", Opened())
        return
    with pytest.raises(ExpressionError, match=why):
        Filter(text, Opened())


def test_it_tells_which_query_parameters_it_asks_for():
    assert {"a", "b", "c"} == Filter("query.a == query['b'] && has(query.c)", Opened()).queried
