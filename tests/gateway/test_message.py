"""Messages and headers."""

from __future__ import annotations

from dataclasses import replace

from gateway.message import BYTES, NO_HEADERS, Headers, Many, Message, shared, value

HEADERS = Headers((("a", "1"), ("b", "2"), ("a", "3")))


def test_headers_keep_duplicates_in_order():
    assert "1" == HEADERS.get("a")
    assert ("1", "3") == HEADERS.all("a")
    assert None is HEADERS.get("c")
    assert () == HEADERS.all("c")


def test_headers_are_never_changed_but_made_anew():
    assert Headers((("b", "2"),)) == HEADERS.without("a", "c")
    assert Headers((*HEADERS, ("c", "4"))) == HEADERS.plus(("c", "4"))
    assert HEADERS == Headers((("a", "1"), ("b", "2"), ("a", "3")))
    assert isinstance(HEADERS.without("a"), Headers)
    assert not NO_HEADERS


def test_a_message_is_its_bytes_unless_told_more():
    assert Message(b"1", BYTES, None, NO_HEADERS, None, None) == Message(b"1")
    assert 1 == len({Message(b"1"), Message(b"1")})
    assert Message(b"2", key=b"k") == replace(Message(b"1", key=b"k"), body=b"2")


def test_a_value_has_no_room_for_more():
    @value
    class Point:
        x: int

    assert not hasattr(Point(1), "__dict__")
    assert Point(1) == Point(1)


def test_both_sides_are_requests_and_replies():
    assert Many.BOTH is Many.REQUESTS | Many.REPLIES
    assert not Many.NEITHER


def test_what_is_made_of_one_message_for_many_is_made_once():
    made = []

    def render(message):
        made.append(message.body)
        return message.body.upper()

    sharing = shared(render)
    messages = [Message(b"%d" % number) for number in range(100)]
    for message in messages:
        assert [message.body] * 3 == [sharing(message) for _ in range(3)]
    assert [message.body for message in messages] == made
    # An equal one is another one: who has it may stand elsewhere.
    assert b"99" == sharing(Message(b"99"))
    assert 101 == len(made)
    large = Message(bytes(1 << 20))
    assert sharing(large) == sharing(large)
    assert 103 == len(made)
