"""Streams in HTTP bodies: what is written can be read, however it is cut."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import framing
from gateway.framing import SSE_HEARTBEAT, Elements, Event, Events, Lines, NoArrayError, TooLongError, ndjson, sse


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in chunks."""
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(bounds)]


def lines_of(chunks: list[bytes], **settings) -> list[bytes]:
    """Every line, the last without its end included."""
    lines = Lines(**settings)
    return [*(line for chunk in chunks for line in lines.feed(chunk)), lines.end()]


def events_of(*chunks: bytes) -> list[Event]:
    """Every event."""
    events = Events()
    return [event for chunk in chunks for event in events.feed(chunk)]


_places = st.lists(st.integers(0, 1000), max_size=12)
_text = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
_broken = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"data: x", b"\xc3\xa9"]), max_size=20).map(b"".join)


def test_an_event_is_written_as_the_standard_says():
    assert b"data: 1\n\n" == sse(b"1")
    assert b"event: error\nid: 0:7\ndata: 1\n\n" == sse(b"1", id="0:7", name="error")
    assert b"data: a\ndata: b\ndata: c\ndata: \n\n" == sse(b"a\r\nb\rc\n")


@given(st.lists(st.tuples(_text, _text.filter(lambda text: "\0" not in text), _text.filter(bool)), max_size=5), _places)
def test_events_that_were_written_are_read(events, places):
    body = b"".join(SSE_HEARTBEAT + sse(data.encode(), id=mark, name=name) for data, mark, name in events)
    assert [Event(data, name, mark) for data, mark, name in events] == events_of(*cut(body, places))


@given(_broken.map(lambda body: sse(b"x") + body + b"\n\n"), _places)
@example(b"data: x\r\n\n\n", [8, 9, 10])
def test_however_a_stream_of_events_is_cut_the_same_events_are_read(body, places):
    assert events_of(body) == events_of(*cut(body, places))


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
        (b"data:a\r\rdata: b\r\n\r\n", [Event("a"), Event("b")]),
        (b"data:  a\n\n", [Event(" a")]),
        (b"data\n\n", [Event("")]),
        (b"data: a\ndata: b\n\n", [Event("a\nb")]),
        (b"event: x\n\ndata: a\n\n", [Event("a")]),
        (b": comment\nretry: 10\nunknown: x\ndata: a\n\n", [Event("a")]),
        (b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [Event("a", id="1"), Event("b", id="1"), Event("c", id="")]),
        (b"id: 1\0\ndata: a\n\n", [Event("a")]),
        (b"data: \xff\n\n", [Event("\ufffd")]),
        (b"data: not ended\n", []),
    ],
)
def test_events_are_read_as_the_standard_says(body, events):
    assert events == events_of(body)
    assert events == events_of(*(bytes([byte]) for byte in body))


def test_an_event_of_many_lines_has_a_bound():
    events = Events(limit=100)
    with pytest.raises(TooLongError, match="100"):
        list(events.feed(b"data: 123456789\n" * 12))


def test_a_heartbeat_is_no_event():
    assert [] == events_of(SSE_HEARTBEAT)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_one_line_of_ndjson_that_says_the_same(value):
    line = ndjson(json.dumps(value, indent=1).replace("\n", "\r\n").encode())
    assert 1 == line.count(b"\n")
    assert line.endswith(b"\n")
    assert value == json.loads(line)


@given(_broken, _places)
def test_lines_end_with_lf_or_crlf_however_they_are_cut(body, places):
    expected = [line.removesuffix(b"\r") for line in body.split(b"\n")[:-1]] + body.split(b"\n")[-1:]
    assert expected == lines_of(cut(body, places))


@given(_broken, _places)
@example(b"a\r\n\n", [2, 3])
def test_or_with_a_lone_cr_where_that_is_said(body, places):
    assert re.split(rb"\r\n|\r|\n", body) == lines_of(cut(body, places), lone_cr=True)


@given(st.integers(0, 20), st.integers(0, 40), _places)
def test_a_line_is_never_longer_than_the_limit(limit, length, places):
    body = b"x" * length + b"\n"
    if length <= limit:
        assert [body[:-1], b""] == lines_of(cut(body, places), limit=limit)
    else:
        with pytest.raises(TooLongError, match=str(limit)):
            lines_of(cut(body, places), limit=limit)


