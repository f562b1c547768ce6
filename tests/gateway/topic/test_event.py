"""Events and cursors."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.message import BYTES, JSON, Headers, Message
from gateway.topic.event import cursor_of, mapped, offsets_of, plain


@given(st.dictionaries(st.integers(0, 10**9 - 1), st.integers(0, 10**19 - 1), min_size=1))
def test_a_cursor_names_the_place_that_it_was_made_of(offsets):
    assert offsets == offsets_of(cursor_of(offsets))


def test_a_cursor_is_the_same_in_whatever_order_partitions_were_read():
    assert "0:1,1:2" == cursor_of({1: 2, 0: 1})


@pytest.mark.parametrize(
    "text", ["", "latest", "0", "0:", ":0", "0:-1", "0:1,", "0:1 ", "0:1\n", "\u0660:\u0661", "0:1.5", "0:" + "9" * 20]
)
def test_a_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(CallerError) as caught:
        offsets_of(text)
    assert Reason.MALFORMED == caught.value.reason


def event(body: bytes, content_type: str = JSON, **more: object) -> Message:
    return Message(body, content_type, **{"cursor": "0:1", "timestamp": 1_700_000_000_123, **more})


def test_a_plain_event_embeds_a_json_body():
    headers = Headers((("a", "1"), ("a", "2"), ("b", "3")))
    assert {
        "cursor": "0:1",
        "key": "ada",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "headers": {"a": ["1", "2"], "b": ["3"]},
        "body": {"n": 1},
    } == plain(event(b'{"n": 1}', key=b"ada", headers=headers))


def test_an_event_without_key_cursor_and_time_says_so():
    said = plain(Message(b"1", JSON))
    assert {"cursor": "", "key": None, "timestamp": "1970-01-01T00:00:00.000Z", "headers": {}, "body": 1} == said


def test_text_stands_in_a_plain_event_as_a_string():
    assert "héllo" == plain(event("héllo".encode(), BYTES))["body"]


def test_bytes_stand_in_a_plain_event_in_base64():
    said = plain(event(b"\xff\x00", BYTES))
    assert (base64.b64encode(b"\xff\x00").decode(), "base64") == (said["body"], said["encoding"])


@pytest.mark.parametrize("body", [b"{", b"NaN", b"[1e999]", b"-Infinity", b'"\\ud800"', b"[" * 100_000, b"1" * 5000])
def test_a_body_that_json_cannot_carry_on_is_shown_as_text(body):
    said = plain(event(body))
    assert body.decode() == said["body"]
    json.loads(json.dumps(said, ensure_ascii=False).encode())


def test_a_body_that_says_json_and_is_bytes_is_shown_in_base64():
    assert "base64" == plain(event(b"\xff"))["encoding"]


def test_whole_surrogate_pairs_and_floats_are_embedded():
    assert ["😀", 1.5] == plain(event(b'["\\ud83d\\ude00", 1.5]'))["body"]


def test_a_mapped_event_has_key_and_body_in_base64():
    assert {
        "cursor": "0:1",
        "key": "/w==",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "headers": {"a": {"values": ["1", "2"]}},
        "body": "e30=",
    } == mapped(event(b"{}", key=b"\xff", headers=Headers((("a", "1"), ("a", "2")))))


def test_a_mapped_event_without_a_key_has_no_such_field():
    assert "key" not in mapped(Message(b""))


def test_a_key_that_is_no_text_is_told_from_one_that_is_not_there():
    said = plain(Message(b"{}", JSON, key=b"\xff", cursor="0:1", timestamp=0))
    assert ("/w==", "base64") == (said["key"], said["key_encoding"])
    none = plain(Message(b"{}", JSON, cursor="0:1", timestamp=0))
    assert none["key"] is None
    assert "key_encoding" not in none