def test_a_line_that_does_not_end_is_refused_before_it_does():
    lines = Lines(limit=10)
    assert [] == list(lines.feed(b"x" * 10))
    with pytest.raises(TooLongError):
        list(lines.feed(b"x"))


def elements_of(chunks: list[bytes], limit: int = 1 << 20) -> list[bytes]:
    """Every element of an array that comes in chunks."""
    elements = Elements(limit)
    found = [element for chunk in chunks for element in elements.feed(chunk)]
    elements.end()
    return found


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_punctuation = st.text(st.sampled_from('[]{},:"\\ \n1ae'), max_size=30)


@given(st.lists(_json, max_size=6), st.sampled_from([None, 1, "\t"]), st.booleans(), _places)
def test_an_array_is_cut_into_its_elements_however_it_comes(values, indent, ascii_only, places):
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    assert values == [json.loads(element) for element in elements_of(cut(body, places))]
    assert values == [json.loads(element) for element in elements_of([bytes((byte,)) for byte in body])]


@given(_punctuation.map(lambda text: f"[{text}]") | _punctuation, _places)
@example('["\\\\"]', [2, 3, 4])
@example("[{]", [])
@example('[{"a":1},]', [])
def test_what_is_cut_into_json_elements_is_a_json_array_and_nothing_else_is(text, places):
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        found = [json.loads(element) for element in elements_of(cut(text.encode(), places))]
    except ValueError:
        found = None
    assert (expected if isinstance(expected, list) else None) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"1",
        b"[",
        b"[1",
        b"[1,",
        b"[,1]",
        b"[1,]",
        b"[1,,2]",
        b"[,]",
        b"[1]]",
        b"[1] x",
        b"[1}",
        b'["a]',
        b"[[1]",
    ],
)
def test_what_is_no_whole_array_is_refused(body):
    with pytest.raises(NoArrayError):
        elements_of([body])


def test_an_empty_array_has_no_elements():
    assert [] == elements_of([b" [ ", b"\n] "])


@pytest.mark.parametrize("body", [b'["' + b"x" * 101 + b'"]', b"[" + b"1" * 101, b"[[" + b"[" * 101, b"[1" + b" " * 101])
def test_an_element_over_the_limit_is_never_held(body):
    for chunks in ([body], [bytes((byte,)) for byte in body]):
        with pytest.raises(TooLongError, match="100"):
            elements_of(chunks, 100)


@pytest.mark.parametrize("element", [b'{"a":[1]}', b"[]", b"{}"])
def test_an_object_is_there_before_its_comma_has_come(element):
    elements = Elements()
    assert [element] == list(elements.feed(b"[ " + element))
    assert [] == list(elements.feed(b" "))
    assert [element] == list(elements.feed(b" , " + element))
    assert [] == list(elements.feed(b"]"))
    elements.end()


def test_white_space_before_an_element_is_no_part_of_it():
    assert [b"1", b"2"] == elements_of([b"[", *[b" " * 64] * 16, b"1,", *[b"\n" * 64] * 16, b"2]"], 8)


@pytest.mark.parametrize(
    "body",
    [b'"' + b'\\"' * 30_000, b"[" + b"[]" * 30_000, b"[" + b"[[]]" * 15_000, b'"' * 60_000, b"\\" * 60_000, b'"a' * 30_000],
)
def test_every_byte_of_an_array_is_looked_at_a_bounded_number_of_times(body, monkeypatch):
    looks = 0

    class Counting:
        def __init__(self, pattern):
            self._pattern = pattern

        def match(self, chunk, at):
            nonlocal looks
            found = self._pattern.match(chunk, at)
            looks += found.end() - at + 1
            return found

    for name in ("_FLAT", "_DEEP", "_INSIDE"):
        monkeypatch.setattr(framing, name, Counting(getattr(framing, name)))
    elements = Elements(1 << 20)
    for start in range(0, len(body), 7):
        list(elements.feed((b"[" if not start else b"") + body[start : start + 7]))
    assert looks <= 3 * len(body)


def test_an_element_that_no_reader_would_take_for_its_depth_is_no_element():
    with pytest.raises(NoArrayError):
        elements_of([b"[" * 2000], 1 << 20)
    assert [b"[" * 500 + b"]" * 500] == elements_of([b"[" * 501 + b"]" * 501], 1 << 20)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and not line.endswith(b"\r")), min_size=1), _places)
def test_lines_are_the_same_however_they_come(lines, places):
    body = b"\n".join(lines)
    assert lines == lines_of(cut(body, places))
